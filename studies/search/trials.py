"""Search settings with Optuna, without anomaly labels, and go on where a search was cut off."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from ad.progress import progress_bar
from studies.search.space import Choice, Space, choice_from

STARTUP = 10  # trials before the sampler learns; Optuna's default


def signature(parts: Mapping[str, object], sources: Sequence[Path]) -> str:
    """Name a search by all that its objective depends on: values, and the code that computes it.

    A journal may hold several searches; one that was made otherwise is never continued.
    """
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Tried:
    """A configuration and what the search knows of it: AUROC by kind of synthetic anomaly."""

    choice: Choice
    value: float
    kinds: dict[str, float]


def _complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def open_study(journal: Path, name: str) -> optuna.Study:
    """Create a search in Optuna's journal file, or open it again."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The default lock is a symbolic link, which Windows gives to administrators only.
    lock = JournalFileOpenLock(str(journal))
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=lock)),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
    )
    # Cut off: neither good nor bad, and not waited for.
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def run_search(
    journal: Path,
    name: str,
    objective: Callable[[Choice], dict[str, float]],
    space: Space,
    *,
    trials: int,
    seed: int,
    progress: bool = True,
) -> list[Tried]:
    """Try configurations until so many are complete, those of earlier runs included.

    The default comes first.  Each later one is asked of a tree-structured Parzen estimator
    (Bergstra et al., NeurIPS 2011) that is seeded with the number of complete trials, so a search
    that was cut off and continued makes the same trials as one that was not.

    Parameters
    ----------
    journal : path
        Optuna's journal file; it is created, or continued.
    name : str
        See `signature`.
    objective : callable
        Gives AUROC for each kind of synthetic anomaly; their mean is maximised.
    space : Space
    trials : int
        Complete trials in all.  More than before continues; fewer returns the first ones.
    seed : int

    Returns
    -------
    list of Tried
        In the order of trials.
    """
    study, distributions = open_study(journal, name), space.distributions()
    done = len(_complete(study))
    with progress_bar(trials, "search", "trial", show=progress) as bar:
        bar.update(min(done, trials))
        for number in range(done, trials):
            if number == 0:
                kinds = objective(space.default)
                study.add_trial(
                    optuna.trial.create_trial(
                        params=asdict(space.default),
                        distributions=distributions,
                        value=float(np.mean(list(kinds.values()))),
                        user_attrs={"kinds": kinds},
                    )
                )
            else:
                study.sampler = optuna.samplers.TPESampler(
                    seed=(seed + number) % 2**32, n_startup_trials=STARTUP, constant_liar=False
                )
                trial = study.ask(distributions)
                kinds = objective(choice_from(trial.params))
                trial.set_user_attr("kinds", kinds)
                study.tell(trial, float(np.mean(list(kinds.values()))))
            bar.update(1)
    return [
        Tried(choice_from(trial.params), float(trial.value), trial.user_attrs["kinds"])
        for trial in _complete(study)[:trials]
    ]

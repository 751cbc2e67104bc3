"""Search settings with Optuna, without anomaly labels, and go on where a search was cut off."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from PIL import Image
from torch import nn

from ad.backbone import resolve_layers
from ad.metrics import image_auroc
from ad.params import Coreset, Score
from ad.progress import progress_bar
from ad.protocol import BankImages, Protocol, score_in_parts, select_coresets
from studies.search.maps import MapCache

STARTUP = 10  # trials before the sampler learns; Optuna's default


@dataclass(frozen=True)
class Choice:
    """One configuration."""

    image_size: int
    layers: str  # joined with +
    patch_size: int
    ratio: float
    num_neighbors: int
    reweight: bool

    def layer_list(self) -> list[str]:
        """Return the layers' names."""
        return self.layers.split("+")


def named_layers(model: nn.Module, layers: Sequence[str | int], *, setting: str) -> str:
    """Write layers, by their names, as one word: the value of a category.

    Parameters
    ----------
    model : nn.Module
        A timm network; stage numbers become the names that it has for them.
    layers : sequence of str or int
    setting : str
        The parameter that lists them, for the message of an error.
    """
    try:
        return "+".join(layer.name for layer in resolve_layers(model, layers))
    except ValueError as error:
        raise ValueError(str(error).replace("backbone.layers", setting)) from None


@dataclass(frozen=True)
class Space:
    """What may be chosen; ranges are inclusive."""

    image_sizes: tuple[int, ...]
    layers: tuple[str, ...]
    patch_sizes: tuple[int, ...]
    ratio: tuple[float, float]
    num_neighbors: tuple[int, int]

    def including(self, choice: Choice) -> "Space":
        """Widen the space so that a choice lies in it."""

        def with_value(values: tuple, value: object) -> tuple:
            return values if value in values else (*values, value)

        (low, high), (few, many) = self.ratio, self.num_neighbors
        return replace(
            self,
            image_sizes=with_value(self.image_sizes, choice.image_size),
            layers=with_value(self.layers, choice.layers),
            patch_sizes=with_value(self.patch_sizes, choice.patch_size),
            ratio=(min(low, choice.ratio), max(high, choice.ratio)),
            num_neighbors=(min(few, choice.num_neighbors), max(many, choice.num_neighbors)),
        )

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's description of the space."""
        return {
            "image_size": CategoricalDistribution(self.image_sizes),
            "layers": CategoricalDistribution(self.layers),
            "patch_size": CategoricalDistribution(self.patch_sizes),
            "ratio": FloatDistribution(*self.ratio, log=True),
            "num_neighbors": IntDistribution(*self.num_neighbors),
            "reweight": CategoricalDistribution((False, True)),
        }


def choice_from(params: Mapping[str, object]) -> Choice:
    """Make a choice of a trial's values.  With one neighbour nothing can be re-weighted (eq. 7)."""
    choice = Choice(**params)
    return replace(choice, reweight=choice.reweight and choice.num_neighbors > 1)


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


def run_search(
    journal: Path,
    name: str,
    objective: Callable[[Choice], dict[str, float]],
    space: Space,
    default: Choice,
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
    default : Choice
        Inside the space.
    trials : int
        Complete trials in all.  More than before continues; fewer returns the first ones.
    seed : int

    Returns
    -------
    list of Tried
        In the order of trials.
    """
    journal.parent.mkdir(parents=True, exist_ok=True)
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
    distributions = space.distributions()
    done = len(_complete(study))
    with progress_bar(trials, "search", "trial", show=progress) as bar:
        bar.update(min(done, trials))
        for number in range(done, trials):
            if number == 0:
                kinds = objective(default)
                study.add_trial(
                    optuna.trial.create_trial(
                        params=asdict(default),
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


def square_pixels(image: Image.Image, *, resize: int | None) -> np.ndarray:
    """Make an image square, so that `ad.images.resize_and_crop` then gives what it gave before.

    Without ``resize`` it is stretched, as straight resizing does; with it the centre is kept.

    Returns
    -------
    array of uint8, shape (side, side, 3)
        ``side`` is the shorter one.
    """
    width, height = image.size
    side = min(width, height)
    if resize is None:
        square = image.resize((side, side), Image.Resampling.BILINEAR)
    else:
        left, top = (width - side) // 2, (height - side) // 2
        square = image.crop((left, top, left + side, top + side))
    return np.asarray(square)


def split_normals(n_train: int, n_drawn: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw normals; hold out every third of them.

    Returns
    -------
    fit, held_out : arrays of int
        Image numbers, both in the order of the list.
    """
    generator = np.random.default_rng(seed)
    drawn = np.sort(generator.choice(n_train, min(n_drawn, n_train), replace=False))
    third = np.arange(len(drawn)) % 3 == 2
    return drawn[~third], drawn[third]


def score_choice(
    cache: MapCache,
    choice: Choice,
    fit: np.ndarray,
    scored: np.ndarray,
    *,
    projection_dim: int | None,
    squared: bool,
    seed: int,
) -> np.ndarray:
    """Draw one bank as a choice says, and score images against it.

    Parameters
    ----------
    fit, scored : arrays of int
        Rows of the cache.

    Returns
    -------
    array of float64, shape (n_scored,)
    """
    how = {
        "size": choice.image_size,
        "layers": choice.layer_list(),
        "patch_size": choice.patch_size,
    }
    score = Score(num_neighbors=choice.num_neighbors, squared=squared, reweight=choice.reweight)
    coreset = Coreset(ratio=choice.ratio, projection_dim=projection_dim)
    normals, everyone = cache.features(fit, **how), np.arange(len(fit))
    images = BankImages([normals], everyone)
    (rows,) = select_coresets(images, [everyone], Protocol(coreset, score, seed))
    return score_in_parts(cache.features(scored, **how), images.take(rows), score).images


def synthetic_aurocs(normal: np.ndarray, synthetic: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return AUROC of each kind of synthetic anomaly against held-out normals."""
    return {
        kind: image_auroc(np.repeat([0, 1], [len(normal), len(own)]), np.concatenate([normal, own]))
        for kind, own in synthetic.items()
    }


def differences_to_best(
    normal: np.ndarray, synthetic: np.ndarray, *, seed: int, repeats: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """Say how far each trial lies below the best one, and how well that is known.

    Held-out images are drawn again, each with its synthetic anomalies, the same ones for every
    trial.  The best of many is best by luck too, and no resampling of images shows that part.

    Parameters
    ----------
    normal : array of float, shape (n_trials, n_images)
        Scores of held-out normals.
    synthetic : array of float, shape (n_trials, n_kinds, n_images)
        Scores of the same images with anomalies of each kind.

    Returns
    -------
    differences, errors : arrays of float, shape (n_trials,)
        Objective of the best minus the trial's own, and the standard error of that; 0 for the best.
    """
    n_images = normal.shape[1]

    def objectives(images: np.ndarray) -> np.ndarray:
        # Mean AUROC of the kinds: an anomalous score above a normal one counts 1, an equal one 1/2.
        own, pasted = normal[:, None, :, None][:, :, images], synthetic[:, :, None, images]
        return ((pasted > own) + 0.5 * (pasted == own)).mean(axis=(1, 2, 3))

    generator = np.random.default_rng(seed)
    values = objectives(np.arange(n_images))
    best = int(values.argmax())
    drawn = np.stack(
        [objectives(generator.integers(0, n_images, n_images)) for _ in range(repeats)]
    )
    return values[best] - values, (drawn[:, [best]] - drawn).std(axis=0, ddof=1)

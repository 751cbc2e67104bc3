"""A search that is cut off and continued is the search that was not."""

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from studies.search import trials as study
from studies.search.space import Choice, Space

DEFAULT = Choice(224, "layer2+layer3", 3, 0.01, 5, False)
SPACE = Space(
    DEFAULT,
    (160, 224),
    ("layer2", "layer3", "layer2+layer3"),
    (1, 3, 5),
    (0.002, 0.05),
    (1, 9),
)


def quality(choice: Choice) -> dict[str, float]:
    """Return a smooth made-up objective with one best place."""
    near = -(np.log10(choice.ratio / 0.02) ** 2) - 0.01 * (choice.num_neighbors - 4) ** 2
    return {"a": 0.9 + 0.1 * near + 0.02 * (choice.layers == "layer3"), "b": 0.8 + 0.1 * near}


class Cut(Exception):
    """The power goes."""


def search(journal: Path, trials: int, *, objective=quality, name="s", seed=0) -> list[study.Tried]:
    return study.run_search(
        journal, name, objective, SPACE, trials=trials, seed=seed, progress=False
    )


@pytest.mark.parametrize("stops", [(0,), (1,), (3, 3, 12), (11, 13)])
def test_a_search_cut_off_and_continued_is_the_whole_one(stops: tuple, tmp_path: Path):
    whole = search(tmp_path / "whole.log", 16)
    for stop in stops:
        calls = []

        def until(choice: Choice, stop: int = stop, calls: list = calls) -> dict[str, float]:
            done = len(list(states(tmp_path / "cut.log", TrialState.COMPLETE)))
            calls.append(choice)
            if done == stop:
                raise Cut
            return quality(choice)

        with pytest.raises(Cut):
            search(tmp_path / "cut.log", 16, objective=until)
    assert search(tmp_path / "cut.log", 16) == whole
    assert list(states(tmp_path / "cut.log", TrialState.RUNNING)) == []


def states(journal: Path, state: TrialState) -> list:
    found = optuna.load_study(
        storage=JournalStorage(JournalFileBackend(str(journal))), study_name="s"
    )
    return found.get_trials(deepcopy=False, states=(state,))


def test_a_finished_search_is_not_run_again_and_may_be_lengthened(tmp_path: Path):
    journal = tmp_path / "journal.log"
    first = search(journal, 6)

    def never(choice: Choice) -> dict[str, float]:
        raise AssertionError(f"{choice} was tried again")

    assert search(journal, 6, objective=never) == first
    assert search(journal, 4, objective=never) == first[:4]
    longer = search(journal, 13)
    assert longer[:6] == first and len(longer) == 13
    assert longer == search(tmp_path / "other.log", 13)


def test_trials_start_with_the_default_and_stay_in_the_space(tmp_path: Path):
    tried = search(tmp_path / "journal.log", 20)
    assert tried[0].choice == DEFAULT
    for each in tried:
        assert each.value == pytest.approx(np.mean(list(each.kinds.values())))
        assert each.kinds == pytest.approx(quality(each.choice))
        assert each.choice.layers in SPACE.layers and each.choice.image_size in SPACE.image_sizes
        assert SPACE.ratio[0] <= each.choice.ratio <= SPACE.ratio[1]
        assert not (each.choice.reweight and each.choice.num_neighbors == 1)
    assert len({each.choice for each in tried}) > 15


def test_the_sampler_learns(tmp_path: Path):
    values = [each.value for each in search(tmp_path / "journal.log", 30)]
    assert np.mean(values[20:]) > np.mean(values[: study.STARTUP])


def test_searches_of_another_name_or_seed_are_others(tmp_path: Path):
    journal = tmp_path / "journal.log"
    first = search(journal, 4)
    other = search(journal, 4, name="t", seed=1)
    assert [each.choice for each in other[1:]] != [each.choice for each in first[1:]]
    assert search(journal, 4) == first


def test_signature_changes_with_values_and_code(tmp_path: Path):
    code = tmp_path / "code.py"
    code.write_text("a")
    first = study.signature({"x": 1, "y": [2]}, [code])
    assert first == study.signature({"y": [2], "x": 1}, [code])
    assert first != study.signature({"x": 1, "y": [3]}, [code])
    code.write_text("b")
    assert first != study.signature({"x": 1, "y": [2]}, [code])

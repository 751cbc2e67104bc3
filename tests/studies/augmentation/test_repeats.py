"""Repeats are disjoint, copies come from the right images, and a planted departure is caught."""

import numpy as np
import pytest
from scipy.stats import binom

from ad.params import Coreset, Score
from ad.protocol import Protocol
from studies.augmentation import repeats as study

PROTOCOL = Protocol(Coreset(ratio=0.1), Score(num_neighbors=2, squared=False), 0)


def features(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, 3, 5)).astype(np.float32)


@pytest.mark.parametrize(("n", "repeats"), [(30, 3), (31, 5), (40, 8)])
def test_unseen_parts_are_disjoint_and_never_in_the_rest(n: int, repeats: int):
    parts = study.outer_parts(n, repeats, seed=3)
    assert len(parts) == repeats
    unseen = np.concatenate([part for _, part in parts])
    assert len(set(unseen)) == len(unseen)
    for rest, part in parts:
        assert sorted([*rest, *part]) == list(range(n))


def repeats(shift: float) -> list[study.Run]:
    normals, test = features(40, 0), features(6, 1)

    def changed(numbers: np.ndarray, kind: str, own_seed: int) -> np.ndarray:
        moved = np.full(5, shift if kind == "far" else 0.0, dtype=np.float32)
        return normals[numbers] + moved

    return study.run_repeats(
        normals,
        test,
        ["far", "same"],
        changed,
        PROTOCOL,
        study.Repeats(3, 2, 12),
    )


def test_a_change_that_leaves_the_normal_set_is_caught_and_copies_hide_it():
    runs = repeats(30.0)
    assert [(run.repeat, run.kind) for run in runs] == [
        (repeat, kind) for repeat in range(3) for kind in (study.PLAIN, "far", "same")
    ]
    far, same = study.departures(runs, ["far", "same"])
    assert far.n_images == 24 and far.before == 24
    assert far.after < far.before / 2
    assert far.leaves(1e-4) and far.hides(1e-2)
    assert same.before == same.plain and same.p_leaves == 1.0 and not same.leaves(0.05)


def test_an_unchanged_copy_changes_no_unseen_score():
    runs = repeats(0.0)
    for run in runs:
        for scores in run.changed.values():
            np.testing.assert_array_equal(scores, run.unseen)
        assert len(run.test) == 6


def test_the_test_on_images_whose_flag_differs_by_hand():
    # 1 image flagged only unchanged, 6 only changed, 1 both, 2 neither.
    plain = np.array([1, 0, 0, 0, 0, 0, 0, 1, 0, 0], dtype=float)
    changed = np.array([0, 1, 1, 1, 1, 1, 1, 1, 0, 0], dtype=float)
    runs = [
        study.Run(0, study.PLAIN, 0.5, plain, np.empty(0), {"turn": changed}),
        study.Run(0, "turn", 0.5, plain, np.empty(0), {"turn": np.zeros(10)}),
    ]
    (found,) = study.departures(runs, ["turn"])
    assert (found.plain, found.before, found.after, found.n_images) == (2, 7, 0, 10)
    assert found.p_leaves == pytest.approx(binom.sf(5, 7, 0.5))
    assert found.p_hidden == pytest.approx(0.5**7)
    assert found.leaves(0.1) and not found.leaves(0.05)
    assert found.hides(0.1) and not found.hides(0.05)


def test_what_copies_do_not_hide_is_not_said_to_be_hidden():
    changed = np.ones(20)
    runs = [
        study.Run(0, study.PLAIN, 0.5, np.zeros(20), np.empty(0), {"turn": changed}),
        study.Run(0, "turn", 0.5, np.zeros(20), np.empty(0), {"turn": changed}),
    ]
    (found,) = study.departures(runs, ["turn"])
    assert found.leaves(0.01) and not found.hides(0.5)

"""Effects against the interval of the images alone, and against a known variance of repeats."""

import numpy as np
import pytest
from scipy.stats import beta, norm

from ad.metrics import f1_score, image_auroc
from studies.augmentation import effects as study
from studies.augmentation.repeats import PLAIN, Run
from studies.shared.uncertainty import auroc_difference, pair_wins

LABELS = np.repeat([1, 0], [40, 60])


def noisy(shift: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=100) + shift * LABELS


def test_equal_repeats_leave_the_interval_of_the_images():
    first, second = noisy(1.0, 0), noisy(1.5, 1)
    scores = {PLAIN: np.stack([first] * 3), "turn": np.stack([second] * 3)}
    (found,) = study.effects(LABELS, scores, [("turn", PLAIN)], seed=0)
    expected = auroc_difference(LABELS, first, second, seed=1, repeats=8000)
    np.testing.assert_allclose((found.change, found.low, found.high), expected, atol=0.012)


def test_bonferroni_widens_as_the_normal_law_would():
    scores = {name: np.stack([noisy(1.0, n)] * 3) for n, name in enumerate((PLAIN, "a", "b"))}
    alone = study.effects(LABELS, scores, [("a", PLAIN)], seed=0)[0]
    pairs = [("a", PLAIN), ("b", PLAIN), ("b", "a"), ("a", "b"), (PLAIN, "a")]
    together = study.effects(LABELS, scores, pairs, seed=0)[0]
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert together.change == alone.change
    assert ratio == pytest.approx(norm.isf(0.005) / norm.isf(0.025), rel=0.06)


def test_the_variance_of_repeats_is_the_sample_s():
    # Images that hardly vary: what is left is the standard error of the mean over repeats.
    labels = np.repeat([1, 0], [400, 400])
    place = np.random.default_rng(0).permutation(400) / 400
    runs, shares = [], (0.02, 0.05, 0.12, 0.09, 0.03)
    for share in shares:  # so many of the anomalous lie below all normals
        runs.append(np.concatenate([np.where(place < share, -1.0, 2.0), place]))
    scores = {
        PLAIN: np.stack([np.concatenate([np.full(400, 2.0), place])] * 5),
        "a": np.stack(runs),
    }
    found = study.effects(labels, scores, [("a", PLAIN)], seed=0)[0]
    assert found.change == pytest.approx(-np.mean(shares), abs=1e-9)
    error = np.std(shares, ddof=1) / np.sqrt(5)
    images = np.sqrt(np.mean(shares) * (1 - np.mean(shares)) / 400)
    width = (found.high - found.low) / (2 * norm.isf(0.025))
    assert width == pytest.approx(np.hypot(error, images), rel=0.15)


def test_one_certain_order_does_not_collapse_the_interval():
    scores = {name: np.stack([LABELS + 0.0] * 3) for name in (PLAIN, "a")}
    found = study.effects(LABELS, scores, [("a", PLAIN)], seed=0)[0]
    bound = beta.ppf(0.975, 0.5, 40.5)
    assert (found.change, found.low, found.high) == pytest.approx((0, -bound, bound))
    assert found.sure == 0 and not found.moved
    assert study.defect_rows([found]) == [{"defect": "", "a": "unchanged"}]


def test_groups_are_laid_beside_all_normals():
    defects = [*["bent"] * 10, *[None] * 30, *[None] * 60]
    groups = study.defect_groups(defects, LABELS)
    assert {name: int(own.sum()) for name, own in groups.items()} == {"bent": 10, "unnamed": 30}
    scores = {PLAIN: np.stack([noisy(0.0, n) for n in range(3)])}
    scores["a"] = scores[PLAIN] + 3.0 * groups["bent"]
    bent, rest = study.effects(LABELS, scores, [("a", PLAIN)], groups, seed=0)
    part = groups["bent"] | (LABELS == 0)
    expected = np.mean(
        [
            image_auroc(LABELS[part], b[part]) - image_auroc(LABELS[part], a[part])
            for a, b in zip(scores[PLAIN], scores["a"], strict=True)
        ]
    )
    assert bent.group == "bent" and bent.change == pytest.approx(expected) and bent.sure == 1
    assert rest.change == 0.0 and rest.sure == 0
    bent_row, rest_row = study.defect_rows([bent, rest])
    assert bent_row["a"].endswith("*") and rest_row["a"] == "unchanged"
    assert pair_wins(LABELS, noisy(1.0, 0)).shape == (40, 60)


def runs() -> list[Run]:
    scores = np.array([3.0, 1.0, 0.0, 2.0])
    return [Run(r, kind, 1.5, scores[:3], scores) for r in range(2) for kind in (PLAIN, "turn")]


def test_rows_of_runs_by_hand():
    labels = np.array([1, 1, 0, 0])
    first = study.run_rows(runs(), labels)[0]
    assert (first["false_alarms"], first["unseen_normals"], first["flagged"]) == (1, 3, 2)
    assert first["f1"] == f1_score(labels, np.array([1, 0, 0, 1])) == 0.5
    assert first["image_auroc"] == 0.75
    plain, turn = study.kind_rows(study.run_rows(runs(), labels))
    assert plain["image AUROC"] == "0.750 ± 0.000" and turn["false alarms"].startswith("2 of 6 (")


def test_without_labels_there_is_no_quality():
    row = study.kind_rows(study.run_rows(runs(), None))[0]
    assert row["image AUROC"] is None and row["F1"] is None
    only_normal = study.run_rows(runs(), np.zeros(4, dtype=int))[0]
    assert only_normal["image_auroc"] is None and only_normal["f1"] == 0.0


def test_each_kind_is_compared_with_none_and_with_the_control():
    pairs = study.comparisons(["a", "b", "control"], "control")
    assert pairs == [
        ("a", PLAIN),
        ("b", PLAIN),
        ("control", PLAIN),
        ("a", "control"),
        ("b", "control"),
    ]

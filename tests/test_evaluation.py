"""Quality figures, against scikit-learn, brute force in float64, and cases worked out by hand."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import label
from sklearn import metrics as reference

from ad.data import ImageRecord
from ad.evaluation import (
    aupro,
    average_precision,
    bootstrap,
    by_defect,
    choose_examples,
    confusion,
    f1_score,
    image_auroc,
    in_words,
    oracle_f1,
    pixel_quality,
    score_table,
    summarise,
)


def drawn(n: int, *, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw labels of both classes, scores that follow them loosely, and flags."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n) % 3 == 0).astype(int)
    scores = labels + generator.normal(0, 1, n)
    if ties:
        scores = np.round(scores)
    return labels, scores, scores > 0.7


# Image level


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns(ties: bool):
    labels, scores, _ = drawn(200, seed=3, ties=ties)
    expected = reference.average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("flagged", ["by score", "none", "all"])
@pytest.mark.parametrize("labelled", ["both", "normal", "anomalous"])
def test_counts_and_f1_equal_scikit_learns(labelled: str, flagged: str):
    labels, _, flags = drawn(40, seed=0)
    labels = {"both": labels, "normal": 0 * labels, "anomalous": 0 * labels + 1}[labelled]
    flags = {"by score": flags, "none": 0 * flags, "all": 0 * flags + 1}[flagged]
    table = confusion(labels, flags)
    expected = reference.confusion_matrix(labels, flags, labels=[0, 1])
    assert [[table.true_negative, table.false_positive],
            [table.false_negative, table.true_positive]] == expected.tolist()  # fmt: skip
    expected = reference.f1_score(labels, flags, zero_division=0)
    assert f1_score(labels, flags) == table.f1 == pytest.approx(expected, abs=1e-15)


def test_labels_and_flags_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        confusion(np.zeros(3), np.zeros(2))


@pytest.mark.parametrize("ties", [False, True])
def test_image_auroc_is_the_share_of_pairs_in_order(ties: bool):
    labels, scores, _ = drawn(60, seed=1, ties=ties)
    difference = scores[labels == 1][:, None] - scores[labels == 0]
    expected = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert image_auroc(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
def test_the_oracle_is_the_best_of_all_thresholds(seed: int, ties: bool):
    labels, scores, flags = drawn(30, seed=seed, ties=ties)
    thresholds = np.append(np.unique(scores), np.inf)
    expected = max(reference.f1_score(labels, scores >= t, zero_division=0) for t in thresholds)
    best = oracle_f1(labels, scores)
    assert best == pytest.approx(expected, abs=1e-12)
    assert best >= f1_score(labels, flags)


# The bootstrap


def test_the_interval_is_that_of_images_drawn_again_class_by_class():
    labels = np.repeat([1, 0], [40, 60])
    flags = np.concatenate([np.arange(40) < 31, np.arange(60) < 8])
    generator = np.random.default_rng(5)
    values = []
    for _ in range(4000):  # a class's flagged images are a binomial count
        hits, alarms = generator.binomial(40, 31 / 40), generator.binomial(60, 8 / 60)
        values.append(2 * hits / (hits + alarms + 40))
    for level in (0.95, 0.5):
        ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        found = bootstrap(f1_score, labels, flags, seed=0, level=level, repeats=4000)
        np.testing.assert_allclose(found, ends, atol=0.015)


def test_the_interval_depends_on_its_seed_alone():
    labels, scores, _ = drawn(50, seed=0)
    first = bootstrap(image_auroc, labels, scores, seed=3, repeats=200)
    assert bootstrap(image_auroc, labels, scores, seed=3, repeats=200) == first
    assert bootstrap(image_auroc, labels, scores, seed=4, repeats=200) != first


def test_the_interval_of_labels_of_one_class():
    assert bootstrap(f1_score, np.ones(9), np.zeros(9), seed=0, repeats=50) == (0, 0)


# A run's figures


def records(labels: list[int | None], defects: list[str | None] | None = None) -> list[ImageRecord]:
    defects = defects or [None if label == 0 else "cut" for label in labels]
    return [
        ImageRecord(f"test/{n}", f"test/{n}.png", "test", label, defect, None)
        for n, (label, defect) in enumerate(zip(labels, defects, strict=True))
    ]


def test_a_summary_by_hand():
    scores = np.array([0.1, 0.9, 0.5, 0.3, 0.4, 0.2])
    table = score_table(records([0, 1, 0, 1, 1, 0]), scores, 0.35)
    found = summarise(table, 0.35, seed=0)
    # Flagged are 0.9, 0.5 and 0.4: two right, one false alarm, one missed.
    assert found["f1"] == pytest.approx(4 / 6)
    assert found["image_auroc"] == pytest.approx((3 + 2 + 2) / 9)
    assert found["n_flagged"] == 3
    assert found["f1_low"] <= found["f1"] <= found["f1_high"]
    assert found["oracle_f1"] == pytest.approx(6 / 7)  # 0.3 and more: one false alarm
    shown = in_words(found).set_index("figure")
    row = shown.loc["F1 at the protocol's threshold"]
    assert row["value"] == found["f1"]
    assert row["95 % interval"] == f"{found['f1_low']:.3f} to {found['f1_high']:.3f}"


def test_images_of_unknown_label_are_scored_and_never_counted():
    scores = np.array([0.1, 0.9, 0.8])
    found = summarise(score_table(records([0, 1, None]), scores, 0.5), 0.5, seed=0)
    assert (found["n_test"], found["n_flagged"], found["f1"]) == (3, 2, 1.0)
    assert found["false_positive"] == 0
    unlabelled = summarise(score_table(records([None] * 3), scores, 0.5), 0.5, seed=0)
    assert unlabelled == {"n_test": 3, "n_flagged": 2, "threshold": 0.5}


@pytest.mark.parametrize(("labels", "missing"), [([0, 0], "f1"), ([1, 1], "image_auroc")])
def test_what_labels_of_one_class_cannot_give_is_left_out(labels: list[int], missing: str):
    found = summarise(score_table(records(labels), np.array([0.2, 0.8]), 0.5), 0.5, seed=0)
    assert missing not in found
    assert found["true_positive"] + found["false_positive"] == 1


def test_a_set_without_test_images():
    table = score_table([], np.empty(0), 1.0)
    assert summarise(table, 1.0, seed=0) == {"n_test": 0, "n_flagged": 0, "threshold": 1.0}
    assert choose_examples(table, 1.0) == {}


def test_by_defect_by_hand():
    scores = np.array([0.1, 0.9, 0.5, 0.3, 0.4, 0.2])
    kinds = [None, "bent", None, "cut", "bent", "doubtful"]
    rows = by_defect(score_table(records([0, 1, 0, 1, 1, None], kinds), scores, 0.35))
    # Normal are 0.1 and 0.5. bent: 0.9 above both, 0.4 above one; the others above one of two.
    assert rows["kind"].tolist() == ["bent", "cut", "doubtful", "good"]
    assert rows["images"].tolist() == [2, 1, 1, 2]
    assert rows["flagged"].tolist() == [2, 0, 0, 1]
    np.testing.assert_allclose(rows["image AUROC"], [3 / 4, 1 / 2, 1 / 2, np.nan])


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0], [1], [None, None], [0, 1, None] * 5])
def test_examples_are_different_images_and_the_worst_error_is_among_them(labels):
    scores = np.random.default_rng(len(labels)).random(len(labels))
    chosen = choose_examples(score_table(records(labels), scores, 0.5), 0.5)
    assert len(set(chosen.values())) == len(chosen) > 0
    wrong = [n for n, label in enumerate(labels) if label == 0 and scores[n] > 0.5]
    if wrong:
        assert chosen["worst false alarm"] == max(wrong, key=lambda n: scores[n])


# Pixel level


def test_pixel_auroc_and_aupro_by_hand():
    # Two regions, of 2 and of 1 pixels, and 13 normal ones.
    mask = np.zeros((1, 4, 4), dtype=bool)
    mask[0, 0, :2] = mask[0, 3, 3] = True
    scores = np.zeros((1, 4, 4))
    scores[0, 0, 0], scores[0, 1, 1], scores[0, 3, 3], scores[0, 2, 2] = 9, 8, 7, 6
    # AUROC over 3 x 13 pairs: 9 beats 13; 7 beats 12; the last, at 0, ties with 11 and loses to 2.
    assert image_auroc(mask, scores) == pytest.approx((13 + 12 + 5.5) / 39)
    # Overlap over false-positive rate: (0, 0), (0, 1/4), (1/13, 1/4), (1/13, 3/4), (2/13, 3/4),
    # (1, 1); up to 2/13: 1/13 * 1/4 + 1/13 * 3/4.
    assert aupro(mask, scores, max_fpr=2 / 13) == pytest.approx(0.5)
    # Up to 0.3 the last line is cut at 3/4 + 1/4 * (0.3 - 2/13) / (11/13).
    cut = 0.75 + 0.25 * (0.3 - 2 / 13) / (11 / 13)
    area = 1 / 13 + (0.3 - 2 / 13) * (0.75 + cut) / 2
    assert aupro(mask, scores) == pytest.approx(area / 0.3)
    whole = 1 / 13 + 11 / 13 * (0.75 + 1) / 2
    assert aupro(mask, scores, max_fpr=1.0) == pytest.approx(whole)


def swept_aupro(masks: np.ndarray, maps: np.ndarray, max_fpr: float) -> float:
    """Sweep every threshold, region by region: slow and plain."""
    regions = []
    for number, mask in enumerate(masks):
        numbered, count = label(mask, structure=np.ones((3, 3)))  # corners join
        regions += [(number, numbered == region) for region in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        overlap = np.mean([found[number][region].mean() for number, region in regions])
        points.append((found[~masks].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= max_fpr or x1 == x0:
            continue
        end = min(x1, max_fpr)
        at_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + at_end) / 2
    return area / max_fpr


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [4, 1000])
@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
def test_aupro_equals_a_plain_sweep(seed: int, levels: int, max_fpr: float):
    generator = np.random.default_rng(seed)
    masks = generator.random((3, 12, 12)) < 0.08
    masks[0] = False  # a normal image
    maps = np.round(levels * (masks * 0.5 + generator.random(masks.shape))) / levels
    expected = swept_aupro(masks, maps, max_fpr)
    assert aupro(masks, maps, max_fpr=max_fpr) == pytest.approx(expected, abs=1e-12)


def test_pixels_of_unknown_images_and_of_ignored_patches_do_not_count():
    generator = np.random.default_rng(0)
    masks = generator.random((3, 8, 8)) < 0.2
    maps = masks + generator.random(masks.shape)
    maps[2], maps[:, :, :4] = 9, 0  # an unlabelled image, and the ignored half of all
    ignored = np.array([[True, False]] * 2)
    found = pixel_quality(masks, maps, known=np.array([True, True, False]), ignored=ignored)
    counted = masks[:2, :, 4:], maps[:2, :, 4:]
    assert found["pixel_auroc"] == image_auroc(*counted)
    assert found["aupro"] == pytest.approx(swept_aupro(*counted, 0.3))


@pytest.mark.parametrize("value", [False, True])
def test_aupro_without_defects_or_without_normal_pixels(value: bool):
    masks = np.full((1, 4, 4), value)
    with pytest.raises(ValueError, match="AUPRO needs defect regions and normal pixels"):
        aupro(masks, np.zeros((1, 4, 4)))

"""Image-level and pixel-level quality, with the uncertainty of the small test set."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label as connected_components
from sklearn.metrics import precision_recall_curve


@dataclass(frozen=True)
class Confusion:
    """Counts of a confusion table; anomalous is the positive class."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 0 where nothing is anomalous and nothing flagged."""
        denominator = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / denominator if denominator else 0.0


def confusion(labels: np.ndarray, flags: np.ndarray) -> Confusion:
    """Count a confusion table.

    Parameters
    ----------
    labels, flags : arrays, shape (n_images,)
        1 or True for anomalous and for flagged.
    """
    labels, flags = np.asarray(labels, dtype=bool), np.asarray(flags, dtype=bool)
    if labels.shape != flags.shape:
        raise ValueError(f"labels {labels.shape} and flags {flags.shape} differ in shape")
    return Confusion(
        int(np.sum(labels & flags)),
        int(np.sum(~labels & flags)),
        int(np.sum(labels & ~flags)),
        int(np.sum(~labels & ~flags)),
    )


def f1_score(labels: np.ndarray, flags: np.ndarray) -> float:
    """Return F1 of the anomalous class."""
    return confusion(labels, flags).f1


def both_classes(labels: np.ndarray) -> bool:
    """Tell whether labels hold normal and anomalous images, as AUROC needs."""
    return len(np.unique(labels)) == 2


def image_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve: the share of pairs in the right order, ties half.

    Counts of pairs are exact, so it is one division, the same everywhere.

    Parameters
    ----------
    labels, scores : arrays of one shape
        Of images, or of their pixels; 1 or True for anomalous.
    """
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores)
    positive, negative = scores[labels], np.sort(scores[~labels])
    if not (positive.size and negative.size):
        n = labels.size
        raise ValueError(f"AUROC needs both classes; {positive.size} of {n} are anomalous")
    # Those below, and those below or equal: a pair in order counts twice, a tie once.
    twice = sum(int(negative.searchsorted(positive, side).sum()) for side in ("left", "right"))
    return twice / (2 * positive.size * negative.size)


def oracle_f1(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Return the best F1 of any threshold, and that threshold; it looks at the test labels.

    An image is flagged if its score is at least the threshold returned.
    """
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(np.argmax(f1[:-1]))
    threshold = float(thresholds[best])
    # From counts, as F1 elsewhere: the best of all must not be below another by rounding.
    return f1_score(labels, scores >= threshold), threshold


def _drawn(generator: np.random.Generator, n: int, repeats: int, flagged: int) -> np.ndarray:
    """Draw n images with replacement and count the flagged ones, by whole numbers alone."""
    return (generator.integers(max(n, 1), size=(repeats, n)) < flagged).sum(axis=1)


def bootstrap_interval(
    labels: np.ndarray,
    flags: np.ndarray,
    *,
    seed: int,
    level: float = 0.95,
    repeats: int = 2000,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of F1 over test images.

    Normal and anomalous images are drawn separately, so that their numbers stay; the threshold is
    held fixed, so its own uncertainty is not in it.
    """
    generator = np.random.default_rng(seed)
    labels, flags = np.asarray(labels, dtype=bool), np.asarray(flags, dtype=bool)
    hits, n_anomalous = int(np.sum(flags & labels)), int(np.sum(labels))
    alarms, n_normal = int(np.sum(flags & ~labels)), int(np.sum(~labels))
    # The first images of a class stand for its flagged ones.
    true_positive = _drawn(generator, n_anomalous, repeats, hits)
    false_positive = _drawn(generator, n_normal, repeats, alarms)
    f1 = 2 * true_positive / np.maximum(true_positive + false_positive + n_anomalous, 1)
    low, high = np.quantile(f1, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def aupro(masks: np.ndarray, maps: np.ndarray, *, max_fpr: float = 0.3) -> float:
    """Return the area under the per-region overlap curve up to a false-positive rate.

    The overlap of a threshold is the mean over defect regions (8-connected components) of the
    share of their pixels found; the rate is over all normal pixels.  The area up to ``max_fpr`` is
    divided by ``max_fpr``.  Computed at every distinct score, without a grid of thresholds.

    References
    ----------
    Bergmann et al., *The MVTec Anomaly Detection Dataset*, IJCV 2021, section 5.
    """
    overlap = np.zeros(masks.shape, dtype=np.float64)
    n_regions = 0
    for number, mask in enumerate(masks):
        regions, count = connected_components(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(regions.ravel(), minlength=count + 1)
        overlap[number][mask] = 1.0 / sizes[regions[mask]]
        n_regions += count
    if n_regions == 0 or masks.all():
        raise ValueError(f"AUPRO needs defect regions and normal pixels; got {n_regions} regions")
    order = np.argsort(-maps.ravel(), kind="stable")
    scores = maps.ravel()[order]
    found = np.cumsum(overlap.ravel()[order]) / n_regions
    false = np.cumsum(~masks.ravel()[order]) / np.sum(~masks)
    last = np.append(scores[1:] != scores[:-1], True)  # tied pixels pass a threshold together
    rate = np.concatenate([[0.0], false[last]])
    pro = np.concatenate([[0.0], found[last]])
    after = int(np.searchsorted(rate, max_fpr, side="right"))  # the first rate above
    edge = pro[after - 1]
    if after < len(rate):
        share = (max_fpr - rate[after - 1]) / (rate[after] - rate[after - 1])
        edge = edge + share * (pro[after] - edge)
    rate_in, pro_in = np.append(rate[:after], max_fpr), np.append(pro[:after], edge)
    # fsum rounds once: no order of summands enters.
    return math.fsum(np.diff(rate_in) * (pro_in[1:] + pro_in[:-1]) / 2) / max_fpr

"""Image-level and pixel-level quality, with the uncertainty of the small test set."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ad.data import ImageRecord
from ad.images import InputRule, read_mask


@dataclass(frozen=True)
class Confusion:
    """Counts of a confusion matrix; anomalous is the positive class."""

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
    """Count a confusion matrix.

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


def oracle_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the best F1 of any threshold: it looks at the test labels, as no one can beforehand.

    Parameters
    ----------
    labels, scores : arrays, shape (n_images,)
    """
    thresholds = np.unique(scores)  # flagged from there on
    return max(f1_score(labels, np.asarray(scores) >= each) for each in thresholds)


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return precision at every threshold, weighted by the gain in recall (as scikit-learn's)."""
    labels, ranked = np.asarray(labels, dtype=bool), np.sort(scores)
    cuts = np.unique(ranked)[::-1]  # flagged from there on
    true = labels.sum() - np.sort(np.asarray(scores)[labels]).searchsorted(cuts)
    precision = true / (len(ranked) - ranked.searchsorted(cuts))
    return math.fsum(np.diff(true, prepend=0) * precision) / int(labels.sum())


def bootstrap(
    statistic: Callable[..., float],
    labels: np.ndarray,
    *columns: np.ndarray,
    seed: int,
    level: float = 0.95,
    repeats: int = 2000,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of a statistic over test images.

    Normal and anomalous images are drawn separately, so that their numbers stay.  Thresholds and
    banks are held fixed: their own uncertainty is not in it.

    Parameters
    ----------
    statistic : callable
        Takes labels and columns of the images drawn: ``f1_score`` with flags, ``image_auroc`` with
        scores, or the difference of two columns' AUROC (paired, as both see the same images).
    labels : array, shape (n_images,)
    *columns : arrays, shape (n_images,)
    """
    rng, labels = np.random.default_rng(seed), np.asarray(labels, dtype=bool)
    groups = [rows for v in (False, True) if len(rows := np.flatnonzero(labels == v))]
    found = np.empty(repeats)
    for repeat in range(repeats):
        rows = np.concatenate([own[rng.integers(len(own), size=len(own))] for own in groups])
        found[repeat] = statistic(labels[rows], *(column[rows] for column in columns))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def aupro(
    masks: np.ndarray,
    maps: np.ndarray,
    *,
    max_fpr: float = 0.3,
    ignored: np.ndarray | None = None,
) -> float:
    """Return the area under the per-region overlap curve up to a false-positive rate.

    The overlap of a threshold is the mean over defect regions (8-connected components) of the
    share of their pixels found; the rate is over all normal pixels.  The area up to ``max_fpr`` is
    divided by ``max_fpr``.  Computed at every distinct score, without a grid of thresholds.

    Parameters
    ----------
    masks : array of bool, shape (n_images, height, width)
    maps : array of float, shape (n_images, height, width)
    max_fpr : float
        Right end of the area, above 0 to 1.
    ignored : array of bool, shape (height, width), optional
        Pixels that count on no side.

    References
    ----------
    Bergmann et al., *The MVTec Anomaly Detection Dataset*, IJCV 2021, section 5.
    """
    from scipy.ndimage import label as connected_components

    counted = np.ones(masks.shape[1:], dtype=bool) if ignored is None else ~ignored
    masks = masks.astype(bool) & counted
    overlap = np.zeros(masks.shape, dtype=np.float64)
    n_regions = 0
    for number, mask in enumerate(masks):
        regions, count = connected_components(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(regions.ravel(), minlength=count + 1)
        overlap[number][mask] = 1.0 / sizes[regions[mask]]
        n_regions += count
    overlap, masks, maps = (values[:, counted] for values in (overlap, masks, maps))
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


def score_table(
    records: Sequence[ImageRecord], scores: np.ndarray, threshold: float
) -> pd.DataFrame:
    """Return one row an image: id, label (missing where unknown), defect, score, flagged.

    Parameters
    ----------
    records : sequence of ImageRecord
    scores : array of float64, shape (n_images,)
    threshold : float
        An image is flagged above it.
    """
    return pd.DataFrame(
        {
            "id": [record.id for record in records],
            "label": pd.array([record.label for record in records], dtype="Int64"),
            "defect": [record.defect for record in records],
            "score": scores,
            "flagged": (scores > threshold).astype(int),
        }
    )


def summarise(table: pd.DataFrame, threshold: float, *, seed: int) -> dict[str, float]:
    """Return a run's figures; those that its labels cannot give are left out.

    Images of unknown label count as scored and flagged, and in nothing else.  F1 needs anomalous
    images, AUROC both classes; of normals alone the false alarms are the result.

    Parameters
    ----------
    table : DataFrame
        Of `score_table`.
    threshold : float
    seed : int
        Of the bootstrap intervals (95 %, over images).
    """
    found = {
        "n_test": len(table),
        "n_flagged": int(table["flagged"].sum()),
        "threshold": float(threshold),
    }
    known = table[table["label"].notna()]
    if known.empty:
        return found
    labels, flags = known["label"].to_numpy(dtype=int), known["flagged"].to_numpy()
    scores, counts = known["score"].to_numpy(), confusion(labels, flags)
    found |= asdict(counts)
    if labels.any():
        low, high = bootstrap(f1_score, labels, flags, seed=seed)
        found |= {"f1": counts.f1, "f1_low": low, "f1_high": high}
    if labels.any() and not labels.all():
        low, high = bootstrap(image_auroc, labels, scores, seed=seed)
        found |= {"image_auroc": image_auroc(labels, scores)}
        found |= {"image_auroc_low": low, "image_auroc_high": high}
        found |= {"average_precision": average_precision(labels, scores)}
        found |= {"oracle_f1": oracle_f1(labels, scores)}
    return found


def by_defect(table: pd.DataFrame) -> pd.DataFrame:
    """Return for each kind of anomaly: images, how many are flagged, AUROC against all normals.

    Kinds of unknown label stand in it too, with their mean score beside that of the normals.
    """
    normal, rows = table[table["label"] == 0], []
    names = table["defect"].fillna("unnamed").where(table["label"].ne(0).fillna(True), "good")
    kinds = table.assign(kind=names)
    for kind, own in kinds.groupby("kind", sort=True):
        both = pd.concat([own, normal])
        rows.append(
            {
                "kind": kind,
                "images": len(own),
                "flagged": int(own["flagged"].sum()),
                "mean score": own["score"].mean(),
                "image AUROC": image_auroc(np.arange(len(both)) < len(own), both["score"])
                if kind != "good" and len(normal)
                else np.nan,
            }
        )
    return pd.DataFrame(rows)


def choose_examples(table: pd.DataFrame, threshold: float, *, most: int = 8) -> dict[str, int]:
    """Choose images to show, by row number: the worst errors, a usual one of each kind.

    Without labels: the highest scores, those nearest the threshold, the lowest.
    """
    by_score = table.reset_index(drop=True).sort_values("score", kind="stable")
    known, found = by_score[by_score["label"].notna()], []
    if known.empty:
        nearest = (by_score["score"] - threshold).abs().sort_values(kind="stable").index
        found += [(f"score rank {n}", row) for n, row in enumerate(by_score.index[:-6:-1], start=1)]
        found += [(f"near the threshold {n}", row) for n, row in enumerate(nearest[:2], start=1)]
        found += [("lowest score", row) for row in by_score.index[:1]]
    wrong = known[known["flagged"] != known["label"]]
    for title, label, last in (("worst false alarm", 0, -1), ("worst miss", 1, 0)):
        found += [(title, row) for row in wrong.index[wrong["label"] == label][last:][:1]]
    kinds = known["defect"].fillna("unnamed").where(known["label"] == 1, "normal")
    for kind, own in known.groupby(kinds):
        found.append((f"median of {kind}", own.index[len(own) // 2]))
        found.append((f"highest of {kind}", own.index[-1]))
        found.append((f"lowest of {kind}", own.index[0]))
    titles: dict[int, str] = {}
    for title, row in found:
        titles.setdefault(int(row), title)  # an image is shown once, under its first title
    return {title: row for row, title in list(titles.items())[:most]}


def read_masks(records: Sequence[ImageRecord], folder: Path, rule: InputRule) -> np.ndarray | None:
    """Read the defects' masks, bool (n_images, h, w); None unless every anomalous image has one."""
    anomalous = [record for record in records if record.label == 1]
    if not anomalous or any(record.mask is None for record in anomalous):
        return None
    masks = np.zeros((len(records), *rule.shape), dtype=bool)
    for number, record in enumerate(records):
        if record.mask is not None:
            masks[number] = read_mask(folder / record.mask, rule)
    return masks if masks.any() else None


def pixel_quality(
    masks: np.ndarray | None, maps: np.ndarray, *, known: np.ndarray, ignored: np.ndarray
) -> dict[str, float]:
    """Return quality over pixels; empty where there are no masks.

    Parameters
    ----------
    masks : array of bool, or None; maps : array of float; shape (n_images, height, width)
    known : array of bool, shape (n_images,)
        Images whose label is known; no pixel of others counts.
    ignored : array of bool, shape (h, w)
        Patches that never count, on their own grid.
    """
    if masks is None:
        return {}
    places = [np.arange(n) * m // n for n, m in zip(maps.shape[1:], ignored.shape, strict=True)]
    masks, maps, pixels = masks[known], maps[known], ignored[np.ix_(*places)]
    auroc = image_auroc(masks[:, ~pixels], maps[:, ~pixels])
    return {"pixel_auroc": auroc, "aupro": aupro(masks, maps, ignored=pixels)}


# Figures in words, in the order in which people are shown them.
MEANINGS = {
    "n_flagged": "images flagged, also those of unknown label",
    "f1": "F1 at the protocol's threshold",
    "image_auroc": "image AUROC: 1 is perfect, 0.5 is chance",
    "true_positive": "anomalous and flagged",
    "false_negative": "anomalous and missed",
    "false_positive": "normal and flagged: false alarms",
    "true_negative": "normal and passed",
    "oracle_f1": "F1 at the best threshold in hindsight, which no one has beforehand",
    "average_precision": "average precision",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO: how well maps find defects, up to 30 % false positives",
    "threshold": "threshold",
}
HEADLINE = (
    *("image_auroc", "image_auroc_low", "image_auroc_high"),
    *("f1", "f1_low", "f1_high", "n_flagged", "threshold"),
)


def in_words(figures: Mapping[str, float]) -> pd.DataFrame:
    """Lay out a run's figures in words; what its labels cannot give is not there."""
    rows = []
    for key, words in MEANINGS.items():
        if key in figures:
            low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
            ends = "" if low is None else f"{low:.3f} to {high:.3f}"
            rows.append({"figure": words, "value": float(figures[key]), "95 % interval": ends})
    return pd.DataFrame(rows)


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Return images by rising score, with their kind and the decision in words."""
    found = table.sort_values("score", kind="stable").reset_index(drop=True)
    words = {0: "normal", 1: "anomalous"}
    return pd.DataFrame(
        {
            "rank": found.index,
            "id": found["id"],
            "defect": found["defect"].fillna(""),
            "score": found["score"],
            "kind": [words.get(label, "unknown") for label in found["label"].astype(object)],
            "decision": [words[flag] for flag in found["flagged"]],
        }
    )


def headline(figures: Mapping[str, float], prefix: str = "") -> dict[str, float]:
    """Return the figures of `summarise` that experiments are compared by."""
    return {f"{prefix}{key}": figures[key] for key in HEADLINE if key in figures}

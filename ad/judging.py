"""What a finished run is judged by and shown with: quality figures, examples, the submission."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_curve

from ad import metrics
from ad.data import ImageRecord
from ad.files import write_csv
from ad.images import InputRule, read_mask
from ad.neighbors import exact_neighbors
from ad.report import figure, markdown_table

# A run's figures in words, in the order in which people are shown them.
MEANINGS = {
    "n_flagged": "images flagged",
    "true_positive": "anomalous and flagged",
    "false_negative": "anomalous and missed",
    "false_positive": "normal and flagged: false alarms",
    "true_negative": "normal and passed",
    "f1": "F1 at the protocol's threshold",
    "f1_low": "its 95 % interval over test images, from",
    "f1_high": "its 95 % interval over test images, to",
    "oracle_f1": "F1 at the best threshold in hindsight, which no one has beforehand",
    "image_auroc": "image AUROC: 1 is perfect, 0.5 is chance",
    "average_precision": "average precision",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO: how well maps find defects, up to 30 % false positives",
    "threshold": "threshold",
}


def known_labels(records: Sequence[ImageRecord]) -> np.ndarray | None:
    """Return the labels, shape (n_images,), or None where one is unknown."""
    labels = [record.label for record in records]
    return None if None in labels else np.array(labels)


def image_quality(
    labels: np.ndarray | None, scores: np.ndarray, flags: np.ndarray, *, seed: int
) -> dict[str, float]:
    """Return quality over images; empty where labels are unknown, without AUROC for one class.

    Parameters
    ----------
    labels, scores, flags : arrays, shape (n_images,)
    seed : int
        Of the bootstrap.
    """
    if labels is None:
        return {}
    table = metrics.confusion(labels, flags)
    low, high = metrics.bootstrap_interval(labels, flags, seed=seed)
    quality = {"f1": table.f1, "f1_low": low, "f1_high": high}
    for name in ("true_positive", "false_positive", "false_negative", "true_negative"):
        quality[name] = getattr(table, name)
    if metrics.both_classes(labels):
        quality["image_auroc"] = metrics.image_auroc(labels, scores)
        quality["average_precision"] = float(average_precision_score(labels, scores))
        quality["oracle_f1"], quality["oracle_threshold"] = metrics.oracle_f1(labels, scores)
    return quality


def summarise(
    train: Sequence[ImageRecord],
    test: Sequence[ImageRecord],
    scores: np.ndarray,
    threshold: float,
    *,
    seed: int,
) -> dict[str, float]:
    """Gather a run's counts, its threshold and its quality over images."""
    flags = scores > threshold
    counts = {"n_train": len(train), "n_test": len(test), "n_flagged": int(flags.sum())}
    quality = image_quality(known_labels(test), scores, flags, seed=seed)
    return counts | {"threshold": threshold} | quality


def both_sets(run: Mapping[str, float], locked: Mapping[str, float]) -> str:
    """Lay out the figures of the run's images and of the locked ones side by side."""
    rows = [
        {"figure": words, "this run": run[key], "locked set": locked[key]}
        for key, words in MEANINGS.items()
        if key in run and key in locked
    ]
    return markdown_table(rows)


def locked_findings(run: Mapping[str, float], locked: Mapping[str, float]) -> str:
    """Say whether the locked set agrees with the run's images."""
    if "f1" not in locked or "f1" not in run:
        return "Nothing is compared: labels are unknown, or there is no locked set."
    agree = run["f1_low"] <= locked["f1_high"] and locked["f1_low"] <= run["f1_high"]
    return (
        f"On the locked set F1 is **{locked['f1']:.3f}** ({locked['f1_low']:.3f} to "
        f"{locked['f1_high']:.3f}), on the run's images {run['f1']:.3f} ({run['f1_low']:.3f} to "
        f"{run['f1_high']:.3f}); image AUROC {locked['image_auroc']:.3f} and "
        f"{run['image_auroc']:.3f}. The intervals {'overlap' if agree else 'do not overlap'}; they "
        f"hold each threshold fixed. Both sets are synthetic: they say nothing about real devices."
    )


def read_masks(records: Sequence[ImageRecord], folder: Path, rule: InputRule) -> np.ndarray | None:
    """Read the defects' masks; None unless every anomalous image has one.

    Returns
    -------
    array of bool, shape (n_images, size, size), or None
    """
    anomalous = [record for record in records if record.label == 1]
    if not anomalous or any(record.mask is None for record in anomalous):
        return None
    masks = np.zeros((len(records), rule.side, rule.side), dtype=bool)
    for number, record in enumerate(records):
        if record.mask is not None:
            masks[number] = read_mask(folder / record.mask, rule)
    return masks if masks.any() else None


def pixel_quality(masks: np.ndarray | None, maps: np.ndarray) -> dict[str, float]:
    """Return quality over pixels; empty where there are no masks."""
    if masks is None:
        return {}
    return {
        "pixel_auroc": metrics.image_auroc(masks, maps),
        "aupro": metrics.aupro(masks, maps),
    }


def quality_table(summary: Mapping[str, object]) -> str:
    """Lay out a run's figures in words."""
    rows = [
        {"figure": words, "value": summary[key]}
        for key, words in MEANINGS.items()
        if key in summary
    ]
    return markdown_table(rows)


def choose_examples(
    labels: np.ndarray | None,
    defects: Sequence[str],
    scores: np.ndarray,
    threshold: float,
) -> dict[str, int]:
    """Choose images to show: the worst errors, each defect's median, a usual normal one.

    Without labels: the highest scores, those nearest the threshold, the lowest.

    Returns
    -------
    dict of str to int
        Image numbers by what they stand for.
    """
    chosen: dict[str, int] = {}
    if labels is None:
        order = np.argsort(-scores, kind="stable")
        nearest = np.argsort(np.abs(scores - threshold), kind="stable")
        chosen |= {f"score rank {rank + 1}": order[rank] for rank in range(min(4, len(order)))}
        chosen |= {f"near the threshold {r + 1}": nearest[r] for r in range(min(2, len(order)))}
        return chosen | {"lowest score": order[-1]}
    flags = scores > threshold
    normal, anomalous = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    if flags[normal].any():
        chosen["worst false positive"] = normal[scores[normal].argmax()]
    if (~flags[anomalous]).any():
        chosen["worst false negative"] = anomalous[scores[anomalous].argmin()]
    groups = {name: [n for n in anomalous if defects[n] == name] for name in sorted(set(defects))}
    groups["normal"] = normal.tolist()
    for name, members in groups.items():
        if members:
            chosen[name] = sorted(members, key=lambda n: scores[n])[len(members) // 2]
    return chosen


def write_scores(
    folder: Path, records: Sequence[ImageRecord], scores: np.ndarray, flags: np.ndarray
) -> None:
    """Write ``test_scores.csv``: id, score and flag, with label and defect where known."""
    optional = {
        "label": [record.label for record in records],
        "defect": [record.defect or "unnamed" for record in records],
    }
    if known_labels(records) is None:
        del optional["label"]
    if not any(record.defect for record in records):
        del optional["defect"]
    ids = [record.id for record in records]
    columns = [ids, scores.tolist(), flags.astype(int).tolist(), *optional.values()]
    rows = zip(*columns, strict=True)
    write_csv(folder / "test_scores.csv", ["id", "score", "flagged", *optional], rows)


KINDS = {0: "normal", 1: "anomalous", None: "unknown"}


def write_plots(
    folder: Path, records: Sequence[ImageRecord], scores: np.ndarray, flags: np.ndarray
) -> None:
    """Write what DVC's plots are drawn from: test images by rising score, and the ROC curve."""
    rows = [
        (rank, records[n].id, float(scores[n]), KINDS[records[n].label], KINDS[int(flags[n])])
        for rank, n in enumerate(np.argsort(scores, kind="stable"))
    ]
    write_csv(folder / "scores.csv", ["rank", "id", "score", "kind", "decision"], rows)
    labels = known_labels(records)
    curve = [] if labels is None or len(set(labels)) < 2 else zip(*roc_curve(labels, scores)[:2])  # noqa: B905
    points = [(float(false), float(true)) for false, true in curve]
    write_csv(folder / "roc.csv", ["false_positive_rate", "true_positive_rate"], points)


def findings(summary: Mapping[str, object], *, synthetic: bool) -> str:
    """Say in words what a run shows, and what it does not."""
    threshold, flagged, n_test = summary["threshold"], summary["n_flagged"], summary["n_test"]
    if "f1" not in summary:
        return (
            f"{flagged} of {n_test} images are flagged at the threshold of {figure(threshold)}. "
            f"Without labels nothing here says how many of them are right."
        )
    n_anomalous = summary["true_positive"] + summary["false_negative"]
    text = (
        f"At the protocol's threshold of {figure(threshold)}, F1 is **{summary['f1']:.3f}** "
        f"(95 % interval {summary['f1_low']:.3f} to {summary['f1_high']:.3f} over test images, "
        f"the threshold held fixed): {summary['true_positive']} of {n_anomalous} anomalous "
        f"images are found, with {summary['false_positive']} false alarms among "
        f"{n_test - n_anomalous} normal ones."
    )
    if "oracle_f1" in summary:
        text += (
            f" The best threshold in hindsight would give {summary['oracle_f1']:.3f}, so "
            f"{summary['oracle_f1'] - summary['f1']:.3f} of F1 is lost to choosing the threshold "
            f"without anomalies."
        )
    if synthetic:
        text += " All images are synthetic."
    return text + f" {n_test} images are few: differences inside the interval mean nothing."


def per_defect(
    defects: list[str], labels: np.ndarray, scores: np.ndarray, flags: np.ndarray
) -> list[dict[str, object]]:
    """Return for each defect: images, how many are found, and AUROC against all normal images.

    Parameters
    ----------
    defects : list of str
        A name for each image; those of normal images do not matter.
    labels, scores, flags : arrays, shape (n_images,)
    """
    names = np.array(defects)
    labels, flags = np.asarray(labels), np.asarray(flags, dtype=bool)
    normal = labels == 0
    rows = []
    for name in sorted(set(names[labels == 1])):
        own = (names == name) & (labels == 1)
        rows.append(
            {
                "defect": str(name),
                "images": int(own.sum()),
                "found": int(flags[own].sum()),
                "image_auroc": metrics.image_auroc(labels[own | normal], scores[own | normal]),
            }
        )
    return rows


def coverage(points: np.ndarray, selected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure how a selection covers points as it grows.

    Parameters
    ----------
    points : array, shape (n, dim)
    selected : array like it, shape (n_select, dim)
        In greedy order.

    Returns
    -------
    steps, largest, typical : arrays, shape (n_steps,)
        Sizes of the selection, halved down to 1, and the largest and the median distance to its
        nearest.
    """
    steps = np.array([len(selected) >> n for n in reversed(range(len(selected).bit_length()))])
    squared = np.stack([exact_neighbors(points, selected[:n], 1).squared_distances for n in steps])
    distances = np.sqrt(squared[:, :, 0])
    return steps, distances.max(axis=1), np.median(distances, axis=1)

"""Figures with intervals from one tidy table of scores, and what a network costs."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ad import plots
from ad.backbone import load_backbone
from ad.evaluation import f1_score, image_auroc
from ad.extraction import features_of, make_extractor
from ad.params import BackboneSettings, Image, Patch, Runtime
from studies.common import ROOT, by_seed, cell_features, estimate, gain, in_words


def accuracy(labels: np.ndarray, flags: np.ndarray) -> float:
    """Return the share of images whose flag is right."""
    return float(np.mean(np.asarray(labels, dtype=bool) == np.asarray(flags, dtype=bool)))


# Statistics and the column that each is of.
STATISTICS = {
    "image AUROC": (image_auroc, "score"),
    "F1": (f1_score, "flagged"),
    "accuracy": (accuracy, "flagged"),
}


def extract(
    train: Sequence[Path], test: Sequence[Path], **settings: object
) -> tuple[np.ndarray, np.ndarray]:
    """Return features of training and test cells; see `studies.common.cell_features`."""
    features, _ = cell_features([*train, *test], normals=train, **settings)
    return features[: len(train)], features[len(train) :]


def has_weights(settings: BackboneSettings) -> bool:
    """Tell whether a network's quality can be known: not of random weights, nor without a file."""
    return settings.weights == "package" or (ROOT / settings.weights).is_file()


def score_rows(
    setting: str, seed: int, labels: np.ndarray, scores: np.ndarray, flags: np.ndarray
) -> pd.DataFrame:
    """Lay out one run: setting, seed, image (its number), label, score, flagged."""
    columns = {"image": range(len(labels)), "label": labels, "score": scores, "flagged": flags}
    return pd.DataFrame({"setting": setting, "seed": seed, **columns})


def figures(table: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Return each setting's statistics, means over seeds, with 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        Of `score_rows`, of any number of settings and seeds.
    seed : int
        Of the bootstrap, which draws images and seeds.

    Returns
    -------
    DataFrame
        Columns setting, statistic, value, low, high, and least and most: of the seeds.
    """
    rows = []
    for setting, own in table.groupby("setting", sort=False):
        for name, (statistic, column) in STATISTICS.items():
            labels, values = by_seed(own, column)
            found = [statistic(labels, each) for each in values]
            value = estimate(statistic, labels, values, seed=seed)
            rows.append((setting, name, *value, min(found), max(found)))
    names = ["setting", "statistic", "value", "low", "high", "least", "most"]
    return pd.DataFrame(rows, columns=names)


def differences(
    table: pd.DataFrame, base: str, settings: Sequence[str], *, seed: int
) -> pd.DataFrame:
    """Return AUROC of settings minus that of another on the same images, with intervals.

    The intervals hold together at 95 % (Bonferroni).
    """
    labels, first = by_seed(table[table["setting"] == base])
    rows = []
    for setting in settings:
        _, second = by_seed(table[table["setting"] == setting])
        how = {"seed": seed, "level": 1 - 0.05 / len(settings), "repeats": 4000}
        change = gain(image_auroc, labels, first, second, **how)
        rows.append((setting, "image AUROC, difference", *change))
    return pd.DataFrame(rows, columns=["setting", "statistic", "value", "low", "high"])


def cost(settings: BackboneSettings, pictures: Sequence[Path]) -> dict[str, object]:
    """Measure what a network costs; its weights may be random, as no cost depends on them.

    Returns
    -------
    dict
        ``parameters`` that run, patches' ``dimension``, ``feature_bytes`` an image, and processor
        ``seconds`` an image from file to features, the least of three measurements.
    """
    weights = settings.weights if has_weights(settings) else "random"
    network = load_backbone(settings.model_copy(update={"weights": weights}), root=ROOT)
    how = {"arithmetic": settings.arithmetic}
    extractor = make_extractor(network, Image(), Patch(), pictures, **how)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        features = features_of(extractor, pictures, Runtime())
        seconds.append((time.process_time() - start) / len(pictures))
    return {
        "network": settings.name,
        "weights": network.weights_source,
        "parameters": sum(each.numel() for each in network.model.parameters()),
        "dimension": features.shape[-1],
        "feature_bytes": features[0].nbytes,
        "seconds": min(seconds),
    }


def with_intervals(found: pd.DataFrame, statistics: Sequence[str]) -> pd.DataFrame:
    """Lay out figures with their intervals as texts: a row a setting, a column a statistic."""
    texts = found.assign(text=in_words(found))
    wide = texts.pivot(index="setting", columns="statistic", values="text")
    wide = wide.loc[found["setting"].unique(), list(statistics)]
    return wide.rename_axis(columns=None).reset_index()


def draw_intervals(ax: Axes, found: pd.DataFrame, base: str) -> None:
    """Draw one statistic of each setting with its interval, from the top down."""
    for row, own in enumerate(found.itertuples()):
        colour = plots.ANOMALOUS_COLOUR if own.setting == base else plots.NORMAL_COLOUR
        ax.hlines(row, own.low, own.high, color=colour, linewidth=2)
        ax.plot(own.value, row, "o", color=colour)
    ax.set_yticks(range(len(found)), found["setting"])
    ax.invert_yaxis()

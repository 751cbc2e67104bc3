"""Figures for the notebooks; each function draws on the Axes that it is given."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from ad.evaluation import image_auroc
from ad.report import figure

# Okabe and Ito's palette: told apart with any colour vision, and the same in every figure.
NORMAL_COLOUR = "#0072B2"
ANOMALOUS_COLOUR = "#D55E00"
NEUTRAL_COLOUR = "#666666"
THRESHOLD_STYLE = {"color": "black", "linestyle": "--", "linewidth": 1.5}


def plain(text: str, *, longest: int = 40) -> str:
    """Make a text of the data stand in a figure as it is: no formulas, nothing wider than a panel.

    Long lines lose their middle, and letters that the font lacks become boxes without a warning.
    """
    known = get_font(findfont(FontProperties())).get_char_index
    lines = []
    for line in text.split("\n"):
        half = longest // 2
        short = line if len(line) <= longest else f"{line[: half - 1]}…{line[-half:]}"
        lines.append("".join(c if known(ord(c)) else "□" for c in short))
    return "\n".join(lines).replace("$", r"\$")


def legend_above(ax: Axes, columns: int) -> None:
    """Put the legend above the Axes, where it covers nothing."""
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)


def panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Open a figure of so many pictures; axes of shape (rows, columns), also for one."""
    size = (1.8 * columns, 2.1 * rows)
    return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)


def as_colours(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Bring patches' values (h * w, up to 3), 0 to 1, to a picture of colours (h, w, 3)."""
    missing = 3 - values.shape[1]
    return np.pad(values.clip(0, 1), ((0, 0), (0, missing))).reshape(*grid, 3)


KINDS = ((0, "normal", NORMAL_COLOUR), (1, "anomalous", ANOMALOUS_COLOUR))


def score_histogram(ax: Axes, table: pd.DataFrame, threshold: float, *, unit: str) -> None:
    """Draw the histogram of image scores with the threshold; labels may be unknown."""
    scores = table["score"]
    ends = (min(scores.min(), threshold), max(scores.max(), threshold)) if len(table) else (0, 1)
    bins = np.linspace(*ends, 31)
    for value, name, colour in KINDS:
        own = scores[table["label"].eq(value).fillna(False)]
        if len(own):
            ax.hist(own, bins, color=colour, alpha=0.65, label=f"{name} ({len(own)})")
    unknown = scores[table["label"].isna()]
    if len(unknown):
        ax.hist(unknown, bins, color=NEUTRAL_COLOUR, alpha=0.65, label=f"unknown ({len(unknown)})")
    ax.axvline(threshold, **THRESHOLD_STYLE, label=f"threshold {figure(threshold)}")
    ax.set_xlabel(f"image score ({unit})")
    ax.set_ylabel("images")
    ax.legend()


def scores_by_kind(ax: Axes, table: pd.DataFrame, threshold: float, *, unit: str) -> None:
    """Draw every image's score in a row of its kind, with the threshold; means as bars."""
    kinds = table["defect"].where(table["label"].ne(0).fillna(True), "good")
    order = table.groupby(kinds)["score"].mean().sort_values(kind="stable").index
    for row, kind in enumerate(order):
        own = table["score"][kinds == kind]
        spread = row + np.linspace(-0.3, 0.3, len(own))
        ax.plot(own, spread, ".", color=NEUTRAL_COLOUR, alpha=0.6)
        ax.plot([own.mean()] * 2, [row - 0.4, row + 0.4], color=ANOMALOUS_COLOUR, linewidth=2)
    ax.axvline(threshold, **THRESHOLD_STYLE, label=f"threshold {figure(threshold)}")
    ax.plot([], [], color=ANOMALOUS_COLOUR, label="mean")
    ax.set_yticks(range(len(order)), [plain(str(kind), longest=24) for kind in order])
    ax.set_xlabel(f"image score ({unit})")
    ax.legend()


def fold_scores(
    ax: Axes, scores: Sequence[np.ndarray], thresholds: np.ndarray, final: float, *, unit: str
) -> None:
    """Draw each fold's held-out scores, its threshold, and the final threshold."""
    for fold, (own, threshold) in enumerate(zip(scores, thresholds, strict=True)):
        spread = np.linspace(-0.3, 0.3, len(own))
        ax.plot(fold + spread, own, ".", color=NORMAL_COLOUR, alpha=0.6)
        ax.hlines(threshold, fold - 0.4, fold + 0.4, color=ANOMALOUS_COLOUR, linewidth=2)
    ax.axhline(final, **THRESHOLD_STYLE, label=f"final threshold {figure(final)}")
    ax.plot([], [], ".", color=NORMAL_COLOUR, label="held-out normal image")
    ax.plot([], [], color=ANOMALOUS_COLOUR, label="fold's threshold")
    ax.set_xticks(range(len(scores)))
    ax.set_xlabel("fold")
    ax.set_ylabel(f"image score ({unit})")
    legend_above(ax, 3)


def roc(ax: Axes, table: pd.DataFrame) -> None:
    """Draw the image-level ROC curve where both classes are known; else say that it is not."""
    known = table[table["label"].notna()]
    labels, scores = known["label"].to_numpy(dtype=bool), known["score"].to_numpy()
    if labels.all() or not labels.any():
        ax.text(0.5, 0.5, "no ROC curve: it needs both labels", ha="center")
        ax.set_axis_off()
        return
    cuts = np.r_[np.inf, np.unique(scores)[::-1]]  # flagged from there on
    flagged = scores >= cuts[:, None]
    false, true = flagged[:, ~labels].mean(axis=1), flagged[:, labels].mean(axis=1)
    auroc = image_auroc(labels, scores)
    ax.plot(false, true, color=ANOMALOUS_COLOUR, label=f"AUROC {auroc:.3f}")
    ax.plot([0, 1], [0, 1], color=NEUTRAL_COLOUR, linestyle=":", label="chance")
    ax.set_xlabel("false-positive rate")
    ax.set_ylabel("true-positive rate")
    ax.set_aspect("equal")
    ax.legend(loc="lower right")


def coverage(ax: Axes, steps: np.ndarray, largest: np.ndarray, typical: np.ndarray) -> None:
    """Draw patches' distances to their nearest selected one over the selection's size."""
    ax.plot(steps, largest, "o-", color=ANOMALOUS_COLOUR, label="largest")
    ax.plot(steps, typical, "s-", color=NORMAL_COLOUR, label="median")
    ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("patches selected")
    ax.set_ylabel("distance to the nearest selected patch")
    ax.legend()


def plain_image(ax: Axes, image: np.ndarray, title: str) -> None:
    """Draw an image without axes."""
    ax.imshow(image)
    ax.set_title(plain(title, longest=24), fontsize=9)  # what a panel of the wall holds
    ax.set_axis_off()


def overlay(
    ax: Axes,
    image: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    limits: tuple[float, float],
    mask: np.ndarray | None,
    title: str,
) -> None:
    """Draw an anomaly map over its image, with the outline of the true defect where known.

    Parameters
    ----------
    image : array of uint8, shape (h, w, 3)
    anomaly_map : array of float, shape (h, w)
    limits : tuple of float
        Scores of the colour map's ends; the same for all images that are compared.
    mask : array of bool, shape (h, w), or None
    title : str
    """
    plain_image(ax, image, title)
    low, high = limits
    strength = np.clip((anomaly_map - low) / max(high - low, np.finfo(float).tiny), 0, 1)
    ax.imshow(anomaly_map, cmap="inferno", vmin=low, vmax=high, alpha=0.8 * np.sqrt(strength))
    if mask is not None and mask.any():
        ax.contour(mask, levels=[0.5], colors="#56B4E9", linewidths=1.2)


def map_scale(
    fig: Figure, axes: Sequence[Axes], limits: tuple[float, float], threshold: float
) -> None:
    """Draw the colour bar of `overlay`, in thresholds."""
    ends = Normalize(limits[0] / threshold, limits[1] / threshold)
    bar = fig.colorbar(ScalarMappable(ends, "inferno"), ax=list(axes), pad=0.01)
    bar.set_label("patch score / threshold", fontsize=8)
    bar.ax.tick_params(labelsize=8)

"""Figures for the notebooks; each function draws on the Axes that it is given."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

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


def score_histogram(
    ax: Axes, scores: np.ndarray, labels: np.ndarray | None, threshold: float, *, unit: str
) -> None:
    """Draw the histogram of image scores with the threshold; ``labels`` may be unknown."""
    bins = np.linspace(min(scores.min(), threshold), max(scores.max(), threshold), 31)
    if labels is None:
        ax.hist(scores, bins, color=NEUTRAL_COLOUR, label=f"test images ({len(scores)})")
    else:
        for value, name, colour in (
            (0, "normal", NORMAL_COLOUR),
            (1, "anomalous", ANOMALOUS_COLOUR),
        ):
            own = scores[labels == value]
            ax.hist(own, bins, color=colour, alpha=0.65, label=f"{name} ({len(own)})")
    ax.axvline(threshold, **THRESHOLD_STYLE, label=f"threshold {figure(threshold)}")
    ax.set_xlabel(f"image score ({unit})")
    ax.set_ylabel("images")
    ax.legend()


def fold_scores(
    ax: Axes, scores: Sequence[np.ndarray], thresholds: np.ndarray, final: float, *, unit: str
) -> None:
    """Draw each fold's held-out scores, its threshold, and the final threshold."""
    for fold, (own, threshold) in enumerate(zip(scores, thresholds, strict=True), start=1):
        spread = np.linspace(-0.3, 0.3, len(own))
        ax.plot(fold + spread, own, ".", color=NORMAL_COLOUR, alpha=0.6)
        ax.hlines(threshold, fold - 0.4, fold + 0.4, color=ANOMALOUS_COLOUR, linewidth=2)
    ax.axhline(final, **THRESHOLD_STYLE, label=f"final threshold {figure(final)}")
    ax.plot([], [], ".", color=NORMAL_COLOUR, label="held-out normal image")
    ax.plot([], [], color=ANOMALOUS_COLOUR, label="fold's threshold")
    ax.set_xticks(range(1, len(scores) + 1))
    ax.set_xlabel("fold")
    ax.set_ylabel(f"image score ({unit})")
    legend_above(ax, 3)


def roc(
    ax: Axes, false_positive_rate: np.ndarray, true_positive_rate: np.ndarray, *, auroc: float
) -> None:
    """Draw the image-level ROC curve."""
    ax.plot(
        false_positive_rate,
        true_positive_rate,
        color=ANOMALOUS_COLOUR,
        label=f"AUROC {auroc:.3f}",
    )
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

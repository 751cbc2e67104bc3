"""Figures of the study."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pages.plots import THRESHOLD_STYLE, plain_image
from studies.reconpatch.methods import LEARNT
from studies.reconpatch.results import Results

STYLES = {
    "pooling": ("#666666", "s", "-"),
    "projection": ("#E69F00", "v", "-"),
    "PCA": ("#0072B2", "o", "-"),
    "PCA, half whitened": ("#0072B2", "^", "--"),
    "PCA, whitened": ("#0072B2", "x", ":"),
    LEARNT: ("#D55E00", "o", "-"),
}


def pairs(normals: Sequence[np.ndarray], pasted: Mapping[str, Sequence[tuple]]) -> Figure:
    """Draw images before and after, in pairs: a column of pairs a kind, a row an image.

    Parameters
    ----------
    normals : sequence of array of uint8, shape (size, size, 3)
    pasted : mapping of str to sequence of (image, mask)
        By kind; entry i was made from ``normals[i]``.
    """
    shape = (len(normals), 2 * len(pasted))
    fig, axes = plt.subplots(
        *shape, figsize=(1.6 * shape[1], 1.75 * shape[0]), layout="constrained", squeeze=False
    )
    for column, (kind, images) in enumerate(pasted.items()):
        for row, (normal, (image, mask)) in enumerate(zip(normals, images, strict=True)):
            before, after = axes[row, 2 * column : 2 * column + 2]
            plain_image(before, normal, "before")
            plain_image(after, image, kind)
            before.contour(mask, levels=[0.5], colors="#56B4E9", linewidths=1)
    return fig


def losses(losses_by_seed: Mapping[int, np.ndarray]) -> Figure:
    """Draw the loss over epochs, a line a seed."""
    fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for seed, values in losses_by_seed.items():
        ax.plot(np.arange(1, len(values) + 1), values, label=f"seed {seed}")
    ax.set_xlabel("epoch")
    ax.set_ylabel("relaxed contrastive loss, a patch")
    ax.legend(fontsize=8)
    return fig


def _dimension_axis(ax: Axes, dimensions: Sequence[int], what: str) -> None:
    ax.set_xticks(range(len(dimensions)), dimensions)
    ax.set_xlabel("dimensions of a patch feature")
    ax.set_ylabel(what)


def quality(results: Results) -> Figure:
    """Draw the figure of merit over dimensions, a line a method."""
    fig, ax = plt.subplots(figsize=(9, 4.6), layout="constrained")
    for number, method in enumerate(results.methods):
        colour, marker, line = STYLES[method]
        shown = [n for n in results.dimensions if (method, n) in results.scores]
        places = [results.dimensions.index(n) + 0.06 * (number - 2.5) for n in shown]
        means, spreads = zip(*(results.over_seeds((method, n)) for n in shown), strict=True)
        style = {"color": colour, "marker": marker, "linestyle": line, "capsize": 2}
        ax.errorbar(places, means, spreads, label=method, **style)
    _dimension_axis(ax, results.dimensions, results.words)
    ax.set_title("mean and standard deviation over seeds", fontsize=10)
    ax.legend(fontsize=8, ncols=2)
    return fig


def choice(results: Results, ranking: Sequence[Mapping[str, object]]) -> Figure:
    """Draw what the choice sees, and beside it what the labels say."""
    known = results.labels is not None
    fig, axes = plt.subplots(
        1, 1 + known, figsize=(6 + 5 * known, 4.4), layout="constrained", squeeze=False
    )
    for row in ranking:
        colour, marker, _ = STYLES[row["method"]]
        shift = 0.08 * (results.methods.index(row["method"]) - 2.5)
        axes[0, 0].errorbar(
            results.dimensions.index(row["dimensions"]) + shift,
            row["synthetic_auroc"],
            row["standard_error"],
            color=colour,
            marker=marker,
            capsize=2,
            label=row["method"] if row["dimensions"] == results.dimensions[-1] else None,
        )
        if known:
            measured = results.over_seeds((row["method"], row["dimensions"]))[0]
            axes[0, 1].plot(row["synthetic_auroc"], measured, color=colour, marker=marker)
            axes[0, 1].set_xlabel("AUROC of synthetic anomalies")
            axes[0, 1].set_ylabel(f"{results.words}, mean over seeds")
            axes[0, 1].set_title("what the choice sees and what it is for", fontsize=9)
    _dimension_axis(axes[0, 0], results.dimensions, "AUROC of synthetic anomalies")
    axes[0, 0].set_title("bars: standard error of the difference to the best", fontsize=9)
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncols=4, fontsize=8)
    return fig


def loss_bounds(found: Mapping[tuple[str, int], tuple[float, float]], margin: float) -> Figure:
    """Draw each reduction's loss and its upper bound against the margin."""
    dimensions = sorted({n for _, n in found}, reverse=True)
    methods = list(dict.fromkeys(method for method, _ in found))
    fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for number, method in enumerate(methods):
        colour, marker, line = STYLES[method]
        shown = [n for n in dimensions if (method, n) in found]
        places = [dimensions.index(n) + 0.06 * (number - 2.5) for n in shown]
        low, high = zip(*(found[method, n] for n in shown), strict=True)
        ax.vlines(places, low, high, color=colour, alpha=0.5)
        ax.plot(places, low, color=colour, marker=marker, linestyle=line, label=method)
    ax.axhline(margin, **THRESHOLD_STYLE, label=f"margin {margin:g}")
    _dimension_axis(ax, dimensions, "loss in AUROC, and its upper bound")
    ax.legend(fontsize=8, ncols=2)
    return fig

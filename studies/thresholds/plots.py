"""Figures of the study."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from pages.plots import ANOMALOUS_COLOUR, NEUTRAL_COLOUR, NORMAL_COLOUR, THRESHOLD_STYLE
from studies.thresholds.headline import Headline
from studies.thresholds.nested import CURVES

GREEN = "#009E73"  # Okabe and Ito's, as the others
COLOURS = (ANOMALOUS_COLOUR, NORMAL_COLOUR, GREEN, NEUTRAL_COLOUR)


def _level_names(ax: plt.Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def draw_rules(table: Sequence[Mapping]) -> Figure:
    """Draw promised and measured false alarms of each rule, a panel for each aggregation."""
    aggregates = list(dict.fromkeys(row["aggregate"] for row in table))
    rules = list(dict.fromkeys(row["rule"] for row in table))
    fig, axes = plt.subplots(
        1, len(aggregates), figsize=(13, 3.8), layout="constrained", sharey=True, sharex=True
    )
    for ax, aggregate in zip(axes, aggregates, strict=True):
        for y, row in enumerate(row for row in table if row["aggregate"] == aggregate):
            ax.hlines(y, 100 * row["low"], 100 * row["high"], color=NORMAL_COLOUR)
            ax.plot(100 * row["measured"], y, "o", color=NORMAL_COLOUR)
            if row["promised"] is not None:
                ax.plot(100 * row["promised"], y, "|", color="black", markersize=14)
        ax.set_title(f"{aggregate} over folds", fontsize=9)
        ax.set_xlabel("false alarms (%)")
    _level_names(axes[0], rules)
    axes[0].plot([], [], "o-", color=NORMAL_COLOUR, label="measured, 95 %")
    axes[0].plot([], [], "|", color="black", markersize=14, label="promised")
    handles = axes[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper center", ncols=2, fontsize=9)
    return fig


def draw_p_values(found: Mapping[str, np.ndarray]) -> Figure:
    """Draw how often unseen normals have a p-value below each level."""
    fig, ax = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
    for (name, values), colour in zip(found.items(), COLOURS, strict=True):
        own = np.sort(values)
        ax.step(own, np.arange(1, len(own) + 1) / len(own), where="post", color=colour, label=name)
    ax.plot([0, 1], [0, 1], color="black", linestyle=":", label="what a p-value promises")
    ax.set_xlabel("level a")
    ax.set_ylabel("share of unseen normals with p at most a")
    ax.set_xlim(0, 0.5)
    ax.set_ylim(0, 0.8)
    ax.legend(fontsize=8, loc="lower right")
    return fig


def draw_bias(simulated: Sequence[Mapping], *, n_normal: int, correlation: float) -> Figure:
    """Draw simulated false alarms over the correlation between banks; mark that of the data."""
    fig, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
    across = [row["correlation"] for row in simulated]
    for (name, words), colour in zip(CURVES.items(), COLOURS, strict=True):
        ax.plot(across, [100 * row[name] for row in simulated], "o-", color=colour, label=words)
    ax.axhline(100 / (n_normal + 1), color="black", linestyle=":", label="the largest's promise")
    ax.axvline(correlation, **THRESHOLD_STYLE, label="banks of this data set")
    ax.set_xlabel("correlation of a normal's scores between two banks")
    ax.set_ylabel("false alarms (%), simulated")
    ax.legend(fontsize=8)
    return fig


def draw_headlines(found: Sequence[Headline]) -> Figure:
    """Draw each rule's F1 with its three intervals."""
    fig, ax = plt.subplots(figsize=(8, 0.55 * len(found) + 1.3), layout="constrained")
    kinds = (
        ("fixed", -0.22, NEUTRAL_COLOUR, "test images; threshold held fixed"),
        ("seeds", 0.0, NORMAL_COLOUR, "and other seeds and folds"),
        ("whole", 0.22, ANOMALOUS_COLOUR, "and training images drawn again"),
    )
    for name, shift, colour, words in kinds:
        for y, each in enumerate(found):
            ax.hlines(y + shift, *getattr(each, name), color=colour, linewidth=2.5)
        ax.plot([], [], color=colour, linewidth=2.5, label=words)
    ax.plot([each.f1 for each in found], range(len(found)), "|", color="black", markersize=20)
    _level_names(ax, [each.rule for each in found])
    ax.set_xlabel("F1 on the test images (95 % intervals)")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def draw_kinds(rows: Sequence[Mapping]) -> Figure:
    """Draw the false alarms of each kind of folds."""
    fig, ax = plt.subplots(figsize=(7, 0.5 * len(rows) + 1.1), layout="constrained")
    for y, row in enumerate(rows):
        ax.hlines(y, 100 * row["low"], 100 * row["high"], color=NORMAL_COLOUR)
        ax.plot(100 * row["false alarms"], y, "o", color=NORMAL_COLOUR)
    _level_names(ax, [row["folds"] for row in rows])
    ax.set_xlabel("false alarms on unseen normals (%, 95 %)")
    return fig

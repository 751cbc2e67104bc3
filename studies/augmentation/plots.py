"""Figures of the study."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from pages.plots import ANOMALOUS_COLOUR, NORMAL_COLOUR, THRESHOLD_STYLE, plain_image
from studies.augmentation.copies import Copies
from studies.augmentation.effects import Effect
from studies.augmentation.repeats import PLAIN, Departure
from studies.shared.uncertainty import rate_interval


def _level_names(ax: plt.Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def draw_copies(
    copies: Copies, numbers: Sequence[int], kinds: Sequence[str], *, seed: int
) -> Figure:
    """Draw some training images beside their changed copies."""
    size = (1.9 * (len(kinds) + 1), 2.1 * len(numbers))
    fig, axes = plt.subplots(
        len(numbers), len(kinds) + 1, figsize=size, layout="constrained", squeeze=False
    )
    for row, number in zip(axes, numbers, strict=True):
        plain_image(row[0], copies.pixels(number), "normal")
        for ax, kind in zip(row[1:], kinds, strict=True):
            plain_image(ax, copies.image(number, kind, seed), kind)
    return fig


def draw_runs(rows: Sequence[Mapping]) -> Figure:
    """Draw each run's AUROC, F1 and false alarms by kind; figures that are unknown are left out."""
    titles = {"image_auroc": "image AUROC", "f1": "F1", "rate": "false alarms, unseen normals (%)"}
    rows = [row | {"rate": 100 * row["false_alarms"] / row["unseen_normals"]} for row in rows]
    keys = [key for key in titles if rows[0][key] is not None]
    kinds = list(dict.fromkeys(row["copies"] for row in rows))
    size = (4.2 * len(keys) + 1, 3.4)
    fig, axes = plt.subplots(
        1, len(keys), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for ax, key in zip(axes[0], keys, strict=True):
        for y, kind in enumerate(kinds):
            values = [row[key] for row in rows if row["copies"] == kind]
            ax.plot(values, [y] * len(values), "o", color=NORMAL_COLOUR, alpha=0.5)
            ax.plot(np.mean(values), y, "|", color="black", markersize=16)
        ax.set_xlabel(titles[key])
        ax.locator_params(axis="x", nbins=4)
        ax.grid(axis="x", alpha=0.3)
    _level_names(axes[0, 0], kinds)
    axes[0, -1].plot([], [], "o", color=NORMAL_COLOUR, alpha=0.5, label="a repeat")
    axes[0, -1].plot([], [], "|", color="black", markersize=12, label="mean")
    fig.legend(loc="outside upper right", ncols=2, fontsize=8)
    return fig


def draw_effects(found: Sequence[Effect]) -> Figure:
    """Draw each kind's change of AUROC, against no copies and against the control."""
    kinds = list(dict.fromkeys(e.kind for e in found))
    fig, ax = plt.subplots(figsize=(8, 0.5 * len(kinds) + 1.4), layout="constrained")
    for e in found:
        plain = e.against == PLAIN
        y = kinds.index(e.kind) + (-0.12 if plain else 0.12)
        colour = ANOMALOUS_COLOUR if plain else NORMAL_COLOUR
        ax.hlines(y, e.low, e.high, color=colour)
        ax.plot(e.change, y, "o", color=colour)
    for name, colour in (("no copies", ANOMALOUS_COLOUR), ("the control", NORMAL_COLOUR)):
        ax.plot([], [], "o-", color=colour, label=f"against {name}")
    ax.axvline(0, **THRESHOLD_STYLE)
    _level_names(ax, kinds)
    ax.set_xlabel("change of image AUROC (95 %, all comparisons together)")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def draw_departures(departures: Sequence[Departure]) -> Figure:
    """Draw how many changed normals are flagged, by banks without and with copies."""
    fig, ax = plt.subplots(figsize=(8, 0.5 * len(departures) + 1.4), layout="constrained")
    for y, d in enumerate(departures):
        for count, shift, colour in (
            (d.before, -0.12, ANOMALOUS_COLOUR),
            (d.after, 0.12, NORMAL_COLOUR),
        ):
            low, high = rate_interval(count, d.n_images)
            ax.hlines(y + shift, 100 * low, 100 * high, color=colour)
            ax.plot(100 * count / d.n_images, y + shift, "o", color=colour)
    plain = 100 * departures[0].plain / departures[0].n_images
    ax.axvline(plain, **THRESHOLD_STYLE, label="unchanged, bank without")
    ax.plot([], [], "o-", color=ANOMALOUS_COLOUR, label="changed, bank without copies")
    ax.plot([], [], "o-", color=NORMAL_COLOUR, label="changed, bank with copies")
    _level_names(ax, [d.kind for d in departures])
    ax.set_xlim(-2, 102)
    ax.set_xlabel("unseen normals that are flagged (%, 95 % interval)")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig

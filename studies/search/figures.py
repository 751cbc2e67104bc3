"""Figures of the search; each function draws on the Axes that it is given."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from matplotlib.axes import Axes

from ad.images import read_rgb
from pages import plots
from studies.search.images import Listed
from studies.search.outcome import Outcome
from studies.search.space import Space
from studies.search.trials import STARTUP

MARKERS = {"default": "s", "chosen without labels": "D", "oracle": "*"}
COLOURS = {
    "default": plots.NEUTRAL_COLOUR,
    "chosen without labels": plots.NORMAL_COLOUR,
    "oracle": plots.ANOMALOUS_COLOUR,
}


def pairs(axes: np.ndarray, images: Listed) -> None:
    """Draw held-out images and the same with a synthetic anomaly, a kind a row, in pairs."""
    for row, (kind, pasted) in zip(axes, images.pasted.items(), strict=True):
        shown = np.column_stack([images.held_out, pasted]).ravel()
        for column, (ax, number) in enumerate(zip(row, shown, strict=False)):
            words = kind if column % 2 else "before"
            plots.plain_image(ax, np.asarray(read_rgb(images.paths[number])), words)


def progress(ax: Axes, outcome: Outcome) -> None:
    """Draw what the search saw, trial by trial."""
    best = np.maximum.accumulate(outcome.values)
    ax.plot(outcome.values, ".", color=plots.NEUTRAL_COLOUR, label="a trial")
    ax.plot(best, drawstyle="steps-post", color=plots.NORMAL_COLOUR, label="best so far")
    ax.axvline(STARTUP - 0.5, color="black", linestyle=":", label="the sampler starts to learn")
    ax.set_xlabel("trial")
    ax.set_ylabel("AUROC of synthetic anomalies")
    ax.legend(fontsize=8, loc="lower right")


def seen_and_unseen(ax: Axes, outcome: Outcome) -> None:
    """Draw test AUROC over what the search saw; the better half has a line at its border."""
    points = ax.scatter(
        outcome.values, outcome.aurocs, c=np.arange(len(outcome.tried)), cmap="viridis", s=22
    )
    ax.figure.colorbar(points, ax=ax, label="trial")
    ax.axvline(np.median(outcome.values), color="black", linestyle=":", label="better half")
    for words, number in outcome.marks().items():
        place = outcome.values[number], outcome.aurocs[number]
        style = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 2}
        ax.plot(*place, MARKERS[words], color=COLOURS[words], label=words, **style)
    ax.set_xlabel("AUROC of synthetic anomalies (what the search sees)")
    ax.set_ylabel("test AUROC (what it does not)")
    plots.legend_above(ax, 2)


def by_setting(axes: Sequence[Axes], outcome: Outcome, heights: np.ndarray, space: Space) -> None:
    """Draw heights of the trials over each setting's values, a setting an Axes."""
    for ax, key in zip(axes, asdict(space.default), strict=True):
        found = [asdict(each.choice)[key] for each in outcome.tried]
        if key == "ratio":
            marked = sorted({space.ratio[0], space.default.ratio, space.ratio[1]})
            ax.set_xscale("log")
            ax.set_xticks(marked, [f"{value:g}" for value in marked])
            ax.minorticks_off()
            ax.set_xlim(0.9 * marked[0], 1.1 * marked[-1])
            places = found
        else:
            names = sorted(set(found))
            places = [names.index(value) for value in found]
            ax.set_xticks(range(len(names)), names, rotation=30 if key == "layers" else 0)
        ax.plot(places, heights, ".", color=plots.NORMAL_COLOUR, alpha=0.6)
        ax.set_xlabel(key)

"""Figure of two runs' comparison; each function draws on the Axes that it is given."""

import numpy as np
from matplotlib.axes import Axes

from pages.plots import ANOMALOUS_COLOUR, NEUTRAL_COLOUR, NORMAL_COLOUR, THRESHOLD_STYLE
from studies.gap.compare import Comparison
from studies.gap.differences import DIFFERS, EQUAL, HARMLESS, ROUNDING, UNKNOWN
from studies.gap.record import Record

STATE_COLOURS = {
    EQUAL: NORMAL_COLOUR,
    ROUNDING: "#56B4E9",
    HARMLESS: "#56B4E9",
    DIFFERS: ANOMALOUS_COLOUR,
    UNKNOWN: "#bbbbbb",
}


def stage_states(ax: Axes, result: Comparison) -> None:
    """Draw each stage's state, in order, the first that parts in bold."""
    for row, finding in enumerate(result.findings):
        ax.barh(row, 1, color=STATE_COLOURS[finding.state])
        ax.text(0.5, row, finding.state, ha="center", va="center", color="white", fontsize=8)
    ax.set_yticks(range(len(result.findings)), [f.stage for f in result.findings])
    if result.first is not None:
        number = [f.stage for f in result.findings].index(result.first.stage)
        ax.get_yticklabels()[number].set_fontweight("bold")
    ax.invert_yaxis()
    ax.set_xticks([])
    ax.set_title("stage by stage", fontsize=10)


def scores_against_scores(ax: Axes, a: Record, b: Record) -> None:
    """Draw the scores of one run over the other's, joined by id, with both thresholds."""
    names = [name for name in a.scores or {} if name in (b.scores or {})]
    if not names:
        ax.text(0.5, 0.5, "no scores in both records", ha="center", transform=ax.transAxes)
        return
    one, two = (np.array([record.scores[name] for name in names]) for record in (a, b))
    flags = [record.flags() or {} for record in (a, b)]
    changed = np.array([flags[0].get(n) != flags[1].get(n) for n in names], dtype=bool)
    for own, colour, words in (
        (~changed, NEUTRAL_COLOUR, "same flag"),
        (changed, ANOMALOUS_COLOUR, "flag differs"),
    ):
        label = f"{words} ({own.sum()})"
        ax.plot(one[own], two[own], "o", color=colour, markersize=4, alpha=0.7, label=label)
    for draw, record in ((ax.axvline, a), (ax.axhline, b)):
        if record.threshold:
            draw(record.threshold.threshold, **THRESHOLD_STYLE)
    ax.plot([], [], **THRESHOLD_STYLE, label="thresholds")
    ax.set_xlabel("image score, first run")
    ax.set_ylabel("image score, second run")
    ax.legend()

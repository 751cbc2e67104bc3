"""Figures of the interventions and the mechanism; each function draws on the Axes it is given."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from pages.plots import ANOMALOUS_COLOUR, NEUTRAL_COLOUR, NORMAL_COLOUR, plain
from studies.gap.effects import Effect, tried
from studies.gap.factors import GROUPS
from studies.gap.interventions import CHOICE, MISTAKE, NUMERICAL
from studies.gap.row_orders import OrderEffect

KIND_COLOURS = {MISTAKE: ANOMALOUS_COLOUR, CHOICE: "#009E73", NUMERICAL: NORMAL_COLOUR}
LINE_STYLES = (":", "--", "-.", (0, (1, 4)))
LABEL_BOX = {"facecolor": "white", "alpha": 0.7, "pad": 0.6, "edgecolor": "none"}
NAMED = 2  # factors a group that are named in the figure


def group_strip(ax: Axes, effects: Sequence[Effect], reported: Mapping[str, float]) -> None:
    """Draw each factor as a dot in its group, by F1; without labels, by flags changed.

    Those farthest from the control are named.

    Parameters
    ----------
    effects : sequence of Effect
        The control first.
    reported : mapping of str to float
        Printed values, drawn as lines.
    """
    control = effects[0].row
    labelled = control.f1 is not None
    key = "f1" if labelled else "flags_changed"
    start = control.f1 if labelled else 0
    for number, group in enumerate(GROUPS):
        rows = [effect.row for effect in tried(effects) if effect.row.group == group]
        rows.sort(key=lambda row: -abs(getattr(row, key) - start))
        for place, row in enumerate(rows):
            height = number + 0.5 * (place / max(1, len(rows) - 1) - 0.5)
            value = getattr(row, key)
            ax.plot(value, height, "o", color=KIND_COLOURS[row.kind], markersize=5)
            if place < NAMED:
                side, gap = ("right", -6) if value > (0.5 if labelled else 50) else ("left", 6)
                ax.annotate(row.factor, (value, height), (gap, 4 - 9 * place), ha=side, va="center",
                            textcoords="offset points", fontsize=7, bbox=LABEL_BOX)  # fmt: skip
    for kind, colour in KIND_COLOURS.items():
        ax.plot([], [], "o", color=colour, label=kind)
    if labelled:
        for style, (name, value) in zip(LINE_STYLES, reported.items(), strict=False):
            ax.axvline(value, color=NEUTRAL_COLOUR, linestyle=style, label=f"{name} {value:g}")
        ax.axvline(control.f1, color="black", linewidth=1, label=f"control {control.f1:.3f}")
        ax.set_xlim(-0.02, 1.02)
    ax.set_yticks(range(len(GROUPS)), GROUPS)
    ax.set_ylim(len(GROUPS) - 0.5, -0.5)
    ax.set_xlabel("F1 over all test images" if labelled else "test images whose flag changes")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def order_intervals(
    ax: Axes, effects: Sequence[OrderEffect], marks: Mapping[str, float], printed: Sequence[float]
) -> None:
    """Draw the distribution of F1 under each kind of row order: mean, middle 95 %, and of parts.

    Parameters
    ----------
    marks : mapping of str to float
        Lines with a name: F1 by id, and by chance.
    printed : sequence of float
        Printed values.
    """
    for row, effect in enumerate(effects):
        ax.plot(effect.part, [row] * 2, color="#bbbbbb", linewidth=5, solid_capstyle="butt")
        ax.plot(effect.f1[1:], [row] * 2, color=NORMAL_COLOUR, linewidth=2)
        ax.plot(effect.f1[0], row, "o", color=NORMAL_COLOUR, markersize=5)
    ax.plot([], [], "o-", color=NORMAL_COLOUR, label="all images: mean, middle 95 %")
    ax.plot([], [], color="#bbbbbb", linewidth=5, label="a part of them: middle 95 %")
    for colour, (name, value) in zip(("black", ANOMALOUS_COLOUR), marks.items(), strict=True):
        ax.axvline(value, color=colour, linewidth=1.5, label=f"{name} {value:.3f}")
    for number, value in enumerate(np.unique(printed)):
        label = "printed elsewhere" if number == 0 else None
        ax.axvline(value, color=NEUTRAL_COLOUR, linestyle=":", label=label)
    ax.set_yticks(range(len(effects)), [plain(effect.name) for effect in effects], fontsize=8)
    ax.set_ylim(len(effects) - 0.5, -0.5)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel("F1")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))

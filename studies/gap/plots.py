"""Figures of the gap studies; each function draws on the Axes that it is given."""

from collections.abc import Mapping, Sequence

import numpy as np

from pages.plots import ANOMALOUS_COLOUR, NEUTRAL_COLOUR, NORMAL_COLOUR, THRESHOLD_STYLE, Axes
from studies.gap.records import Comparison

STATE_COLOURS = {
    "equal": NORMAL_COLOUR,
    "rounding": "#56B4E9",
    "no consequence": "#56B4E9",
    "differs": ANOMALOUS_COLOUR,
    "unknown": "#bbbbbb",
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


def scores_against_scores(ax: Axes, a: Mapping, b: Mapping) -> None:
    """Draw the scores of one run over the other's, joined by id, with both thresholds."""
    names = [name for name in a["scores"] if name in b["scores"]]
    one, two = (np.array([r["scores"][name] for name in names]) for r in (a, b))
    flags = [dict(r["submission"]) for r in (a, b)]
    changed = np.array([flags[0].get(n) != flags[1].get(n) for n in names], dtype=bool)
    for own, colour, words in (
        (~changed, NEUTRAL_COLOUR, "same flag"),
        (changed, ANOMALOUS_COLOUR, "flag differs"),
    ):
        label = f"{words} ({own.sum()})"
        ax.plot(one[own], two[own], "o", color=colour, markersize=4, alpha=0.7, label=label)
    ax.axvline(a["threshold"]["threshold"], **THRESHOLD_STYLE)
    ax.axhline(b["threshold"]["threshold"], **THRESHOLD_STYLE, label="thresholds")
    ax.set_xlabel("image score, first run")
    ax.set_ylabel("image score, second run")
    ax.legend()


# The words of `studies.gap.interventions`.
KIND_COLOURS = {
    "mistake": ANOMALOUS_COLOUR,
    "choice": "#009E73",
    "numerical or chance": NORMAL_COLOUR,
    "control": "black",
}


def likelihood_bars(ax: Axes, log10: Mapping[str, float]) -> None:
    """Draw each cause's log10 likelihood below the best one's; impossible ones are written out."""
    possible = [value for value in log10.values() if np.isfinite(value)]
    best, lowest = max(possible), min(possible)
    names = sorted(log10, key=lambda name: -log10[name])
    for row, name in enumerate(names):
        value = log10[name]
        if np.isfinite(value):
            ax.barh(row, value - best, color=NEUTRAL_COLOUR)
            words = "likeliest " if value == best else f"{value - best:.1f} "
            ax.text(value - best, row, words, va="center", ha="right", fontsize=8)
        else:
            ax.text(lowest - best, row, "impossible", va="center", color=ANOMALOUS_COLOUR)
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(1.15 * min(lowest - best, -1), None)
    ax.set_xlabel("log10 Bayes factor against the best cause")


def variant_grid(ax: Axes, rows: Sequence[Mapping[str, object]], *, floor: float = -6.0) -> None:
    """Draw log10 Bayes factors against each variant's best cause as a grid of numbers."""
    causes = [key for key in rows[0] if key != "variant"]
    values = np.array([[row[cause] for cause in causes] for row in rows], dtype=float)
    shown = np.maximum(values - values.max(axis=1, keepdims=True), 10 * floor)
    image = ax.imshow(np.maximum(shown, floor), cmap="cividis", aspect="auto", vmin=floor, vmax=0)
    for (row, column), value in np.ndenumerate(shown):
        text = "best" if value == 0 else f"{value:.1f}" if value > 10 * floor else "no"
        colour = "black" if value > floor / 2 else "white"
        ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    ax.grid(False)
    ax.set_xticks(range(len(causes)), causes, rotation=35, ha="right", fontsize=8)
    ax.set_yticks(range(len(rows)), [row["variant"] for row in rows], fontsize=8)
    ax.figure.colorbar(image, ax=ax, label="log10 Bayes factor against the best")


def ranked_factors(
    ax: Axes,
    rows: Sequence[Mapping[str, object]],
    reported: Mapping[str, float],
    *,
    control: float | None,
) -> None:
    """Draw each factor's F1 with its interval, lowest first; without labels, its flags changed."""
    labelled = control is not None
    key = "f1" if labelled else "flags_changed"
    ordered = sorted(rows, key=lambda row: row[key] if labelled else -row[key])
    for number, row in enumerate(ordered):
        colour = KIND_COLOURS[row["kind"]]
        if labelled:
            ax.plot([row["f1_low"], row["f1_high"]], [number] * 2, color=colour, linewidth=1)
        ax.plot(row[key], number, "o", color=colour, markersize=5)
    ax.set_yticks(range(len(ordered)), [row["factor"] for row in ordered], fontsize=8)
    ax.set_ylim(len(ordered) - 0.4, -0.6)
    for kind in dict.fromkeys(row["kind"] for row in ordered):
        ax.plot([], [], "o", color=KIND_COLOURS[kind], label=kind)
    if labelled:
        for style, (name, value) in zip((":", "--", "-.", (0, (1, 4))), reported.items()):  # noqa: B905
            ax.axvline(value, color=NEUTRAL_COLOUR, linestyle=style, label=f"{name} {value:g}")
        ax.axvline(control, color="black", linewidth=1, label=f"control {control:.3f}")
        ax.set_xlim(-0.02, 1.02)
        ax.set_xlabel("F1 (95 % bootstrap interval over test images)")
    else:
        ax.set_xlabel("test images whose flag changes")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def factor_weights(
    ax: Axes, rows: Sequence[tuple[str, str, float]], *, decisive: float, floor: float = -12.0
) -> None:
    """Draw each factor's log10 Bayes factor against permuted rows, likeliest first.

    Parameters
    ----------
    rows : sequence of (factor, kind, log10)
    decisive : float
        Factors this far below 0 are left of the dashed line.
    floor : float
        Lower values are drawn here, as arrows.
    """
    ordered = sorted(rows, key=lambda row: -row[2])
    for number, (_, kind, value) in enumerate(ordered):
        shape = "o" if value > floor else "<"
        ax.plot(max(value, floor), number, shape, color=KIND_COLOURS[kind], markersize=5)
    for kind in dict.fromkeys(row[1] for row in ordered):
        ax.plot([], [], "o", color=KIND_COLOURS[kind], label=kind)
    ax.axvline(0, color="black", linewidth=1, label="permuted rows")
    ax.axvline(-decisive, **THRESHOLD_STYLE, label=f"{10**decisive:g} times less likely")
    ax.set_yticks(range(len(ordered)), [row[0] for row in ordered], fontsize=8)
    ax.set_ylim(len(ordered) - 0.4, -0.6)
    ax.set_xlabel("log10 Bayes factor against permuted rows")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def permutation_histogram(
    ax: Axes, values: np.ndarray, marks: Mapping[str, float], reported: Mapping[str, float]
) -> None:
    """Draw the F1 of random row orders, with re-enacted orders and reported values as lines."""
    # An order changes only how many hits there are, so F1 takes few values: bins would leave gaps.
    steps, counts = np.unique(np.round(values, 6), return_counts=True)
    width = 0.9 * np.diff(steps).min() if len(steps) > 1 else 0.02
    ax.bar(steps, counts, width, color="#bbbbbb", label=f"{len(values)} random orders")
    colours = (NORMAL_COLOUR, ANOMALOUS_COLOUR, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    for number, (name, value) in enumerate(marks.items()):
        colour = colours[number % len(colours)]
        ax.axvline(value, color=colour, linewidth=2, label=f"{name}: {value:.3f}")
    for number, value in enumerate(reported.values()):
        label = "reported elsewhere" if number == 0 else None
        ax.axvline(value, color="black", linestyle=":", linewidth=1, label=label)
    ax.set_xlabel("F1")
    ax.set_ylabel("row orders")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))

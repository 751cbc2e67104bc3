"""Figures of the forensic study; each function draws on the Axes that it is given."""

from collections.abc import Mapping, Sequence
from math import isfinite, log10

from matplotlib.axes import Axes

from pages.plots import ANOMALOUS_COLOUR, NEUTRAL_COLOUR, NORMAL_COLOUR, THRESHOLD_STYLE
from studies.gap.enumeration import FlagCounts
from studies.gap.forensics import DECISIVE, log10_factor
from studies.gap.information import Profile
from studies.gap.investigation import Variant, Weighed

EVIDENCE_STYLES = ((NORMAL_COLOUR, "o"), (ANOMALOUS_COLOUR, "D"))  # without and with the evidence
EVIDENCE_WORDS = ("printed values alone", "with another entrant's value")


def flag_count_strip(ax: Axes, counts: Sequence[FlagCounts], flags: int, n_images: int) -> None:
    """Mark the numbers of flags that print each model's pair, a row a reading.

    Parameters
    ----------
    counts : sequence of FlagCounts
    flags : int
        Flags of a run with F1 = 1; drawn as a line.
    n_images : int
        End of the axis.
    """
    words = {"rest": "private = rest", "all": "private = all images"}
    names = []
    for row, each in enumerate(counts):
        colour, marker = EVIDENCE_STYLES[each.evidence]
        ax.plot(each.counts, [row] * len(each.counts), marker, color=colour, markersize=4)
        if not each.counts:
            ax.text(n_images / 2, row, "no split prints it", va="center", fontsize=8)
        names.append(f"{each.model}, {words[each.private]}, {each.digits}")
    for (colour, marker), label in zip(EVIDENCE_STYLES, EVIDENCE_WORDS, strict=True):
        ax.plot([], [], marker, color=colour, label=label)
    ax.axvline(flags, **THRESHOLD_STYLE, label=f"F1 = 1 over all images: {flags} flags")
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, n_images)
    ax.set_xlabel("images flagged in all")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def information_curves(
    ax: Axes, profiles: Mapping[str, Profile], *, floor: float = -8.0, least: float = -0.5
) -> None:
    """Draw how likely the printed values are over the information in the flags.

    Parameters
    ----------
    profiles : mapping of str to Profile
        At most two, without and with the evidence.
    floor : float
        Lowest log10 Bayes factor that is drawn.
    least : float
        Lower end of the information axis.
    """
    last = least
    for (colour, _), (name, profile) in zip(EVIDENCE_STYLES, profiles.items(), strict=False):
        if not profile.none:
            continue
        factors = [log10_factor(value, profile.none) for value in profile.likelihood]
        shown = [value if value >= floor else float("nan") for value in factors]
        ax.plot(profile.information, shown, color=colour, label=name)
        last = max(last, *(x for x, value in zip(profile.information, factors, strict=True)
                           if value >= floor))  # fmt: skip
    ax.axhline(-DECISIVE, **THRESHOLD_STYLE, label=f"{10**DECISIVE:g} times less likely than none")
    ax.axvline(0, color=NEUTRAL_COLOUR, linestyle=":", linewidth=1)
    ax.set_xlim(least, min(1, last + 0.05))
    ax.set_ylim(floor, 1)
    ax.set_xlabel("information in the flags (sensitivity minus false-alarm rate)")
    ax.set_ylabel("log10 Bayes factor against none")
    ax.legend(fontsize=8)


def cause_factors(ax: Axes, weighed: Mapping[str, Weighed], *, floor: float = -12.0) -> None:
    """Draw each cause's log10 Bayes factor against the likeliest, without and with the evidence.

    Lower values than ``floor`` are drawn there as arrows with their value; impossible ones say so.
    """
    possible = [each for each in weighed.values() if each.possible]
    names = sorted(possible[-1].likelihood, key=lambda n: -possible[-1].likelihood[n])
    for number, (title, each) in enumerate(weighed.items()):
        colour, marker = EVIDENCE_STYLES[number]
        ax.plot([], [], marker, color=colour, label=title)
        if not each.possible:
            continue
        best = log10(max(each.likelihood.values()))
        for row, name in enumerate(names):
            value = log10(each.likelihood[name]) - best if each.likelihood[name] else -float("inf")
            place = row + 0.24 * (number - 0.5)
            ax.plot(max(value, floor), place, marker if value > floor else "<", color=colour)
            if value <= floor:
                words = f" {value:.0f}" if isfinite(value) else " impossible"
                ax.text(floor + 0.2, place, words, va="center", fontsize=7, color=colour)
    ax.axvline(-DECISIVE, **THRESHOLD_STYLE, label=f"{10**DECISIVE:g} times less likely")
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(floor - 0.5, 0.5)
    ax.set_xlabel("log10 Bayes factor against the likeliest cause")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def variant_bounds(ax: Axes, variants: Sequence[Variant]) -> None:
    """Draw, for each change of an assumption, the information that is decisively excluded from."""
    names = list(dict.fromkeys(variant.name for variant in variants))
    for variant in variants:
        colour, marker = EVIDENCE_STYLES[variant.evidence]
        place = names.index(variant.name) + 0.24 * (variant.evidence - 0.5)
        if variant.decisive_from is not None:
            ax.plot(variant.decisive_from, place, marker, color=colour, markersize=5)
        else:
            words = "impossible" if variant.factor is None else "no bound"
            ax.text(0.01, place, words, va="center", fontsize=7, color=colour)
    for evidence in sorted({variant.evidence for variant in variants}):
        colour, marker = EVIDENCE_STYLES[evidence]
        ax.plot([], [], marker, color=colour, label=EVIDENCE_WORDS[evidence])
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"information from which it is {10**DECISIVE:g} times less likely than none")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))

"""Row orders as a mechanism, in figures and sentences; and the whole study, summed up."""

from collections.abc import Mapping, Sequence

import numpy as np

from studies.gap.forensics import strength
from studies.gap.row_orders import OrderEffect, RowOrders, chance_f1, order_effect
from studies.gap.words import compared, listed

EXT4, SHUFFLED = "ext4 directory, any hash seed", "test loader that shuffles"


def enact_all(
    kinds: Sequence[RowOrders], flags: np.ndarray, labels: np.ndarray | None, *, draws: int,
    seed: int,
) -> list[OrderEffect]:  # fmt: skip
    """Measure every kind of row order."""
    return [order_effect(kind, flags, labels, draws=draws, seed=seed) for kind in kinds]


def figures(
    effects: Sequence[OrderEffect],
    flags: np.ndarray,
    labels: np.ndarray | None,
    values: Mapping[str, float],
) -> dict[str, object]:
    """Gather what the row orders do, for JSON; without labels there is no F1.

    Parameters
    ----------
    values : mapping of str to float
        Printed values: which of them lie in the middle 95 % of parts, rows shuffled.
    """
    kind = {effect.name: effect for effect in effects}
    found: dict[str, object] = {
        "n_images": len(flags),
        "n_flagged": int(np.sum(flags)),
        "kinds_that_move_rows": sum(effect.moved > 0 for effect in effects),
        "kinds_that_do_not": [effect.name for effect in effects if effect.moved == 0],
        "flags_wrong_by_shuffling": kind[SHUFFLED].wrong,
    }
    if labels is None:
        return found
    low, high = kind[SHUFFLED].part
    true = (labels == 1).sum()
    hits = np.sum(flags[labels == 1])
    return found | {
        "f1_by_id": float(2 * hits / max(1, np.sum(flags) + true)),
        "f1_by_chance": chance_f1(labels, flags),
        "f1_raw_order_mean": kind[EXT4].f1[0],
        "f1_raw_order_low": kind[EXT4].f1[1],
        "f1_raw_order_high": kind[EXT4].f1[2],
        "f1_random_order_mean": kind[SHUFFLED].f1[0],
        "f1_random_order_low": kind[SHUFFLED].f1[1],
        "f1_random_order_high": kind[SHUFFLED].f1[2],
        "printed_inside_parts": [name for name, value in values.items() if low <= value <= high],
        "n_printed": len(values),
    }


def effect_rows(effects: Sequence[OrderEffect]) -> list[dict[str, object]]:
    """Tabulate the row orders, a row a kind."""
    return [
        {
            "row order": effect.name,
            "how": effect.how,
            "orders": effect.n_orders,
            "rows out of place": f"{effect.moved:.0f}",
            "flags wrong by the join": f"{effect.wrong:.0f}",
            "mean F1": None if effect.f1 is None else effect.f1[0],
            "middle 95 %": "" if effect.f1 is None else f"{effect.f1[1]:.2f} to {effect.f1[2]:.2f}",
            "over a part": "" if effect.part is None else "{:.2f} to {:.2f}".format(*effect.part),
        }
        for effect in effects
    ]


def answer(forensics: Mapping, factors: Mapping, found: Mapping) -> str:
    """Sum up the study in Markdown: certain, likely, a hypothesis, not to be known, what settles.

    Parameters
    ----------
    forensics, factors, found : mapping
        What the three parts wrote: ``gap_forensics.json``, ``gap_interventions.json``, `figures`.
    """
    weighed = forensics["with_evidence"] or forensics["printed"]
    others = forensics["with_evidence"] is not None and forensics["reading"]["other_private"]
    parts = [in_short(found)] if "f1_by_id" in found else []
    parts.append(f"**Certain.** {certain(weighed, others, factors, found)}")
    if weighed is None:
        parts.append("**The printed values** come from no cause looked at; see notebook 21.")
    else:
        parts.append(f"**Likely.** {likely(weighed)}")
    parts.append(
        f"**A hypothesis, not a result: row order.** {hypothesis(weighed, factors, found)}"
    )
    parts.append(
        "**Not to be known.** Whether the team's script did this: it was not seen, and that both "
        "systems ran the same code is an assumption. Any mistake that leaves flags without "
        "information prints the same."
    )
    parts.append(
        f"**What would settle it.** One file, the submission behind the printed values: a number "
        f"of flags other than the other run's {forensics['flags_of_a_perfect_run']} excludes that "
        f"only rows moved; the same number, beside the other run's submission, shows the order."
    )
    return "\n\n".join(parts)


def in_short(found: Mapping) -> str:
    """Answer the notebook's question: what moved rows do to this run's F1."""
    fell = found["f1_raw_order_mean"] < found["f1_by_id"]
    return (
        f"**In short.** {'Yes' if fell else 'Not here'}: with the same flags, rows written in a "
        f"directory's own order take F1 from {found['f1_by_id']:.3f} to "
        f"{found['f1_raw_order_mean']:.3f} on average ({found['f1_raw_order_low']:.2f} to "
        f"{found['f1_raw_order_high']:.2f} in the middle 95 %), shuffled rows to "
        f"{found['f1_random_order_mean']:.3f}; chance gives {found['f1_by_chance']:.3f}. Detector, "
        f"scores, threshold and the number of flags stay the same."
    )


def certain(weighed: Mapping | None, others: str | bool, factors: Mapping, found: Mapping) -> str:
    """Say what enumeration and this pipeline's own runs exclude or show.

    Parameters
    ----------
    others : str or bool
        Another entrant's value, where it was used.
    """
    text = ""
    if weighed is not None:
        fewest = {k: v for k, v in weighed["fewest_flags_changed"].items() if v is not None}
        words = f"; by another entrant's {others}" if others else ""
        moved = [f"{name} at least {count}" for name, count in fewest.items() if count]
        if moved:
            text += (
                f"If F1 = 1 was over all images, moving the rows of that run alone cannot print "
                f"all the values: flags must have changed as well ({listed(moved)}{words}). "
            )
    text += (
        f"Here, {factors['n_numerical']} changes of arithmetic, seeds and machine moved at most "
        f"{factors['largest_numerical_change']} of {found['n_images']} flags"
    )
    if "f1_by_id" not in found:
        return text + ". Without labels no F1 is known."
    return text + (f", and F1 by at most {factors['largest_numerical_f1_change']:.3f}.")


def likely(weighed: Mapping) -> str:
    """Say what the flags told of the images, and against whom that was weighed."""
    factor = weighed["log10_no_information_against_rival"]
    if factor is None or factor <= 0:
        return f"The flags carried information: the likeliest cause is *{weighed['likeliest']}*."
    text = (
        f"The flags behind the printed values carried little or no information of the images "
        f"(below {weighed['information_below_with_95_percent']:.2f} of 1 with 95 % probability)"
    )
    bound = weighed["information_decisively_below"]
    if bound is not None:
        text += f"; from {bound:.2f} on it is decisively excluded"
    return text + (
        f". None at all is {compared(factor)} than its likeliest rival, "
        f"*{weighed['informed_rival']}* ({strength(factor)})."
    )


def hypothesis(weighed: Mapping | None, factors: Mapping, found: Mapping) -> str:
    """Set row order beside its rivals."""
    text = ""
    factor = (weighed or {}).get("log10_one_order_against_rival")
    if factor is not None:
        text += (
            f"One common order for both models is {compared(factor)} than "
            f"*{weighed['one_order_rival']}* ({strength(factor)}). "
        )
    if "printed_inside_parts" in found:
        text += (
            f"{len(found['printed_inside_parts'])} of {found['n_printed']} printed values lie in "
            f"the middle 95 % of what shuffled rows give over parts of this test set. "
        )
    rivals = [name for name in factors["reach_all"] if not name.startswith("rows by position")]
    if rivals:
        text += f"So could print all of them: {listed([f'*{name}*' for name in rivals])}. "
    if found["kinds_that_do_not"]:
        kinds = listed([f"*{name}*" for name in found["kinds_that_do_not"]])
        text += f"The mistake stays hidden where the listing is sorted ({kinds})."
    return text.strip()


def metrics(forensics: Mapping, factors: Mapping, found: Mapping) -> dict[str, object]:
    """Gather the study's figures for ``metrics/gap.json``; what is unknown is left out."""
    chosen = {key: value for key, value in found.items() if isinstance(value, float)}
    for key in ("n_factors", "largest_numerical_change", "largest_numerical_f1_change"):
        chosen[key] = factors[key]
    chosen["n_factors_that_could_print_all"] = len(factors["reach_all"])
    names = (
        "log10_no_information_against_rival",
        "log10_one_order_against_rival",
        "information_below_with_95_percent",
        "information_decisively_below",
        "fewest_flags_changed",
    )
    for block in ("printed", "with_evidence"):
        chosen[block] = {name: (forensics[block] or {}).get(name) for name in names}
    return _known(chosen)


def _known(values: Mapping) -> dict[str, object]:
    nested = {k: _known(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    return {key: value for key, value in nested.items() if value not in (None, {})}

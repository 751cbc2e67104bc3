"""What the interventions show, in sentences whose numbers are computed."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from html import escape
from importlib.metadata import version

from pages.report import markdown_table
from studies.gap.case import TAGGED, default_tag
from studies.gap.effects import Effect, interval
from studies.gap.enumeration import PARTS, Reading, Reported, named_values
from studies.gap.interventions import MISTAKE
from studies.gap.words import listed


def findings(
    effects: Sequence[Effect], found: Mapping, models: Sequence[Reported], reading: Reading
) -> str:
    """Answer in Markdown: what moved little, what could print the values, what is not known.

    Parameters
    ----------
    found : mapping
        What `studies.gap.effects.summary` returns.
    """
    certain = f"{numerical(effects, found)} {in_whole_numbers(found['whole_numbers'])}".strip()
    parts = [f"**Certain, of this pipeline on these images.** {certain}"]
    if found["control_f1"] is None:
        parts.append("**Without labels** no F1 is known: nothing is compared with printed values.")
    else:
        likely = reaching(effects, found, models)
        parts.append(f"**Likely.** {likely} {missed(models, reading)}")
    parts.append(
        "**Not to be known from here.** Which of them happened: a factor that could print the "
        "values need not have. Detector, images and code are others there. Caps on the instruction "
        "set emulate older processors on this one; intervals take each image of a class as alike."
    )
    parts.append(
        "**What would settle it.** The submission behind the printed values: an order keeps the "
        "number of flags, another threshold or network does not."
    )
    return "\n\n".join(parts)


def numerical(effects: Sequence[Effect], found: Mapping) -> str:
    """Say how far changes of arithmetic, seeds and machines moved flags and F1."""
    control = effects[0].row
    text = (
        f"The control flags {control.n_flagged} images. Of {found['n_numerical']} changes of "
        f"seeds, search, precision, batches, threads, instruction sets and training order, "
        f"{found['numerical_without_effect']} change no flag; the widest changes "
        f"{found['largest_numerical_change']} (*{found['widest_numerical']}*)."
    )
    if control.f1 is not None:
        text += (
            f" F1 is {control.f1:.3f} in the control and moves by at most "
            f"{found['largest_numerical_f1_change']:.3f} among them."
        )
    return text


def in_whole_numbers(found: Mapping) -> str:
    """Say what machines and libraries cannot change where all sums are exact."""
    n, same = len(found["changes"]), len(found["same_bits"])
    if not n:
        return ""
    text = (
        f"In whole numbers, the pipeline's own arithmetic, {same} of {n} changes of machine and "
        f"libraries ({listed(found['changes'])}) left every score's bits as they were; in float32 "
        f"{len(found['float32_other_bits'])} of the same changes moved some."
    )
    if same == n:
        text += (
            " There processor, threads and library versions cannot change a flag, by construction: "
            "whatever remains is data, code or order."
        )
    return text


def reaching(effects: Sequence[Effect], found: Mapping, models: Sequence[Reported]) -> str:
    """Name the factors whose predictions hold all printed values, and those that hold none."""
    n_values = len(named_values(models))
    control = effects[0]
    text = (
        f"Each factor's rates were put into the reported test set. The control would print "
        f"{interval(control.public)} (public) and {interval(control.private)} (private) in 95 of "
        f"100 cases. "
    )
    mistakes = [name for name, kind in found["reach_all"].items() if kind == MISTAKE]
    others = found["reach_all_without_mistake"]
    if mistakes or others:
        text += f"All {n_values} printed values lie in what {len(mistakes) + len(others)} of "
        text += f"{found['n_factors']} factors would print. "
    else:
        text += f"No factor would print all {n_values} values. "
    if mistakes:
        text += f"Mistakes: {listed([f'*{name}*' for name in mistakes])}. "
    text += (
        f"Of what is no mistake: {listed([f'*{name}*' for name in others])}. "
        if others
        else "None of what is no mistake is among them. "
    )
    return text + f"{len(found['reach_none'])} factors would print none of them."


def missed(models: Sequence[Reported], reading: Reading) -> str:
    """Say how many anomalous images would have to pass unseen, with no false alarm."""
    value = max(map(Fraction, (getattr(m, part) for m in models for part in PARTS)))
    positives = reading.n_anomalous
    hits = int(positives * value / (2 - value))  # F1 = 2 TP / (TP + anomalous images)
    return (
        f"Missed images alone, such as those without the device, give {float(value):g} over all "
        f"images only where at least {positives - hits} of the {positives} anomalous ones pass."
    )


def names_table(records: Sequence[Mapping]) -> str:
    """Tabulate which weights a bare name means, here and in recorded versions of timm."""
    return markdown_table(
        [
            {
                "name": name,
                f"timm {version('timm')}": default_tag(name),
                **{f"timm {r['versions']['timm']}": r["default_tags"].get(name) for r in records},
            }
            for name in TAGGED
        ]
    )


def folded(summary: str, rows: Sequence[Mapping[str, object]]) -> str:
    """Put a table below a fold, as HTML; Markdown inside of HTML is not read everywhere."""

    def line(values: Sequence[object], tag: str) -> str:
        texts = [
            "" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in values
        ]
        return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts) + "</tr>"

    body = "".join(line(list(row.values()), "td") for row in rows)
    head = line(list(rows[0]), "th")
    return (
        f"<details><summary>{escape(summary)}</summary>"
        f"<table><thead>{head}</thead><tbody>{body}</tbody></table></details>"
    )

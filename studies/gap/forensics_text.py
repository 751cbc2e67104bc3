"""What the printed values say, in sentences whose numbers and verdicts are all computed."""

from collections.abc import Sequence
from fractions import Fraction

from studies.gap.enumeration import FlagCounts, Reading, matching_tables, splits
from studies.gap.forensics import (
    DECISIVE,
    IN_ORDER,
    NO_INFORMATION,
    strength,
)
from studies.gap.investigation import AMOUNTS, ONE_ORDER, Investigation, private_anomalous
from studies.gap.words import compared, listed, times


def findings(study: Investigation) -> str:
    """Answer in Markdown: what is certain, what is likely, what cannot be known, what would settle.

    With printed values that no split gives, says that instead.
    """
    if not study.main.possible:
        return impossible(study)
    return "\n\n".join(
        [
            f"**Certain.** {certain(study)}",
            f"**Likely.** {likely(study)}",
            f"**A hypothesis, not a result: row order.** {row_order(study)}",
            f"**Not to be known from {2 * len(study.models)} printed values.** {unknowable(study)}",
            f"**What would settle it.** {settle(study)}",
        ]
    )


def impossible(study: Investigation) -> str:
    """Say that the values contradict the test set, or each other."""
    reading = study.main.reading
    with_ = f" and another entrant's {reading.other_private}" if reading.other_private else ""
    return (
        f"**No cause looked at prints these values.** No split of {reading.n_images} images with "
        f"{reading.n_anomalous} anomalous ones prints them together{with_} with a number of flags "
        f"that is looked at: a value, the composition of the test set or the reading is wrong."
    )


def certain(study: Investigation) -> str:
    """Say what enumeration alone excludes."""
    evident = study.evident
    texts = [evidence_sentence(evident.reading)] if evident is not None else []
    n_anomalous = study.plain.reading.n_anomalous
    texts.append(
        f"A run with F1 = 1 over all images raised exactly {n_anomalous} flags, and no reordering "
        f"changes their number."
    )
    for model in study.models:
        own = [count for count in study.counts if count.model == model.name]
        texts.append(reordering_sentence(model.name, own, n_anomalous))
    return " ".join(texts)


def evidence_sentence(reading: Reading) -> str:
    """Say what another entrant's private value tells of the split."""
    held = private_anomalous(reading)
    if not held:
        return f"No split prints the other entrant's {reading.other_private}."
    fractions, hits = set(), set()
    for size, count in splits(reading)[0]:
        positives = reading.n_anomalous - count
        for tp, fp in matching_tables(
            reading.other_private, reading.n_images - size, positives, rounding=reading.rounding
        ).tolist():
            fractions.add(Fraction(2 * tp, tp + fp + positives))
            hits.add((tp, positives - tp + fp))
    text = f"The other entrant's {reading.other_private} "
    if len(fractions) == 1 and len(hits) == 1:
        [(tp, errors)] = hits
        text += (
            f"can only be {next(iter(fractions))}: {tp} true positives and {errors} "
            f"error{'s' * (errors != 1)}. The private part "
        )
    else:
        text += "leaves several fractions. By it the private part "
    words = listed(held, "or") if len(held) < 5 else f"{held[0]} to {held[-1]}"
    text += f"holds {words} of the {reading.n_anomalous} anomalous images"
    everything = Reading(**{**reading.__dict__, "private": "all"})
    return text + (", so it is not all images." if not splits(everything)[0] else ".")


def reordering_sentence(name: str, own: Sequence[FlagCounts], flags: int) -> str:
    """Say whether a model's pair can come from a perfect run's flags in another order."""
    known = [count for count in own if count.evidence] or list(own)
    fitting = [count for count in known if count.counts]
    if not fitting:
        return f"No number of flags prints {name}'s pair."
    words = {"rest": "the rest", "all": "all images"}
    able = sorted({words[count.private] for count in fitting if flags in count.counts})
    if able:
        only = "only if" if len(able) < len({count.private for count in fitting}) else "if"
        where = " or ".join(able)
        return (
            f"{name}'s pair can come from exactly {flags} flags, {only} the private part is "
            f"{where}."
        )
    nearest = min(count.distance(flags) for count in fitting)
    at = sorted({c for each in fitting for c in each.counts if abs(c - flags) == nearest})
    text = (
        f"{name}'s pair cannot come from exactly {flags} flags under any split; the nearest number "
        f"is {listed(at, 'or')}. So *the same flags, reordered* is excluded for {name}, unless at "
        f"least {nearest} flag{'s' * (nearest != 1)} changed as well"
    )
    if any(count.after_private for count in fitting):
        text += " or F1 = 1 was over the private part alone"
    loose = [count for count in own if not count.evidence and count.counts]
    least = min(count.distance(flags) for count in loose)
    if least < nearest:
        text += (
            f" (without the other entrant's value the private part may be all images: "
            f"{'then ' + str(flags) + ' flags can' if least == 0 else f'then {least} suffices'})"
        )
    return text + "."


def likely(study: Investigation) -> str:
    """Say what the flags told of the images, as a bound and as factors."""
    weighed, profile = study.main, study.main.profile
    rival = weighed.best(blind=False)
    factor = weighed.factor(NO_INFORMATION, rival)
    if factor <= 0:
        return (
            f"The flags carried information: *{rival}* is {times(factor)} likelier than flags "
            f"without any ({strength(factor)}){other_evidence(study, NO_INFORMATION, rival)}."
        )
    chance = 1 / (1 + 10**-factor)
    bound = profile.decisive_from()
    text = (
        f"The flags carried little or no information. Information is sensitivity minus false-alarm "
        f"rate; 0 is chance, 1 is perfect. It is below {profile.upper_bound():.2f} with 95 % "
        f"probability, if all from -1 to 1 was as likely before"
    )
    if bound is not None:
        text += (
            f", and every value from {bound:.2f} on is at least {10**DECISIVE:g} times less likely "
            f"than none (decisive)"
        )
    text += (
        f". None at all is {times(factor)} likelier than the likeliest cause with information, "
        f"*{rival}* ({strength(factor)}; {100 * chance:.0f} % if both were as likely before)"
        f"{other_evidence(study, NO_INFORMATION, rival)}. "
    )
    mean, best = profile.factors(AMOUNTS[0])
    text += (
        f"How much can be told depends on the rival: against at least {AMOUNTS[0]:g}, none is "
        f"{compared(mean)} on average, and {compared(best)} than the amount that suits the values "
        f"best ({strength(best)}). "
    )
    wins = [variant for variant in study.variants if variant.factor is not None]
    held = sum(variant.factor > 0 for variant in wins)
    working = weighed.factor(NO_INFORMATION, IN_ORDER)
    bounds = [variant.decisive_from for variant in wins if variant.decisive_from is not None]
    if bounds:
        spread = f", and the decisive bound lies between {min(bounds):.2f} and {max(bounds):.2f}"
        missing = len(wins) - len(bounds)
        spread += f" ({missing} without one)" if missing else ""
    else:
        spread = ""
    return text + (
        f"A detector that works, rows in order, is {times(working)} less likely. No information "
        f"beats every cause with information in {held} of {len(wins)} possible readings{spread}."
    )


def other_evidence(study: Investigation, for_: str, against: str) -> str:
    """Give the same factor without the other entrant's value, where there is one."""
    if study.evident is None or not study.plain.possible:
        return ""
    factor = study.plain.factor(for_, against)
    words = "without the other entrant's value"
    return f"; {words} {times(factor)}" + (" less" if factor < 0 else "")


def row_order(study: Investigation) -> str:
    """Weigh a common row order against the likeliest rival, apart from the result."""
    weighed = study.main
    if ONE_ORDER not in weighed.likelihood:
        return "A common row order predicts hits that go together; it is worked out for two models."
    rival = weighed.rival_of_one_order()
    if not weighed.likelihood[ONE_ORDER]:
        return "Two working detectors moved by one common row order cannot print these values."
    factor = weighed.factor(ONE_ORDER, rival)
    more = "likelier" if factor > 0 else "less likely"
    return (
        f"Two working detectors whose rows one common order moved make hits that go together. That "
        f"is {times(factor)} {more} than its likeliest rival, *{rival}* ({strength(factor)})"
        f"{other_evidence(study, ONE_ORDER, rival)}. Rows moved for each model apart, flags drawn "
        f"at random and a network that sees nothing are one and the same cause to these values. "
        f"If only a part of the rows moved, as much information is left as rows stayed."
    )


def unknowable(study: Investigation) -> str:
    """List what the values leave open."""
    reading = study.main.reading
    small = study.main.profile.factors(AMOUNTS[0])[1]
    held = private_anomalous(reading)
    text = (
        "Why the flags told so little: row order, random or broken features, other weights and "
        "wrong ids print the same. Which system, code or person was at fault: that both ran *the "
        "same code* is an assumption. Which images were flagged, and how large the public part was"
    )
    if len(held) > 1:
        text += f" (its share of the {reading.n_anomalous} anomalous images has {len(held)} values)"
    text += ". "
    if small < DECISIVE:
        text += f"A little information ({AMOUNTS[0]:g}) cannot be told from none. "
    return text + (
        "The composition of the test set, the even spread of flag counts and of information, and "
        "that every split that prints another entrant's value stays as likely as it was, are "
        "assumptions; the readings below vary the most of them."
    )


def settle(study: Investigation) -> str:
    """Name the file that would decide."""
    count = study.main.reading.n_anomalous
    return (
        f"One file: the submission behind the printed values (or that of the F1 = 1 run). Its "
        f"number of flags says at once whether it can be the other's {count} in another order; "
        f"beside the other run's flags it gives the order itself, or shows that there is none."
    )

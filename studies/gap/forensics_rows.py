"""Tables of the forensic study, as rows for Markdown."""

from studies.gap.forensics import flag_window, strength
from studies.gap.investigation import AMOUNTS, Investigation, Weighed
from studies.gap.words import compared


def setting(study: Investigation) -> str:
    """Say what is looked at."""
    reading = study.plain.reading
    window = flag_window(reading, study.window)
    return (
        f"{reading.n_images} test images, {reading.n_anomalous} of them anomalous. Public parts of "
        f"{reading.public_sizes[0]} to {reading.public_sizes[-1]} images are taken as equally "
        f"likely, and so is every number of flags from {window[0]} to {window[-1]}. Given its "
        f"size, the public part is drawn at random."
    )


def count_rows(study: Investigation) -> list[dict[str, object]]:
    """Tabulate the numbers of flags that print each pair, a row each."""
    flags = study.plain.reading.n_anomalous
    words = {"rest": "the rest", "all": "all images"}
    return [
        {
            "model": each.model,
            "private part": words[each.private],
            "digits": each.digits,
            "other entrant's value used": each.evidence,
            "numbers of flags": len(each.counts),
            f"{flags} flags can": flags in each.counts,
            "nearest is off by": each.distance(flags),
            "F1 = 1 over the private part, reordered": each.after_private,
        }
        for each in study.counts
    ]


def information_rows(study: Investigation) -> list[dict[str, str]]:
    """Tabulate no information against at least so much, a row each."""
    rows = []
    for name, weighed in study.all_weighed.items():
        for least in AMOUNTS if weighed.possible else ():
            mean, best = weighed.profile.factors(least)
            rows.append(
                {
                    "evidence": name,
                    "none, against at least": f"{least:g}",
                    "on average": f"{compared(mean)} ({strength(mean)})",
                    "against the best-suited amount": f"{compared(best)} ({strength(best)})",
                }
            )
    return rows


def factor_rows(weighed: Weighed) -> list[dict[str, str]]:
    """Tabulate every cause's factor against the likeliest, a row each."""
    if not weighed.possible:
        return []
    best = max(weighed.likelihood, key=weighed.likelihood.__getitem__)
    rows = []
    for name in sorted(weighed.likelihood, key=weighed.likelihood.__getitem__, reverse=True):
        factor = weighed.factor(name, best)
        words = "impossible" if factor == float("-inf") else compared(factor)
        weight = strength(factor)
        if name == best:
            words, weight = "likeliest", ""
        rows.append({"cause": name, "against the likeliest": words, "weight": weight})
    return rows

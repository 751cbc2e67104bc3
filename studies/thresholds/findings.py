"""What the runs show, in words and tables made from their numbers."""

from collections.abc import Mapping, Sequence

import numpy as np

from ad.metrics import f1_score
from ad.params import CrossValidation
from pages.report import markdown_table
from studies.shared.rates import rate_in_words
from studies.thresholds.headline import Headline, Runs, fixed_f1, setters
from studies.thresholds.nested import NestedScores, fold_shift
from studies.thresholds.rules import PROTOCOL, threshold_of

HOLDS = "test images, training images, threshold, coresets, folds and seed"


def rules_in_words(table: Sequence[Mapping], nested: Sequence[NestedScores]) -> str:
    """Say what the protocol's false alarms are, and which promises are broken."""
    own = next(r for r in table if (r["rule"], r["aggregate"]) == (PROTOCOL, "max"))
    single = np.mean([(n.outer > threshold_of(PROTOCOL, n.inner)).mean() for n in nested])
    n, n_inner = own["normals"], round(np.mean([sum(map(len, part.inner)) for part in nested]))
    text = (
        f"The protocol flags {own['alarms']} of {n} unseen normals: **"
        f"{rate_in_words(own['alarms'], n)}**; scored by one fold's memory bank alone, "
        f"{rate_in_words(round(single * n), n)} are above the same threshold. It promises no rate; "
        f"for comparison, the largest of {n_inner} held-out scores promises "
        f"{1 / (n_inner + 1):.1%}."
    )
    promising = [row for row in table if row["promised"] is not None]
    more = [row for row in promising if row["promised"] < row["low"]]
    fewer = [row for row in promising if row["promised"] > row["high"]]
    kept = [row for row in promising if row not in more and row not in fewer]
    return (
        f"{text} Of {len(promising)} rules that promise a rate, {len(more)} give more false alarms "
        f"than promised by the 95 % interval, {len(fewer)} fewer. With {n} normals a rate of 1 % "
        f"is {n / 100:.0f} images: rates below that cannot be told apart here, whatever the rule."
        f"\n\nMore than promised: {_named(more)}.\n\nFewer than promised: {_named(fewer)}.\n\n"
        f"Not shown to break their promise: {_named(kept)}."
    )


def _named(rows: Sequence[Mapping]) -> str:
    """List rules by the way in which a new image's scores over the banks become one."""
    by_aggregate: dict[str, list[str]] = {}
    for row in rows:
        by_aggregate.setdefault(str(row["aggregate"]), []).append(f"`{row['rule']}`")
    listed = [
        f"with the {how} over banks {', '.join(names)}" for how, names in by_aggregate.items()
    ]
    return "; ".join(listed) or "none"


def p_values_in_words(found: Mapping[str, np.ndarray], rate: float, n_normals: int) -> str:
    """Say how often unseen normals have a p-value of the rate or less."""
    shares = {name: float((values <= rate).mean()) for name, values in found.items()}
    words = "; ".join(
        f"{name} {rate_in_words(round(share * n_normals), n_normals)}"
        for name, share in shares.items()
    )
    return (
        f"A conformal p-value of {rate:g} or less comes to so many of the unseen normals: {words}."
    )


def shift_in_words(nested: Sequence[NestedScores]) -> str:
    """Say how far the protocol's two halves shift, with the range over the outer parts."""
    whole, parts = fold_shift(nested), [fold_shift([part]) for part in nested]

    def of(key: str) -> str:
        values = [part[key] for part in parts]
        return f"{whole[key]:.2f} ({min(values):.2f} to {max(values):.2f} over the outer parts)"

    return (
        f"The bias is towards false alarms, twice: the maximum over banks lifts a normal's score "
        f"by {of('score_shift')} standard deviations, the mean of maxima lies "
        f"{of('threshold_shift')} below the largest held-out score. The banks agree with a "
        f"correlation of {of('correlation')}."
    )


def _span(interval: Sequence[float], sign: str = "") -> str:
    return f"{interval[0]:{sign}.3f} to {interval[1]:{sign}.3f}"


def headline_table(found: Sequence[Headline], table: Sequence[Mapping]) -> str:
    """Lay robust rules beside the pipeline's, a column each; the false alarms are the nested ones.

    Parameters
    ----------
    found : sequence of Headline
        The pipeline's rule first.
    table : sequence of mappings
        Rows of `compare_rules`, with the maximum over the folds.
    """
    alarms = {r["rule"]: r for r in table if r["aggregate"] == "max"}
    rows = {
        "threshold": [f"{each.threshold:.3f}" for each in found],
        "F1 (95 %, everything drawn again)": [f"{e.f1:.3f} ({_span(e.whole)})" for e in found],
        "minus the first (paired, Bonferroni)": [""]
        + [f"{each.difference:+.3f} ({each.low:+.3f} to {each.high:+.3f})" for each in found[1:]],
        "false alarms, unseen normals": [
            rate_in_words(alarms[e.rule]["alarms"], alarms[e.rule]["normals"])
            if e.rule in alarms
            else ""
            for e in found
        ],
    }
    names = [each.rule for each in found]
    return markdown_table(
        [{"": key, **dict(zip(names, cells, strict=True))} for key, cells in rows.items()]
    )


def headline_in_words(found: Sequence[Headline], runs: Runs) -> str:
    """Say how sure the headline is, and whether another rule is better."""
    own, others, repeats = found[0], found[1:], len(runs.training)
    text = (
        f"F1 of the pipeline's rule (`{own.rule}`) is **{own.f1:.3f}**. With the threshold held "
        f"fixed its 95 % interval is {_span(own.fixed)}; with {len(runs.seeds)} other seeds, folds "
        f"and coresets {_span(own.seeds)}; with the training images drawn again as well ({repeats} "
        f"runs) **{_span(own.whole)}**, {(own.whole[1] - own.whole[0]) / _width(own.fixed):.1f} "
        f"times as wide as the first. A set drawn again has about 63 % of its images, so these "
        f"runs are not centred on the headline: their median lies {own.middle - own.f1:+.3f} from "
        f"it. {repeats} runs place the ends roughly.\n\nOther rules, minus the pipeline's, paired, "
        f"the {len(others)} intervals together at 95 % (Bonferroni):"
    )
    for each in others:
        verdict = (
            "better" if each.low > 0 else "worse" if each.high < 0 else "not told apart from it"
        )
        text += (
            f" `{each.rule}`: F1 {each.f1:.3f}, {each.difference:+.3f} "
            f"({each.low:+.3f} to {each.high:+.3f}), {verdict}."
        )
    return text


def _width(interval: Sequence[float]) -> float:
    return max(interval[1] - interval[0], 1e-9)


def setter_in_words(
    runs: Runs, found: Headline, ids: Sequence[str], labels: np.ndarray, cv: CrossValidation
) -> str:
    """Say which training image the threshold hangs on, and what comes without it."""
    first = setters(runs.base, runs.folds, runs.rule)[0]
    f1 = f1_score(labels, runs.base.scores(cv.aggregate) > first.threshold)
    again, interval = fixed_f1(labels, runs.without, runs.rule, cv.aggregate, seed=0)
    return (
        f"The threshold hangs most on `{ids[first.number]}` (training image {first.number}): it "
        f"scores {first.score:.3f} in fold {first.fold}, the next image of the fold "
        f"{first.next_score:.3f}. Without its score the threshold goes from {found.threshold:.3f} "
        f"to {first.threshold:.3f} and F1 from {found.f1:.3f} to {f1:.3f}; run again without the "
        f"image, in no bank either, F1 is {again:.3f} ({_span(interval)} over test images, the "
        f"threshold held fixed)."
    )


def setters_table(runs: Runs, ids: Sequence[str]) -> str:
    """List the images that the folds' largest scores come from."""
    return markdown_table(
        [
            {
                "training image": ids[each.number],
                "fold": each.fold,
                "its score": each.score,
                "the fold's next": each.next_score,
                "threshold without its score": each.threshold,
            }
            for each in setters(runs.base, runs.folds, runs.rule)
        ]
    )


def summary(
    table: Sequence[Mapping], nested: Sequence[NestedScores], crossed: float
) -> dict[str, object]:
    """Give the figures of rules on unseen normals for the metrics."""
    own = next(r for r in table if (r["rule"], r["aggregate"]) == (PROTOCOL, "max"))
    conformal = next(r for r in table if r["rule"].startswith("conformal"))
    return {
        "protocol_false_alarm_rate": own["measured"],
        "protocol_low": own["low"],
        "protocol_high": own["high"],
        "conformal_false_alarm_rate": conformal["measured"],
        "cross_conformal_false_alarm_rate": crossed,
        **fold_shift(nested),
    }


def headline_summary(
    found: Sequence[Headline], runs: Runs, image: str, without: float
) -> dict[str, object]:
    """Give the headline's figures, and every rule's F1, for the metrics."""
    own = found[0]
    return {
        "headline": {
            "rule": own.rule,
            "f1": own.f1,
            "low": own.whole[0],
            "high": own.whole[1],
            "holds": HOLDS,
            "runs": len(runs.training),
            "low_threshold_fixed": own.fixed[0],
            "high_threshold_fixed": own.fixed[1],
            "low_seeds_and_folds": own.seeds[0],
            "high_seeds_and_folds": own.seeds[1],
            "threshold_hangs_on": image,
            "f1_without_it": without,
        },
        "rules": {
            each.rule: {"f1": each.f1, "low": each.whole[0], "high": each.whole[1]}
            for each in found
        },
    }

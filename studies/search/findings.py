"""What the search shows: tables, files and words, all from a run's numbers."""

from collections.abc import Mapping
from dataclasses import asdict

from pages.report import markdown_table
from studies.search.images import DECIDING
from studies.search.outcome import Outcome


def configurations_table(outcome: Outcome) -> str:
    """List the default, the choice, and the oracle's choice."""
    rated = outcome.rated
    return markdown_table(
        [
            {
                "configuration": words,
                "trial": number,
                **asdict(outcome.tried[number].choice),
                "ratio": f"{outcome.tried[number].choice.ratio:.4f}",
                "synthetic AUROC": outcome.values[number],
                "test AUROC (95 %)": outcome.interval(number) if rated else None,
                "test F1": outcome.f1s[number] if rated else None,
            }
            for words, number in outcome.marks().items()
        ]
    )


def kinds_table(outcome: Outcome) -> str:
    """List quality by kind of synthetic anomaly, and how each ranks the trials of the better half.

    Kinds that do not decide were scored afterwards.
    """
    return markdown_table(
        [
            {
                "kind": kind,
                "decides": kind in DECIDING,
                "AUROC, default": outcome.kinds[0][kind],
                "AUROC, chosen": outcome.kinds[outcome.chosen][kind],
                "rank correlation with the test, better half": (
                    outcome.correlation(outcome.better_half, kind) if outcome.rated else None
                ),
            }
            for kind in outcome.kinds[0]
        ]
    )


def csv_table(outcome: Outcome) -> tuple[list[str], list[list[object]]]:
    """Return the header and rows of search.csv."""
    settings, kinds = list(asdict(outcome.tried[0].choice)), list(outcome.kinds[0])
    behind, doubt = outcome.behind
    rows = [
        [
            number,
            *asdict(each.choice).values(),
            each.value,
            *outcome.kinds[number].values(),
            float(behind[number]),
            float(doubt[number]),
            float(outcome.aurocs[number]) if outcome.rated else None,
            float(outcome.f1s[number]) if outcome.rated else None,
        ]
        for number, each in enumerate(outcome.tried)
    ]
    last = ["behind_best", "standard_error", "test_auroc", "test_f1"]
    return ["trial", *settings, "objective", *kinds, *last], rows


def summary(outcome: Outcome) -> dict[str, object]:
    """Return the study's figures."""
    found: dict[str, object] = {
        "trials": len(outcome.tried),
        "chosen": asdict(outcome.tried[outcome.chosen].choice),
        "default_objective": float(outcome.values[0]),
        "chosen_objective": float(outcome.values[outcome.chosen]),
        "trials_within_one_standard_error": int(outcome.alike.sum()),
    }
    if not outcome.rated:
        return found
    for words, number in outcome.marks().items():
        word = words.partition(" ")[0]
        found[f"{word}_test_auroc"] = float(outcome.aurocs[number])
        found[f"{word}_test_f1"] = float(outcome.f1s[number])
    gain = outcome.difference(0, outcome.chosen)
    found |= dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True))
    correlations = {"better_half": outcome.half, "all": outcome.whole}
    if outcome.carrier:
        setting, value, rest = outcome.carrier
        correlations[f"without_{setting}_{value}"] = rest
    return found | {"rank_correlation": {key: asdict(c) for key, c in correlations.items()}}


def findings(outcome: Outcome, inputs: Mapping[str, object]) -> str:
    """Say in words what the search shows; ``inputs`` is what artifacts/inputs.json holds."""
    n_held = len(outcome.scored[0].normal)
    parts = [_choice_words(outcome, n_held)]
    if outcome.rated:
        parts += [_correlation_words(outcome), _test_words(outcome)]
    else:
        parts.append(
            "Without test labels of both classes nobody can tell here whether that choice is "
            "good. The synthetic anomalies are no forecast."
        )
    text = (
        f"The banks come from some of the normals and the thresholds from {n_held}, so these "
        f"figures are not those of the whole protocol; they compare configurations with each "
        f"other. One draw of normals, one seed."
    )
    if inputs["data"]["synthetic"]:
        text += " All images are synthetic, the test images too."
    return "\n\n".join([*parts, text])


def _choice_words(outcome: Outcome, n_held: int) -> str:
    chosen, (behind, doubt) = outcome.chosen, outcome.behind
    settings = ", ".join(
        f"{key} {f'{value:.3g}' if isinstance(value, float) else value}"
        for key, value in asdict(outcome.tried[chosen].choice).items()
    )
    return (
        f"Without a label the search takes trial {chosen}: {settings}. Its AUROC on synthetic "
        f"anomalies is {outcome.values[chosen]:.3f}, the default's {outcome.values[0]:.3f} "
        f"({behind[0]:.3f} below, standard error {doubt[0]:.3f}). {outcome.alike.sum()} of "
        f"{len(outcome.tried)} trials lie within one standard error of the best: with {n_held} "
        f"held-out images the search does not tell them apart."
    )


def _correlation_words(outcome: Outcome) -> str:
    half, whole = outcome.half, outcome.whole
    meaning = (
        "there too the synthetic anomalies rank the trials as the test images do, more or less"
        if half.low > 0
        else "there they rank the trials against the test images"
        if half.high < 0
        else "there they rank the trials no better than chance might"
    )
    text = (
        f"**Rank correlation of synthetic and test AUROC in the better half of the trials, where "
        f"the choice is made: {half}**, {half.n} trials; {meaning}. Over all {whole.n} trials it "
        f"is {whole}, which says less: "
    )
    if outcome.carrier is None:
        text += "the bad half tells itself apart from the good one."
    else:
        setting, value, rest = outcome.carrier
        removed = f"without the {whole.n - rest.n} trials of {setting} {value} it is {rest}"
        text += (
            f"much of it is {setting} {value} against the rest, and {removed}."
            if rest.value < whole.low
            else f"it has the bad half in it; no single setting's value carries it ({removed}, "
            f"the lowest such figure)."
        )
    return text + (
        " The intervals draw trials again; trials follow from each other, so they are rather too "
        "narrow."
    )


def _test_words(outcome: Outcome) -> str:
    chosen, aurocs, f1s = outcome.chosen, outcome.aurocs, outcome.f1s
    gain, low, high = outcome.difference(0, chosen)
    verdict = (
        "so it is better beyond the test set's doubt"
        if low > 0
        else "so it is worse beyond the test set's doubt"
        if high < 0
        else "which the test set cannot tell from none"
    )
    alike = aurocs[outcome.alike]
    return (
        f"On the test images the choice has AUROC {outcome.interval(chosen)}, the default "
        f"{outcome.interval(0)}: a difference of {gain:+.3f} ({low:+.3f} to {high:+.3f}, images "
        f"paired), {verdict}. {(aurocs < aurocs[chosen]).mean():.0%} of the trials are below the "
        f"choice; those that cannot be told from the best reach {alike.min():.3f} to "
        f"{alike.max():.3f}. F1 is {f1s[chosen]:.3f}, the default's {f1s[0]:.3f}.\n\n"
        f"The oracle, which picks by the test labels, {_oracle_words(outcome)}"
    )


def _oracle_words(outcome: Outcome) -> str:
    if outcome.oracle == outcome.chosen:
        return "picks the same trial."
    regret, low, high = outcome.difference(outcome.chosen, outcome.oracle)
    return (
        f"reaches {outcome.aurocs[outcome.oracle]:.3f}: {regret:+.3f} ({low:+.3f} to {high:+.3f}) "
        f"above the choice. It is the luckiest of {len(outcome.tried)} and no configuration to "
        f"hope for."
    )

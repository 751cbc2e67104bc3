"""What is said follows the numbers."""

from dataclasses import replace

import numpy as np
import pytest

from ad.params import CrossValidation
from ad.protocol import CrossValidated
from studies.thresholds import arms, findings, fold_findings
from studies.thresholds.folds import Duplicates, find_duplicates
from studies.thresholds.headline import Headline, Runs, headlines
from studies.thresholds.nested import NestedScores, compare_rules, fold_shift, p_values
from studies.thresholds.rules import PROTOCOL, SECOND


def unseen(shift: float = 0.0) -> list[NestedScores]:
    generator = np.random.default_rng(0)
    return [
        NestedScores(list(generator.normal(size=(3, 10))), generator.normal(size=(3, 20)) + shift)
        for _ in range(3)
    ]


def test_broken_promises_are_named_and_kept_ones_not():
    rules = [PROTOCOL, "max", "conformal:0.1"]
    table = compare_rules(unseen(4.0), rules, ["max"])
    text = findings.rules_in_words(table, unseen(4.0))
    alarms = table[0]["alarms"]
    assert f"flags {alarms} of 60 unseen normals" in text
    assert "Of 2 rules that promise a rate, 2 give more false alarms" in text
    more, fewer, kept = text.split("\n\n")[1:]
    assert more == "More than promised: with the max over banks `max`, `conformal:0.1`."
    assert (fewer, kept) == (
        "Fewer than promised: none.",
        "Not shown to break their promise: none.",
    )
    table = compare_rules(unseen(-4.0), rules, ["max"])
    text = findings.rules_in_words(table, unseen(-4.0))
    assert "Of 2 rules that promise a rate, 0 give more false alarms" in text
    assert "More than promised: none." in text
    assert "**0.0% (95 % interval 0.0% to" in text


def test_shares_of_p_values_and_shifts():
    nested = unseen()
    found = p_values(nested)
    text = findings.p_values_in_words(found, 0.1, 60)
    share = (found["cross-conformal"] <= 0.1).mean()
    assert f"cross-conformal {share:.1%} (95 % interval" in text
    whole, parts = fold_shift(nested), [fold_shift([part])["correlation"] for part in nested]
    text = findings.shift_in_words(nested)
    assert f"correlation of {whole['correlation']:.2f} ({min(parts):.2f} to" in text


OWN = Headline(PROTOCOL, 7.0, 0.9, (0.85, 0.95), (0.8, 0.95), (0.7, 1.0), 0.85, 0.0, 0.0, 0.0)
CV = CrossValidation(folds=2)
FOLDS = [(np.array([2, 3]), np.array([0, 1])), (np.array([0, 1]), np.array([2, 3]))]
LABELS = np.array([0, 1, 1])


def runs() -> Runs:
    base = CrossValidated(
        [np.array([1.0, 10.0]), np.array([2.0, 4.0])], np.array([[1.0, 5.0, 9.0]])
    )
    less = CrossValidated([np.array([1.0]), np.array([2.0, 4.0])], np.array([[1.0, 5.0, 9.0]]))
    return Runs(PROTOCOL, FOLDS, base, 1, less, [base], [base, less])


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.1, "better."), (-0.2, -0.1, "worse."), (-0.1, 0.1, "not told apart from it.")],
)
def test_another_rule_is_judged_by_its_paired_interval(low, high, verdict):
    other = replace(OWN, rule=SECOND, difference=0.02, low=low, high=high)
    text = findings.headline_in_words([OWN, other], runs())
    assert text.endswith(verdict) and "3.0 times as wide" in text
    assert "**0.700 to 1.000**" in text and "-0.050 from it" in text


def test_the_table_has_a_column_a_rule():
    table = compare_rules(unseen(), [PROTOCOL, SECOND], ["max"])
    text = findings.headline_table([OWN, replace(OWN, rule=SECOND)], table)
    header, _, threshold, f1, *_ = text.splitlines()
    assert PROTOCOL in header and SECOND in header
    assert threshold.count("7.000") == 2 and f1.count("0.900 (0.700 to 1.000)") == 2


def test_the_image_that_sets_the_threshold_is_named():
    (own, *_) = headlines(LABELS, runs(), [], "max", seed=0)
    text = findings.setter_in_words(runs(), own, ["a", "b", "c", "d"], LABELS, CV)
    # (10 + 4) / 2 = 7 finds one of two; (1 + 4) / 2 = 2.5 finds both.
    assert "on `b` (training image 1)" in text and "from 7.000 to 2.500" in text
    assert "F1 from 0.667 to 1.000" in text and "in no bank either, F1 is 1.000" in text
    assert "| b | 0 | 10.000 | 1.000 | 2.500 |" in findings.setters_table(runs(), list("abcd"))


def test_metrics_hold_the_headline_and_every_rule():
    found = headlines(LABELS, runs(), [SECOND], "max", seed=0)
    summary = findings.headline_summary(found, runs(), "b", 1.0)
    assert summary["headline"]["f1"] == found[0].f1 and summary["headline"]["runs"] == 2
    assert (summary["headline"]["low"], summary["headline"]["high"]) == found[0].whole
    assert list(summary["rules"]) == [PROTOCOL, SECOND]
    table = compare_rules(unseen(), [PROTOCOL, "conformal:0.1"], ["max"])
    rates = findings.summary(table, unseen(), 0.03)
    assert rates["protocol_false_alarm_rate"] == table[0]["measured"]
    assert rates["conformal_false_alarm_rate"] == table[1]["measured"]


def row(name: str, alarms: int, p: float) -> dict:
    return {
        "folds": name,
        "alarms": alarms,
        "normals": 50,
        "false alarms": alarms / 50,
        "only here": 2,
        "only there": 1,
        "p": p,
    }


def test_kinds_of_folds_are_corrected_for_their_number():
    rows = [row(arms.KFOLD, 3, 1.0), row(arms.SHUFFLED, 2, 0.03), row(arms.CLUSTERS, 2, 0.5)]
    assert "none differs from the first" in fold_findings.kinds_in_words(rows)
    rows[1]["p"] = 0.02
    assert f"{arms.SHUFFLED} differ from the first" in fold_findings.kinds_in_words(rows)


def points() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((12, 8))


def test_grouped_folds_without_duplicates_are_called_a_placebo():
    found = find_duplicates(points())
    assert "a placebo" in fold_findings.duplicates_in_words(found, 10, 0.25)
    twins = points()
    twins[3] = twins[7]
    twins[11] = twins[2]
    text = fold_findings.duplicates_in_words(find_duplicates(twins), 10, 0.25)
    assert "placebo" not in text and "2 pairs" in text and "1 of them between train" in text
    assert "1 training images could" in text
    assert fold_findings.duplicates_table(found, list("abcdefghijkl"), 10) == ""


def test_stratifying_is_said_to_be_kfold():
    assert "gives exactly the splits" in fold_findings.stratified_in_words(21, 4)


def planted(alarms: int) -> arms.Planted:
    inner = [np.array([0.0, 1.0])]
    split = NestedScores([0.5 * inner[0]], np.repeat([2.0, 0.0], [alarms, 20 - alarms])[None])
    return arms.Planted(30, 28, 1, 60, 50, [split], [NestedScores(inner, np.zeros((1, 20)))])


def test_planted_duplicates_are_judged_by_the_paired_test():
    text = fold_findings.planted_in_words(planted(9), 0.75, 0.05)
    assert "28 of 30 planted pairs and 1 others" in text and "83% are lower" in text
    assert "0.500 against 1.000" in text and "raise fewer false alarms" in text
    assert "p 0.0039" in text  # nine against none, two-sided
    assert "do not show a difference" in fold_findings.planted_in_words(planted(3), 0.75, 0.05)
    nothing = Duplicates([], np.arange(5))
    rows = [row(arms.KFOLD, 3, 1.0), row(arms.SHUFFLED, 2, 0.5)]
    summary = fold_findings.folds_summary(rows, planted(9), nothing, 5)
    assert summary["grouped_is_placebo"] and summary["planted"]["p"] == pytest.approx(2 / 2**9)
    assert summary["false_alarm_rate"] == {arms.KFOLD: 0.06, arms.SHUFFLED: 0.04}

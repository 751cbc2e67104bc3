"""Forensics against brute force over every labelling, and cases worked by hand."""

from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest

from studies.gap.forensics import (
    Hypothesis,
    Reading,
    Reported,
    explanations,
    likelihoods,
    matching_tables,
    measured_cause,
    parse_reported,
    partly_permuted_tables,
    permuted_table,
    posterior,
    printed_as,
    rates_table,
    sensitivity_analysis,
    split_likelihoods,
    standard_causes,
    standard_reading,
    standard_variants,
)

SMALL = Reading(n_images=6, n_anomalous=2, public_sizes=(2, 3), digits="given")
MODEL = Reported("small", "0.67", "0.5")


def prints(fraction: Fraction, text: str) -> bool:
    """Round (either way at a half) or cut a fraction to the digits given."""
    scaled = fraction * 10 ** len(text.partition(".")[2])
    half = Fraction(1, 2)
    wanted = int(text.replace(".", ""))
    return wanted == int(scaled) or scaled - half <= wanted <= scaled + half


def f1(labels: list[int], flags: list[int]) -> Fraction | None:
    hits = sum(a and b for a, b in zip(labels, flags, strict=True))
    total = sum(labels) + sum(flags)
    return Fraction(2 * hits, total) if total else None


def brute_force(reading: Reading, model: Reported, sensitivity: float, alarms: float) -> float:
    """Sum over every public part and every set of flags."""
    labels = [1] * reading.n_anomalous + [0] * (reading.n_images - reading.n_anomalous)
    total = 0.0
    for size in reading.public_sizes:
        parts = list(combinations(range(reading.n_images), size))
        for part in parts:
            rest = [i for i in range(reading.n_images) if i not in part]
            rest = list(range(reading.n_images)) if reading.private == "all" else rest
            for flags in product((0, 1), repeat=reading.n_images):
                chance = 1.0
                for label, flag in zip(labels, flags, strict=True):
                    rate = sensitivity if label else alarms
                    chance *= rate if flag else 1 - rate
                values = [f1([labels[i] for i in own], [flags[i] for i in own])
                          for own in (part, rest)]  # fmt: skip
                fits = all(
                    value is not None and prints(value, text)
                    for value, text in zip(values, (model.public, model.private), strict=True)
                )
                total += fits * chance / len(parts) / len(reading.public_sizes)
    return total


@pytest.mark.parametrize("private", ["rest", "all"])
def test_likelihood_is_the_sum_over_every_split_and_every_set_of_flags(private):
    reading = Reading(6, 2, (2, 3), private)
    table = rates_table(np.array([0.7]), np.array([0.2]), n_anomalous=2, n_normal=4)
    [found] = likelihoods([MODEL], {reading: 1.0}, [Hypothesis("x", table[None])])
    expected = brute_force(reading, MODEL, 0.7, 0.2)
    assert expected > 0
    assert found.value == pytest.approx(expected, rel=1e-12)


def test_five_digits_pin_down_the_tables_worked_by_hand():
    # F1 = 2 TP / (TP + FP + 40) = 0.44 exactly: 22 hits among 60 flags, and no other table.
    assert matching_tables("0.44", 100, 40, digits=5, rounding="either").tolist() == [[22, 38]]
    # 5/14 = 0.357142857: denominators are multiples of 14.
    tables = matching_tables("0.35714", 100, 40, rounding="either")
    assert tables.tolist() == [[10, 6], [15, 29], [20, 52]]
    assert all(Fraction(2 * tp, tp + fp + 40) == Fraction(5, 14) for tp, fp in tables.tolist())


def test_enumeration_equals_decimal_text():
    for text, mode in (("0.3846", "round"), ("0.3846", "truncate"), ("0.375", "round")):
        places = len(text) - 2
        expected = []
        for tp, fp in product(range(13), range(19)):
            value = Fraction(2 * tp, tp + fp + 12)
            shift = Fraction(1, 2) if mode == "round" else 0
            if int(value * 10**places + shift) == int(text[2:]):
                expected.append([tp, fp])
        found = matching_tables(text, 30, 12, rounding=mode).tolist()
        # A half rounds up in the reference; either way is accepted.
        halves = [
            [tp, fp]
            for tp, fp in found
            if mode == "round" and (2 * 10**places * 2 * tp) % (tp + fp + 12) == 0
        ]
        assert [t for t in found if t not in halves] == [t for t in expected if t not in halves]


def test_an_empty_denominator_never_matches():
    assert not printed_as(np.array([0]), np.array([0]), "0.0", digits=1, rounding="either").any()


def test_nested_and_disjoint_parts_add_up():
    for private in ("rest", "all"):
        found = explanations(Reported("m", "0.3846", "0.375"), Reading(private=private))
        assert len(found["tp"]) > 0
        assert (found["public_tp"] <= found["tp"]).all()
        assert (found["public_fp"] <= found["fp"]).all()
        assert (found["tp"] - found["public_tp"] <= 40 - found["public_anomalous"]).all()
        size, count = found["public_images"], found["public_anomalous"]
        tp, fp = found["public_tp"], found["public_fp"]
        assert np.allclose(2 * tp / (tp + fp + count), 0.3846, atol=1e-4)
        other = (found["tp"], found["fp"], 40)
        if private == "rest":
            other = (found["tp"] - tp, found["fp"] - fp, 40 - count)
        assert np.allclose(2 * other[0] / (sum(other)), 0.375, atol=1.1e-3)
        assert ((found["fp"] - fp) <= 100 - size - 40 + count).all()


def test_over_all_printed_values_the_likelihoods_sum_to_one():
    reading = Reading(6, 2, (3,), rounding="round", digits="given")
    table = rates_table(np.array([0.6]), np.array([0.3]), n_anomalous=2, n_normal=4)[None]
    tables = [(tp, fp, p) for p in range(3) for tp in range(p + 1) for fp in range(5)]
    values = {f"{2 * tp / (tp + fp + p):.6f}" for tp, fp, p in tables if tp + fp + p}
    total = sum(
        likelihoods([Reported("m", a, b)], {reading: 1.0}, [Hypothesis("x", table)])[0].value
        for a, b in product(values, repeat=2)
    )
    # Parts with neither anomalous nor flagged images have no F1: their share is left out.
    public_empty = private_empty = 4 / 20 * 0.7**3  # the part holds none of the 2 anomalous
    assert total == pytest.approx(1 - public_empty - private_empty, rel=1e-9)


def test_permuting_rows_keeps_the_number_of_flags_only():
    works = rates_table(np.array([1.0]), np.array([0.0]), n_anomalous=40, n_normal=60)
    table = permuted_table(works)
    tp, fp = np.indices(table.shape)
    assert table.sum() == pytest.approx(1)
    assert (table[tp + fp != 40] == 0).all()
    assert (table * tp).sum() == pytest.approx(16)  # 40 flags, 40 % of them on anomalous images
    f1_mean = (table * 2 * tp / (tp + fp + 40 + 1e-300)).sum()
    assert f1_mean == pytest.approx(0.4)


def test_drawn_tables_agree_with_the_exact_ones_at_both_ends():
    pair = (np.array([0.9]), np.array([0.1]))
    draws = partly_permuted_tables(
        *pair, n_anomalous=4, n_normal=6, draws=20_000, batches=4, seed=1
    )
    assert np.allclose(draws.sum(axis=(1, 2)), 1)
    again = partly_permuted_tables(
        *pair, n_anomalous=4, n_normal=6, draws=20_000, batches=4, seed=1
    )
    assert (draws == again).all()
    # Brute force: every number of moved rows is as likely; flags of the moved rows are shuffled.
    works = rates_table(*pair, n_anomalous=4, n_normal=6)
    mean_flags = (works * np.add(*np.indices(works.shape))).sum()
    drawn_flags = (draws.mean(axis=0) * np.add(*np.indices(works.shape))).sum()
    assert drawn_flags == pytest.approx(mean_flags, abs=0.02)  # moving keeps the number of flags
    # Of k moved images A are anomalous; their flags, 0.9 A + 0.1 (k - A), are shared out evenly.
    moved = np.arange(1, 11)
    mean_anomalous, variance = 0.4 * moved, moved * 0.4 * 0.6 * (10 - moved) / 9
    square = variance + mean_anomalous**2
    shared = 0.8 * square / moved + 0.1 * mean_anomalous
    expected_tp = np.mean([3.6, *((1 - moved / 10) * 3.6 + shared)])
    drawn_tp = (draws.mean(axis=0) * np.indices(works.shape)[0]).sum()
    assert drawn_tp == pytest.approx(expected_tp, abs=0.02)


def test_every_standard_cause_is_a_distribution():
    for cause in standard_causes(draws=1000, batches=2):
        assert np.allclose(cause.tables.sum(axis=(1, 2)), 1), cause.name
        assert (cause.tables >= 0).all(), cause.name


def test_the_planted_cause_wins():
    """Scores printed by each cause are explained by it better than by the others."""
    causes = standard_causes(draws=2000, batches=2)
    reading = {Reading(public_sizes=(30,), digits="zeros dropped"): 1.0}
    planted = {
        "working, rows in order": [Reported("a", "0.96000", "0.98182")],  # 24/25, 54/55
        "working, rows permuted": [Reported("a", "0.41667", "0.39286"),
                                   Reported("b", "0.33333", "0.42857")],
        "all flagged": [Reported("a", "0.57143", "0.57143")],
        "labels flipped": [Reported("a", "0.00000", "0.03333")],
    }  # fmt: skip
    for name, models in planted.items():
        found = posterior(likelihoods(models, reading, causes))
        assert max(found, key=found.get) == name, (name, found)


def test_bayes_factors_follow_the_priors():
    table = rates_table(np.array([0.5]), np.array([0.5]), n_anomalous=2, n_normal=4)[None]
    results = likelihoods([MODEL], {SMALL: 1.0}, [Hypothesis("a", table), Hypothesis("b", table)])
    assert posterior(results) == pytest.approx({"a": 0.5, "b": 0.5})
    assert posterior(results, {"a": 0.9, "b": 0.1}) == pytest.approx({"a": 0.9, "b": 0.1})


def test_two_models_share_the_split():
    table = rates_table(np.array([0.6]), np.array([0.3]), n_anomalous=2, n_normal=4)
    one = split_likelihoods(MODEL, SMALL, table[None])[:, 0]
    [both] = likelihoods([MODEL, MODEL], {SMALL: 1.0}, [Hypothesis("a", table[None])])
    [single] = likelihoods([MODEL], {SMALL: 1.0}, [Hypothesis("a", table[None])])
    assert both.value > single.value**2  # a split that explains one explains the other
    assert (one >= 0).all()


def test_sensitivity_analysis_covers_every_variant():
    small = Reading(20, 8, (8,))
    variants = standard_variants(small, working=0.9)
    variants = {k: v for k, v in variants.items() if "public 50" not in k and "public 20" not in k}
    rows = sensitivity_analysis([Reported("m", "0.5", "0.4")], variants)
    assert [row["variant"] for row in rows] == list(variants)
    assert rows[0]["all flagged"] == -np.inf


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: explanations(Reported("m", "high", "0.4"), Reading()), ["high", "decimal"]),
        (lambda: explanations(Reported("m", "0.4", "0.4"), Reading(private="half")), ["half"]),
        (lambda: explanations(Reported("m", "0.4", "0.4"), Reading(public_sizes=(100,))), ["99"]),
        (lambda: matching_tables("0.44", 10, 4, digits=1, rounding="round"), ["0.44", "1"]),
        (lambda: matching_tables("0.44", 10, 4, rounding="up"), ["up", "truncate"]),
        (lambda: parse_reported("a:0.4"), ["a:0.4", "name:public:private"]),
    ],
)
def test_bad_input_is_one_clear_line(call, parts, one_line):
    with pytest.raises(ValueError) as caught:
        call()
    one_line(caught, *parts)


def test_reported_values_are_read_as_text():
    found = parse_reported("a:0.35714:0.44, b:0.3846:0.375")
    assert found == [Reported("a", "0.35714", "0.44"), Reported("b", "0.3846", "0.375")]


def test_a_measured_cause_is_beta_binomial():
    reading = Reading(n_images=6, n_anomalous=2)
    (table,) = measured_cause("x", (3, 4), (1, 10), reading=reading).tables
    assert table.shape == (3, 5)
    assert table.sum() == pytest.approx(1)
    # By drawing rates, then flags.
    generator = np.random.default_rng(0)
    rates = generator.beta(3.5, 1.5, 200_000), generator.beta(1.5, 9.5, 200_000)
    tp, fp = generator.binomial(2, rates[0]), generator.binomial(4, rates[1])
    drawn = np.zeros_like(table)
    np.add.at(drawn, (tp, fp), 1 / len(tp))
    assert np.allclose(table, drawn, atol=4e-3)


@pytest.mark.parametrize(("n_images", "n_anomalous"), [(100, 40), (20, 3), (37, 30)])
def test_readings_and_variants_follow_the_size_of_the_test_set(n_images, n_anomalous):
    base = standard_reading(n_images, n_anomalous)
    if n_images == 100:
        assert base == Reading()
    for name, (reading, _) in standard_variants(base, working=0.9).items():
        assert 0 < reading.n_anomalous < n_images, name
        assert 0 < min(reading.public_sizes) <= max(reading.public_sizes) < n_images, name
    found = explanations(Reported("m", "0.5", "0.4"), base)
    assert (found["tp"] <= n_anomalous).all()

"""Forensics of printed F1 values against every labelling of a small test set, and by hand."""

from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import dblquad
from scipy.stats import beta, binom

from studies.gap.forensics import Case, prints, random_f1, tables_printing, upper_bound

REPORTED = {"WRN101": ("0.35714", "0.44"), "ResNet-50": ("0.3846", "0.375")}
SMALL = Case({"m": ("0.67", "0.5")}, n_images=6, n_anomalous=2, public_sizes=(2, 3), flags=(1, 3))


def shown(fraction: Fraction, text: str) -> bool:
    """Round (either way at a half) or cut a fraction to the digits given."""
    scaled = fraction * 10 ** len(text.partition(".")[2])
    wanted = int(text.replace(".", ""))
    return wanted == int(scaled) or abs(scaled - wanted) <= Fraction(1, 2)


def f1(labels, flags) -> Fraction | None:
    hits = sum(a and b for a, b in zip(labels, flags, strict=True))
    total = sum(labels) + sum(flags)
    return Fraction(2 * hits, total) if total else None


def printing_patterns(case: Case, values: tuple[str, str]):
    """Yield every split into public and private images and every set of flags that print a pair."""
    labels = [1] * case.n_anomalous + [0] * case.n_normal
    for size in case.public_sizes:
        parts = list(combinations(range(case.n_images), size))
        for public, flags in product(parts, product((0, 1), repeat=case.n_images)):
            private = [i for i in range(case.n_images) if i not in public]
            found = [f1([labels[i] for i in p], [flags[i] for i in p]) for p in (public, private)]
            if all(v is not None and shown(v, t) for v, t in zip(found, values, strict=True)):
                yield public, flags, 1 / len(parts) / len(case.public_sizes)


@pytest.mark.parametrize("text", ["0.35714", "0.3846", "0.375", "0.4", "1.0", "0.0"])
def test_tables_are_those_whose_fraction_prints_the_value(text):
    expected = [
        [tp, fp]
        for tp, fp in product(range(13), range(19))
        if shown(Fraction(2 * tp, tp + fp + 12), text)
    ]
    assert tables_printing(text, 12, 18).tolist() == expected


def test_five_digits_leave_one_fraction():
    # 0.35714 is 5/14 alone: of 100 images with 40 anomalous ones three tables give it.
    tables = tables_printing("0.35714", 40, 60).tolist()
    assert tables == [[10, 6], [15, 29], [20, 52]]
    assert {Fraction(2 * tp, tp + fp + 40) for tp, fp in tables} == {Fraction(5, 14)}
    assert not prints(np.array([0]), np.array([0]), "0.0").any()  # 0/0 is no F1


@pytest.mark.parametrize("text", ["", "0.", "1.5", "-0.4", "4e-1", "nan"])
def test_a_value_that_is_no_printed_f1_is_refused(text):
    with pytest.raises(ValueError, match="is no printed F1"):
        prints(np.array([1]), np.array([2]), text)


def test_explanations_are_every_pattern_that_prints_the_pair():
    expected = set()
    for public, flags, _ in printing_patterns(SMALL, ("0.67", "0.5")):
        hits = sum(flags[i] for i in public if i < 2), sum(flags[i] for i in public if i >= 2)
        anomalous = sum(i < 2 for i in public)
        expected.add((len(public), anomalous, *hits, sum(flags[:2]), sum(flags[2:])))
    found = SMALL.explanations["m"].drop(columns=["split", "share"])
    assert set(found.itertuples(index=False, name=None)) == expected
    assert len(found) == len(expected)


def test_the_likelihood_is_the_sum_over_every_split_and_every_set_of_flags():
    expected = 0.0
    for _, flags, weight in printing_patterns(SMALL, ("0.67", "0.5")):
        rates = [0.7 if image < 2 else 0.2 for image in range(6)]
        expected += weight * np.prod([r if f else 1 - r for r, f in zip(rates, flags, strict=True)])
    table = np.outer(binom.pmf(range(3), 2, 0.7), binom.pmf(range(5), 4, 0.2))
    assert SMALL.likelihood(table[None])[0] == pytest.approx(expected, rel=1e-12)


def test_two_models_share_the_split():
    twice = Case({"a": ("0.67", "0.5"), "b": ("0.67", "0.5")}, 6, 2, (2, 3), flags=(1, 3))
    table = SMALL.informed(0.2)[None]
    per_split = SMALL.by_split(table)[0]
    expected = (per_split**2 / SMALL.splits.chance).sum()
    assert twice.likelihood(table)[0] == pytest.approx(expected, rel=1e-12)


def test_causes_are_probabilities_worked_out_otherwise():
    rates = [flags / 6 for flags in (1, 2, 3)]  # no information: one rate for both classes
    expected = np.mean([np.outer(binom.pmf(range(3), 2, r), binom.pmf(range(5), 4, r))
                        for r in rates], axis=0)  # fmt: skip
    assert SMALL.informed(0.0) == pytest.approx(expected)
    # Two flags of six images, two of them anomalous, and all the information there can be.
    assert Case({}, 6, 2, flags=(2, 2)).informed(1.0)[2, 0] == pytest.approx(1)
    # Rates counted elsewhere: binomials over Jeffreys' posterior of 3 of 5 and 1 of 9.
    found = SMALL.counted(3, 5, 1, 9)
    expected = dblquad(
        lambda s, f: (
            binom.pmf(1, 2, s) * binom.pmf(2, 4, f) * beta.pdf(s, 3.5, 2.5) * beta.pdf(f, 1.5, 8.5)
        ), 0, 1, 0, 1)[0]  # fmt: skip
    assert found[1, 2] == pytest.approx(expected, rel=1e-6)


def test_flag_counts_are_those_of_every_row_order():
    case = Case({"m": ("0.67", "0.5")}, 6, 2, tuple(range(1, 6)))
    expected = {}
    for public, flags, _ in printing_patterns(case, ("0.67", "0.5")):
        right, count = 2 - sum(i < 2 for i in public), sum(flags)
        expected[count] = expected.get(count, False) or right <= count <= right + len(public)
    assert SMALL.flag_counts("m")["after_private"].to_dict() == expected


def test_forty_flags_cannot_print_either_pair_worked_by_hand():
    # All flags and all anomalous images are 80; 0.35714 = 5/14 takes 28 or 56 of them, and
    # 2 TP / 52 and 2 TP / 24 miss 0.44, while 22/50 (38 flags) and 24/54 (42 flags) print it.
    assert not any(shown(Fraction(2 * tp, n), "0.44") for n in (52, 24) for tp in range(n // 2 + 1))
    counts = Case(REPORTED).flag_counts("WRN101").index
    assert min(abs(counts - 40)) == 2 and {38, 42} <= set(counts)
    # 5/13 and 3/8: flags + 40 is 26 k + 16 m; 80 is none of these, 84 is.
    assert min(abs(Case(REPORTED).flag_counts("ResNet-50").index - 40)) == 4


def test_another_entrant_s_value_leaves_two_splits():
    # 0.98039 is 50/51 alone: 25 hits, and 51 flags and anomalous images together.
    case = Case(REPORTED, other_private="0.98039")
    assert set(case.splits.public_anomalous) == {14, 15}
    with pytest.raises(ValueError, match=r"0\.9999"):
        _ = Case(REPORTED, other_private="0.9999").splits


def test_figures_worked_by_hand():
    assert random_f1(38) == pytest.approx(2 * 15.2 / 78)
    profile = pd.Series([4.0, 1.0, 0.2], index=[0.0, 0.5, 1.0])
    assert upper_bound(profile, 0.95) == 0.5
    found = Case(REPORTED, other_private="0.98039").likeliest()
    assert found[["flags", "right"]].to_numpy().tolist() == [[38, 16], [34, 14]]
    assert found["right by luck"].tolist() == pytest.approx([15.2, 13.6])

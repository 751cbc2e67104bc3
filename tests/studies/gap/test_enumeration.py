"""Enumeration against every labelling of a small test set, and cases worked by hand."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from brute_force import MODEL, SMALL, fits, labels_of, parts_of, prints

from studies.gap.enumeration import (
    Reading,
    Reported,
    explanations,
    flag_counts,
    matching_tables,
    parse_reported,
    printed_as,
)

REPORTED = parse_reported("WRN101:0.35714:0.44,ResNet-50:0.3846:0.375")


def test_five_digits_pin_down_the_tables_worked_by_hand():
    # F1 = 2 TP / (TP + FP + 40) = 0.44 exactly: 22 hits among 60 flags, and no other table.
    assert matching_tables("0.44", 100, 40, digits=5, rounding="either").tolist() == [[22, 38]]
    # 5/14 = 0.357142857: denominators are multiples of 14.
    tables = matching_tables("0.35714", 100, 40, rounding="either")
    assert tables.tolist() == [[10, 6], [15, 29], [20, 52]]
    assert all(Fraction(2 * tp, tp + fp + 40) == Fraction(5, 14) for tp, fp in tables.tolist())


@pytest.mark.parametrize("text", ["0.3846", "0.375", "0.4", "1.0", "0.0"])
def test_enumeration_equals_fractions(text):
    expected = [
        [tp, fp]
        for tp, fp in product(range(13), range(19))
        if prints(Fraction(2 * tp, tp + fp + 12), text)
    ]
    assert matching_tables(text, 30, 12, rounding="either").tolist() == expected


def test_an_empty_denominator_never_matches():
    assert not printed_as(np.array([0]), np.array([0]), "0.0", digits=1, rounding="either").any()


@pytest.mark.parametrize("private", ["rest", "all"])
def test_explanations_are_every_table_that_fits(private):
    reading = replace(SMALL, private=private)
    labels, expected = labels_of(reading), set()
    for size in reading.public_sizes:
        for parts, flags in product(parts_of(reading, size), product((0, 1), repeat=6)):
            if fits(MODEL, labels, flags, parts):
                public = parts[0]
                hits = [sum(flags[i] for i in public if labels[i] == label) for label in (1, 0)]
                anomalous = sum(labels[i] for i in public)
                expected.add((size, anomalous, *hits, sum(flags[:2]), sum(flags[2:])))
    found = explanations(MODEL, reading)
    keys = ("public_images", "public_anomalous", "public_tp", "public_fp", "tp", "fp")
    rows = list(zip(*(found[key].tolist() for key in keys), strict=True))
    assert set(rows) == expected
    assert len(rows) == len(expected)


# Flags of a perfect run, in another order.


def test_forty_flags_cannot_print_the_first_pair_worked_by_hand():
    # 0.35714 is 5/14 alone: public flags + anomalous are 28, 56 or 84 (TP = 5, 10, 15), all of both
    # are 40 + 40 = 80, so the private part's are 52 or 24, and 2 TP / 52, 2 TP / 24 miss 0.44.
    for left in (52, 24):
        assert not any(prints(Fraction(2 * tp, left), "0.44") for tp in range(left // 2 + 1))
    # With 38 or 42 flags: 22/50 and 24/54.
    assert prints(Fraction(22, 50), "0.44") and prints(Fraction(24, 54), "0.44")
    found = flag_counts(REPORTED[0], Reading())
    assert found.distance(40) == 2
    assert {38, 42} <= set(found.counts)
    assert found.after_private
    # The second: 5/13 and 3/8, so flags + 40 is 26 k + 16 m; 80 is none of these, 84 is.
    second = flag_counts(REPORTED[1], Reading())
    sums = {26 * k + 16 * m - 40 for k, m in product(range(1, 9), repeat=2)}
    assert set(second.counts) <= sums
    assert second.distance(40) == 4
    # Where the private part is all images: 2 * 15 / 80 = 0.375.
    assert 40 in flag_counts(REPORTED[1], Reading(private="all")).counts


@pytest.mark.parametrize("private", ["rest", "all"])
@pytest.mark.parametrize("model", [MODEL, Reported("m", "0.5", "0.67"), Reported("m", "1", "0.4")])
def test_flag_counts_are_those_of_every_row_order(private, model):
    reading = replace(SMALL, private=private, public_sizes=(1, 2, 3, 4, 5))
    labels, counts, after = labels_of(reading), set(), False
    for size in reading.public_sizes:
        for parts, flags in product(parts_of(reading, size), product((0, 1), repeat=6)):
            if not fits(model, labels, flags, parts):
                continue
            counts.add(sum(flags))
            # Some flags that were all right in the private part, as many as these?
            free = 0 if private == "all" else size
            right = sum(labels[i] for i in parts[1])
            after |= right <= sum(flags) <= right + free
    found = flag_counts(model, replace(SMALL, private=private))
    assert found.counts == tuple(sorted(counts))
    assert found.after_private == after


def test_reported_values_are_read_as_text():
    found = parse_reported("a:0.35714:0.44, b:0.3846:0.375")
    assert found == [Reported("a", "0.35714", "0.44"), Reported("b", "0.3846", "0.375")]

"""Exponents and bytes, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ad.exact.features import to_bytes
from ad.exact.quantize import FINE_BITS, choose_exponent, finest_exponent


@given(st.floats(2.0**-100, 2.0**100, width=32))
def test_the_finest_exponent_is_the_last_at_which_a_value_fits(largest: float):
    exponent = finest_exponent(largest)
    assert Fraction(largest) * Fraction(2) ** exponent <= 127
    assert Fraction(largest) * Fraction(2) ** (exponent + 1) > 127


def error(values: list[float], exponent: int, low: int, fine: int) -> Fraction:
    """Sum the squared errors of bytes at an exponent, of values rounded to ``fine`` bits."""
    total = Fraction(0)
    for value in values:
        known = round(Fraction(value) * Fraction(2) ** fine) / Fraction(2) ** fine
        whole = min(max(round(known * Fraction(2) ** exponent), low), 127)
        total += (whole / Fraction(2) ** exponent - known) ** 2
    return total


@settings(max_examples=60)
@given(
    st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=40),
    st.sampled_from([0, -127, -128]),
    st.integers(1, 3),
)
def test_the_exponent_errs_least(values: list[float], low: int, copies: int):
    found = choose_exponent(torch.tensor([values] * copies), low)
    finest = finest_exponent(max(map(abs, values)))
    errors = [error(values, finest + n, low, finest + FINE_BITS) for n in range(4)]
    assert found == finest + errors.index(min(errors))


def test_one_large_value_among_many_small_ones_is_clipped():
    values = torch.tensor([[200.0] + [0.7] * 100_000])
    assert choose_exponent(values, 0) > finest_exponent(200.0)


@pytest.mark.parametrize("signed", [False, True])
def test_bytes_are_rounded_half_to_even_and_clipped(signed: bool):
    values = torch.tensor([0.25, 0.75, 1.25, 100.0, -0.75, -100.0], dtype=torch.float64)
    found = to_bytes(values, 1, signed=signed)
    assert found.dtype == (torch.int8 if signed else torch.uint8)
    expected = [0, 2, 2, 127, -2, -127] if signed else [0, 2, 2, 127, 0, 0]
    np.testing.assert_array_equal(found, expected)

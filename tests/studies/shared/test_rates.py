"""Paired tests against the binomial law."""

import numpy as np
import pytest
from scipy.stats import binom

from studies.shared.rates import compare_flags, rate_in_words


def test_flags_are_compared_by_mcnemars_exact_test():
    first = np.array([1, 1, 1, 1, 1, 0, 1, 0], dtype=bool)
    second = np.array([0, 0, 0, 0, 0, 1, 1, 0], dtype=bool)
    only_first, only_second, p_value = compare_flags(first, second)
    assert (only_first, only_second) == (5, 1)
    assert p_value == pytest.approx(2 * binom.cdf(1, 6, 0.5))
    assert compare_flags(first, first) == (0, 0, 1.0)


def test_the_one_sided_test_asks_for_the_first():
    first = np.array([1] * 7 + [0], dtype=bool)
    second = np.array([0] * 7 + [1], dtype=bool)
    assert compare_flags(first, second, alternative="greater")[2] == pytest.approx(
        binom.sf(6, 8, 0.5)
    )
    assert compare_flags(second, first, alternative="greater")[2] == pytest.approx(
        binom.sf(0, 8, 0.5)
    )


def test_rates_in_words():
    assert rate_in_words(0, 43).startswith("0.0% (95 % interval 0.0% to 5")

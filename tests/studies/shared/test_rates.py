"""Intervals of rates and paired tests against the laws that they invert."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from studies.shared.rates import compare_flags, rate_in_words, rate_interval


def test_jeffreys_interval_is_the_posterior_under_its_prior():
    def density(p: float) -> float:
        return p ** (3 - 0.5) * (1 - p) ** (47 - 0.5)

    low, high = rate_interval(3, 50)
    whole = quad(density, 0, 1)[0]
    assert quad(density, 0, low)[0] / whole == pytest.approx(0.025, rel=1e-4)
    assert quad(density, high, 1)[0] / whole == pytest.approx(0.025, rel=1e-4)


@pytest.mark.parametrize("n", [1, 2, 43, 213])
def test_the_interval_never_collapses_and_holds_the_rate(n: int):
    for k in range(n + 1):
        low, high = rate_interval(k, n)
        assert 0 <= low <= k / n <= high <= 1 and high - low > 0.01
        mirrored = rate_interval(n - k, n)
        np.testing.assert_allclose(mirrored, (1 - high, 1 - low), atol=1e-9)


def test_the_interval_covers_about_as_often_as_it_says():
    counts = np.arange(61)
    ends = np.array([rate_interval(k, 60) for k in counts])
    rates = np.linspace(0.02, 0.98, 97)
    covered = [binom.pmf(counts, 60, p)[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum() for p in rates]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)


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


def test_impossible_counts_are_refused(one_line):
    with pytest.raises(ValueError) as caught:
        rate_interval(5, 4)
    one_line(caught, "flagged=5", "n=4")

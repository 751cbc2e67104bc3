"""Rates of flagged images: intervals that do not collapse, and paired tests of two detectors."""

import numpy as np
from scipy.stats import beta, binomtest


def rate_interval(flagged: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return Jeffreys' interval of a rate from ``flagged`` out of ``n`` images.

    The quantiles of the posterior under the prior Beta(1/2, 1/2), with the end at 0 or 1 where no
    or every image is flagged (Brown, Cai and DasGupta, *Statistical Science* 2001): it has a
    width even there, and is not as wide as the exact one.
    """
    if not 0 <= flagged <= n or n < 1:
        raise ValueError(f"flagged={flagged} must be 0 to n={n}, and n at least 1")
    side = (1 - level) / 2
    law = beta(flagged + 0.5, n - flagged + 0.5)
    low = float(law.ppf(side)) if flagged else 0.0
    high = float(law.ppf(1 - side)) if flagged < n else 1.0
    return low, high


def rate_in_words(flagged: int, n: int) -> str:
    """Write a rate with its interval."""
    low, high = rate_interval(flagged, n)
    return f"{flagged / n:.1%} (95 % interval {low:.1%} to {high:.1%})"


def compare_flags(
    first: np.ndarray, second: np.ndarray, *, alternative: str = "two-sided"
) -> tuple[int, int, float]:
    """Count the images that only one of two detectors flags, and test whether that is chance.

    Parameters
    ----------
    first, second : arrays of bool, shape (n,)
        Flags of the same images.
    alternative : {"two-sided", "greater"}
        ``greater``: that the first flags more often.

    Returns
    -------
    only_first, only_second : int
    p_value : float
        Exact test on the images whose flag differs (McNemar, 1947); 1 where none does.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    if not differing:
        return 0, 0, 1.0
    test = binomtest(only_first, differing, 0.5, alternative=alternative)
    return only_first, only_second, float(test.pvalue)

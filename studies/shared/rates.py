"""Rates of flagged images in words, and paired tests of two detectors."""

import numpy as np
from scipy.stats import binomtest

from studies.shared.uncertainty import rate_interval


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

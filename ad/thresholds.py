"""Threshold rules: one fold's threshold from the scores of its held-out normal images.

A new rule is a function here and its name in `RULES`; `cv.threshold` then takes it.  Behind a colon
stands a number, if the function takes one.
"""

from collections.abc import Callable, Sequence
from statistics import fmean, stdev

import numpy as np


def largest(scores: np.ndarray) -> float:
    """Return the largest held-out score: the protocol's rule."""
    return float(np.max(scores))


def quantile(scores: np.ndarray, q: float) -> float:
    """Return the quantile q of the held-out scores, interpolated linearly."""
    if not 0 < q <= 1:
        raise ValueError(f"quantile:{q} needs 0 < Q <= 1")
    return float(np.quantile(scores, q))


def mean_sd(scores: np.ndarray, k: float) -> float:
    """Return the mean plus k sample standard deviations."""
    if len(scores) < 2:
        raise ValueError(f"mean_sd:{k} needs at least 2 held-out images a fold; lower cv.folds")
    return fmean(scores.tolist()) + k * stdev(scores.tolist())


RULES: dict[str, Callable[..., float]] = {
    "max": largest,
    "quantile": quantile,
    "mean_sd": mean_sd,
}


def _apply(rule: str, scores: np.ndarray) -> float:
    name, *numbers = rule.split(":")
    return RULES[name](np.asarray(scores), *map(float, numbers))


def check_rule(rule: str) -> str:
    """Return a rule, ``max``, ``quantile:0.99`` or ``mean_sd:3``, if it is one.

    Raises
    ------
    ValueError
        When there is no such rule, or its number is missing or out of range.
    """
    try:
        right = np.isfinite(_apply(rule, np.arange(2.0)))
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            f"{rule!r} is no rule; write {', '.join(RULES)}, with its number: quantile:0.99"
        )
    return rule


def fold_threshold(scores: np.ndarray, rule: str) -> float:
    """Return one fold's threshold.

    Parameters
    ----------
    scores : array of float, shape (n_held_out,)
        Scores of the fold's held-out normal images.
    rule : str
        ``max`` (the protocol's), ``quantile:Q`` or ``mean_sd:K``.
    """
    return _apply(check_rule(rule), scores)


def final_threshold(held_out: Sequence[np.ndarray], rule: str = "max") -> float:
    """Return the mean of the folds' thresholds, rounded once."""
    return fmean(fold_threshold(scores, rule) for scores in held_out)


def patch_threshold(held_out: Sequence[np.ndarray], ignored: np.ndarray) -> float:
    """Return the score that one held-out normal patch in a thousand exceeds: regions are above it.

    Parameters
    ----------
    held_out : sequence of arrays of float, each (n_held_out, h, w)
        Patch scores of each fold's held-out normal images.
    ignored : array of bool, shape (h, w)
        Patches that never count.
    """
    return float(np.quantile(np.concatenate([own[:, ~ignored].ravel() for own in held_out]), 0.999))

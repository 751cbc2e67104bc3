"""Threshold rules: one fold's threshold from the scores of its held-out normal images.

A new rule is a function here and its name in `RULES`; `cv.threshold` then takes it.
"""

from collections.abc import Callable, Sequence
from statistics import fmean, stdev

import numpy as np


def largest(scores: np.ndarray, _number: float | None) -> float:
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


RULES: dict[str, Callable[[np.ndarray, float | None], float]] = {
    "max": largest,
    "quantile": quantile,
    "mean_sd": mean_sd,
}


def parse_rule(rule: str) -> tuple[str, float | None]:
    """Split ``max``, ``quantile:0.99`` or ``mean_sd:3`` into its name and its number.

    Raises
    ------
    ValueError
        When there is no such rule, or its number is missing or out of range.
    """
    name, _, text = rule.partition(":")
    try:
        number = float(text) if text else None
        if name in RULES and (number is None) == (name == "max"):
            RULES[name](np.zeros(2), number)  # a number out of range is refused by the rule
            return name, number
    except ValueError:
        pass
    raise ValueError(f"{rule!r} is no rule; write max, quantile:Q with 0 < Q <= 1, or mean_sd:K")


def fold_threshold(scores: np.ndarray, rule: str) -> float:
    """Return one fold's threshold.

    Parameters
    ----------
    scores : array of float, shape (n_held_out,)
        Scores of the fold's held-out normal images.
    rule : str
        ``max`` (the protocol's), ``quantile:Q`` or ``mean_sd:K``.
    """
    name, number = parse_rule(rule)
    return RULES[name](np.asarray(scores), number)


def final_threshold(held_out: Sequence[np.ndarray], rule: str = "max") -> float:
    """Return the mean of the folds' thresholds, rounded once."""
    return fmean(fold_threshold(scores, rule) for scores in held_out)

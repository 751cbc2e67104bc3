"""Threshold rules: what each makes of held-out scores, and what it promises a new normal image.

`ad.protocol` holds the protocol; its threshold is the rule ``mean of maxima``.  All of it works on
normal images alone.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import genpareto

from ad.protocol import final_threshold, fold_threshold

PROTOCOL = "mean of maxima"
SECOND = "mean of second largest"


def conformal_threshold(scores: np.ndarray, rate: float) -> float:
    """Return the threshold that an exchangeable new normal exceeds with chance at most ``rate``.

    It is the r-th smallest score, r = ceil((n + 1) (1 - rate)); infinite where n is too small for
    the rate (Vovk et al., *Algorithmic Learning in a Random World*, 2005, split conformal).
    """
    _check_rate(rate)
    n = len(scores)
    rank = int(np.ceil((n + 1) * (1 - rate) - 1e-9))
    return float(np.sort(scores)[rank - 1]) if rank <= n else float("inf")


def conformal_p_values(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return for each score the share of normals at least as high: (1 + #) / (n + 1)."""
    ordered = np.sort(calibration)
    above = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return (1 + above) / (len(ordered) + 1)


FEWEST_FOR_A_TAIL = 20  # scores; a quarter of them is what the tail's law is fitted to


def pareto_threshold(scores: np.ndarray, rate: float, *, tail: float = 0.25) -> float:
    """Extrapolate the threshold of a false-alarm rate from a generalised Pareto tail.

    Peaks over threshold (Siffer et al., KDD 2017, eq. 1): excesses over the (1 - tail) quantile u
    follow a generalised Pareto law of shape c and scale b, so
    z = u + b / c ((rate n / N_u)^-c - 1).

    Parameters
    ----------
    scores : array of float, shape (n,)
        At least 20.
    rate : float
        Chosen false-alarm rate, below ``tail``.
    tail : float
        Share of the scores that the law is fitted to (maximum likelihood).
    """
    _check_rate(rate)
    n = len(scores)
    if n < FEWEST_FOR_A_TAIL or rate >= tail:
        raise ValueError(
            f"n_scores={n} must be at least {FEWEST_FOR_A_TAIL}, and rate={rate} below tail={tail}"
        )
    start = float(np.quantile(scores, 1 - tail))
    excesses = scores[scores > start] - start
    if not len(excesses):
        return start  # the largest score is tied: there is no tail
    shape, _, scale = genpareto.fit(excesses, floc=0)
    return start + float(genpareto.isf(rate * n / len(excesses), shape, 0, scale))


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(f"rate={rate} must be between 0 and 1")


def rule_names(rate: float, fewest: int) -> list[str]:
    """List the rules that the study compares; a Pareto tail needs ``fewest`` scores enough."""
    tail = [f"pareto:{rate:g}"] if fewest >= FEWEST_FOR_A_TAIL else []
    names = [PROTOCOL, SECOND, "max", "quantile:0.99", f"quantile:{1 - rate:g}", "mean_sd:3"]
    return list(dict.fromkeys([*names, *tail, f"conformal:{rate:g}"]))


def configured_rule(threshold: str) -> str:
    """Name the pipeline's rule, ``cv.threshold`` of each fold and the mean over them."""
    return PROTOCOL if threshold == "max" else f"mean of {threshold}"


def threshold_of(rule: str, inner: Sequence[np.ndarray]) -> float:
    """Return the threshold of a rule from the folds' held-out scores.

    Parameters
    ----------
    rule : str
        ``mean of`` takes the mean over the folds of each fold's: ``maxima`` is the protocol's,
        ``second largest`` forgives one image a fold, others are `ad.protocol.fold_threshold`'s.
        ``max``, ``quantile:Q``, ``mean_sd:K``, ``pareto:RATE`` and ``conformal:RATE`` look at the
        scores of all folds together.
    """
    if rule == SECOND:
        return float(np.mean([np.sort(own)[-min(2, len(own))] for own in inner]))
    if rule.startswith("mean of "):
        return final_threshold(inner, "max" if rule == PROTOCOL else rule.removeprefix("mean of "))
    pooled = np.concatenate(inner)
    name, _, number = rule.partition(":")
    if name == "pareto":
        return pareto_threshold(pooled, float(number))
    if name == "conformal":
        return conformal_threshold(pooled, float(number))
    return fold_threshold(pooled, rule)


def promised_rate(rule: str, n: int) -> float | None:
    """Return the false-alarm rate that a rule promises one new score, or ``None``.

    For n exchangeable scores: a new one exceeds the largest with chance 1 / (n + 1), and
    ``conformal`` keeps its rate up to rounding.  ``quantile`` and ``pareto`` aim at their rate.
    ``mean_sd`` and the means over folds promise nothing without a distribution.
    """
    name, _, number = rule.partition(":")
    if name == "max":
        return 1 / (n + 1)
    if name == "conformal":
        rank = int(np.ceil((n + 1) * (1 - float(number)) - 1e-9))
        return (n + 1 - min(rank, n + 1)) / (n + 1)
    if name == "quantile":
        return 1 - float(number)
    return float(number) if name == "pareto" else None

"""How sure the studies' comparisons are: intervals from small test sets and few runs.

None has zero width where all images agree: then a bootstrap says nothing, and the interval of a
proportion of as many independent trials as the images give is taken (`rate_interval`).
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import beta, rankdata

REPEATS = 2000


def pair_wins(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Tell for each pair of an anomalous and a normal image whether the anomalous scores higher.

    Returns
    -------
    array of float64, shape (n_anomalous, n_normal)
        1, 0, or 0.5 for ties; its mean is AUROC (Mann and Whitney's statistic).
    """
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    high, low = scores[labels][:, None], scores[~labels][None, :]
    if high.size == 0 or low.size == 0:
        raise ValueError(f"AUROC needs normal and anomalous images; got {low.size} and {high.size}")
    return (high > low) + 0.5 * (high == low)


def rate_interval(k: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Jeffreys' interval of a proportion, k of n; it reaches 0 or 1 where k does.

    References
    ----------
    Brown, Cai and DasGupta, *Interval Estimation for a Binomial Proportion*, 2001, section 4.3.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k={k} must be 0 to n={n}")
    low, high = beta.ppf([(1 - level) / 2, (1 + level) / 2], k + 0.5, n - k + 0.5)
    return (0.0 if k == 0 else float(low)), (1.0 if k == n else float(high))


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_means(wins: np.ndarray, *, seed: int, repeats: int) -> np.ndarray:
    """Return the mean of ``wins`` with runs and images of each class drawn again.

    Parameters
    ----------
    wins : array, shape (n_runs, n_anomalous, n_normal)
    """
    generator = np.random.default_rng(seed)
    rows, columns, runs = (
        generator.multinomial(n, np.full(n, 1 / n), repeats) for n in (*wins.shape[1:], len(wins))
    )
    means = np.zeros(repeats)
    for run, own in enumerate(wins):
        means += runs[:, run] * ((rows @ own) * columns).sum(axis=1)
    return means / wins.size


def difference_interval(
    drawn: np.ndarray, value: float, n_trials: int, level: float
) -> tuple[float, float]:
    """Return the percentile interval of a difference from its bootstrap draws.

    Where all draws are alike, no image of ``n_trials`` spoke for either side: the difference is
    then as far from its value as the share of such images among others may be.
    """
    low, high = _interval(drawn, level)
    if high - low > 1e-12:
        return low, high
    reach = rate_interval(0, n_trials, level)[1]
    return max(-1.0, value - reach), min(1.0, value + reach)


def auroc_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    seed: int,
    level: float = 0.95,
    repeats: int = REPEATS,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of AUROC over images, each class drawn separately.

    Of several runs, scores of shape (n_runs, n_images), it is the interval of their mean; runs are
    drawn again too.  Where every pair is won (or lost) it is the interval of as many wins as there
    are pairs without a common image.
    """
    wins = np.stack([pair_wins(labels, own) for own in np.atleast_2d(scores)])
    low, high = _interval(_resampled_means(wins, seed=seed, repeats=repeats), level)
    if high - low > 1e-12:
        return low, high
    n_pairs = min(wins.shape[1:])
    return rate_interval(wins.mean() * n_pairs, n_pairs, level)


def auroc_difference(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    seed: int,
    level: float = 0.95,
    repeats: int = REPEATS,
) -> tuple[float, float, float]:
    """Return AUROC of ``second`` minus ``first`` and its interval; images and runs are paired.

    Parameters
    ----------
    labels : array, shape (n_images,)
    first, second : arrays of float, shape (n_images,) or (n_runs, n_images)
        Of several runs the difference is the mean; images and pairs of runs are drawn again.
    """
    wins = np.stack(
        [
            pair_wins(labels, b) - pair_wins(labels, a)
            for a, b in zip(np.atleast_2d(first), np.atleast_2d(second), strict=True)
        ]
    )
    drawn, value = _resampled_means(wins, seed=seed, repeats=repeats), float(wins.mean())
    return value, *difference_interval(drawn, value, min(wins.shape[1:]), level)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation; 0 where one side is constant and ranks nothing."""
    ranks = rankdata(first), rankdata(second)
    if np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def paired_interval(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    first: np.ndarray,
    second: np.ndarray,
    *,
    seed: int,
    level: float = 0.95,
    repeats: int = REPEATS,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of a statistic of pairs, the pairs drawn again."""
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape:
        raise ValueError(f"pairs need equal shapes; got {first.shape} and {second.shape}")
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(first), size=(repeats, len(first)))
    return _interval(np.array([statistic(first[i], second[i]) for i in drawn]), level)

"""How sure the studies' comparisons are: bootstrap intervals from small test sets and few runs."""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

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


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_means(wins: np.ndarray, *, seed: int, repeats: int) -> np.ndarray:
    """Return the mean of ``wins`` with images of each class drawn again, shape (repeats,)."""
    generator = np.random.default_rng(seed)
    n_anomalous, n_normal = wins.shape
    rows = generator.multinomial(n_anomalous, np.full(n_anomalous, 1 / n_anomalous), repeats)
    columns = generator.multinomial(n_normal, np.full(n_normal, 1 / n_normal), repeats)
    return ((rows @ wins) * columns).sum(axis=1) / wins.size


def auroc_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    seed: int,
    level: float = 0.95,
    repeats: int = REPEATS,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of AUROC over images, each class drawn separately."""
    wins = pair_wins(labels, scores)
    return _interval(_resampled_means(wins, seed=seed, repeats=repeats), level)


def auroc_difference(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    seed: int,
    level: float = 0.95,
    repeats: int = REPEATS,
) -> tuple[float, float, float]:
    """Return AUROC of ``second`` minus ``first`` and its interval; the images are paired.

    Parameters
    ----------
    labels : array, shape (n_images,)
    first, second : arrays of float, shape (n_images,) or (n_runs, n_images)
        Of several runs the difference is the mean; images are drawn again, runs are not.
    """
    wins = np.mean(
        [
            pair_wins(labels, b) - pair_wins(labels, a)
            for a, b in zip(np.atleast_2d(first), np.atleast_2d(second), strict=True)
        ],
        axis=0,
    )
    low, high = _interval(_resampled_means(wins, seed=seed, repeats=repeats), level)
    return float(wins.mean()), low, high


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

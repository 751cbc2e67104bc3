"""Folds, thresholds from normal images alone, and the aggregation of the folds' scores."""

import numpy as np

from ad.params import parse_threshold_rule


def fold_indices(
    n_images: int, folds: int, *, shuffle: bool, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split image numbers into (training, validation) pairs, as scikit-learn's ``KFold`` does.

    Parameters
    ----------
    n_images : int
        Number of normal images, in manifest order.
    folds : int
        Number of folds, 2 to n_images.
    shuffle : bool
        Shuffle before splitting; otherwise each validation part is a run of neighbours.
    seed : int
        Used only where ``shuffle`` is true.

    Raises
    ------
    ValueError
        When there are fewer images than folds.
    """
    if n_images < folds:
        raise ValueError(
            f"cv.folds={folds} exceeds the number of training images, {n_images}; "
            f"lower it or add normal images"
        )
    # Restated: every stage splits, and importing scikit-learn takes longer than some of them work.
    order = np.arange(n_images)
    if shuffle:
        np.random.RandomState(seed).shuffle(order)
    parts = [np.sort(part) for part in np.array_split(order, folds)]
    return [(np.setdiff1d(order, part), part) for part in parts]


def fold_threshold(scores: np.ndarray, rule: str) -> float:
    """Return one fold's threshold from the scores of its held-out normal images.

    Parameters
    ----------
    scores : array of float, shape (n_held_out,)
    rule : str
        ``max`` (the protocol's), ``quantile:Q`` (linear interpolation) or ``mean_sd:K`` (mean
        plus K sample standard deviations).
    """
    name, number = parse_threshold_rule(rule)
    if name == "max":
        return float(np.max(scores))
    if name == "quantile":
        return float(np.quantile(scores, number))
    if len(scores) < 2:
        raise ValueError(
            f"cv.threshold={rule} needs at least 2 held-out images a fold, got {len(scores)}; "
            f"lower cv.folds"
        )
    return float(np.mean(scores) + number * np.std(scores, ddof=1))


def aggregate_folds(scores: np.ndarray, how: str) -> np.ndarray:
    """Aggregate over folds, the first axis.

    Parameters
    ----------
    scores : array of float, shape (folds, ...)
        The same images (or patches) scored against each fold's bank.
    how : {"max", "mean", "median"}
        ``max`` is the protocol's.
    """
    rules = {"max": np.max, "mean": np.mean, "median": np.median}
    if how not in rules:
        raise ValueError(f"cv.aggregate={how!r} must be one of {', '.join(rules)}")
    return rules[how](scores, axis=0)

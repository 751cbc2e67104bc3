"""Threshold rules measured on normals that had no part in them, and folds that make sense.

`ad.protocol` holds the protocol; this module compares it with others.  All of it works on normal
images alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from scipy.stats import beta, binomtest, genpareto
from sklearn.cluster import KMeans
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from ad.progress import progress_bar
from ad.protocol import (
    Folds,
    Protocol,
    aggregate_folds,
    cross_validate,
    final_threshold,
    fold_threshold,
)


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


def rate_interval(alarms: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the exact (Clopper and Pearson) interval of a rate from ``alarms`` out of ``n``."""
    if not 0 <= alarms <= n or n < 1:
        raise ValueError(f"alarms={alarms} must be 0 to n={n}, and n at least 1")
    side = (1 - level) / 2
    low = float(beta.ppf(side, alarms, n - alarms + 1)) if alarms else 0.0
    high = float(beta.ppf(1 - side, alarms + 1, n - alarms)) if alarms < n else 1.0
    return low, high


def compare_flags(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Count the images that only one of two detectors flags, and test whether that is chance.

    Parameters
    ----------
    first, second : arrays of bool, shape (n,)
        Flags of the same images.

    Returns
    -------
    only_first, only_second : int
    p_value : float
        Two-sided exact test on the images whose flag differs (McNemar, 1947); 1 where none does.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p_value = float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
    return only_first, only_second, p_value


@dataclass(frozen=True)
class NestedScores:
    """Scores of one outer part, with everything that its thresholds may look at.

    Parameters
    ----------
    inner : list of array
        One a fold: the held-out scores of the fold's validation normals.
    outer : array of float64, shape (folds, n_outer)
        Scores of normals that no bank and no threshold has seen, against each fold's bank.
    """

    inner: list[np.ndarray]
    outer: np.ndarray


def cross_conformal_p_values(nested: NestedScores) -> np.ndarray:
    """Compare each new image, as each bank scores it, with that bank's own held-out normals.

    p = (1 + sum over folds of #{held-out scores at least the image's by the same bank}) / (n + 1):
    no fold's scores are ever laid beside another bank's.  A level of a is kept up to about 2 a
    whatever the law of the scores, and near a where the banks are alike (Vovk, *Cross-conformal
    predictors*, 2015; Barber et al., *Predictive inference with the jackknife+*, 2021, theorem 4).

    Returns
    -------
    array of float64, shape (n_outer,)
    """
    above = sum(
        len(own) - np.searchsorted(np.sort(own), scores, side="left")
        for own, scores in zip(nested.inner, nested.outer, strict=True)
    )
    return (1 + above) / (1 + sum(map(len, nested.inner)))


def nested_scores(
    features: np.ndarray,
    protocol: Protocol,
    *,
    outer_folds: int,
    split: Callable[[np.ndarray], Folds],
) -> list[NestedScores]:
    """Run the protocol's cross-validation on all but an outer part of the normals, each in turn.

    Parameters
    ----------
    features : array, shape (n_images, h, w, dim)
        Of normal training images; may be memory-mapped.
    protocol : Protocol
        Its seed is that of the outer split, too.
    outer_folds : int
        Parts that are held out in turn; every image is an outer one once.  Drawn at random.
    split : callable
        Takes the numbers of the other images; returns the folds inside as (training, held-out)
        places among them.
    """
    splitter = KFold(outer_folds, shuffle=True, random_state=protocol.seed)
    results = []
    with progress_bar(outer_folds, "nested folds", "outer part") as bar:
        for rest, outer in splitter.split(features):
            found = cross_validate(features[rest], [features[outer]], split(rest), protocol)
            results.append(NestedScores(found.held_out, found.fold_scores))
            bar.update(1)
    return results


def standardised(nested: NestedScores) -> NestedScores:
    """Bring each fold's scores to mean 0 and standard deviation 1 of its held-out normals."""
    centre = np.array([own.mean() for own in nested.inner])
    spread = np.array([own.std(ddof=1) for own in nested.inner])
    inner = [(s - c) / d for s, c, d in zip(nested.inner, centre, spread, strict=True)]
    return NestedScores(inner, (nested.outer - centre[:, None]) / spread[:, None])


def threshold_of(rule: str, inner: Sequence[np.ndarray]) -> float:
    """Return the threshold of a rule from the folds' held-out scores.

    Parameters
    ----------
    rule : str
        ``mean of maxima`` is the protocol's; ``max``, ``quantile:Q`` and ``mean_sd:K`` (see
        `ad.protocol.fold_threshold`), ``pareto:RATE`` and ``conformal:RATE`` look at the scores
        of all folds together.
    """
    if rule == "mean of maxima":
        return final_threshold(inner)
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
    ``mean_sd`` and the mean of maxima promise nothing without a distribution.
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


def compare_rules(
    nested: Sequence[NestedScores], rules: Sequence[str], aggregates: Sequence[str]
) -> list[dict[str, object]]:
    """Measure each rule's false alarms on the outer normals, for each aggregation over folds.

    Returns
    -------
    list of dict
        ``rule``, ``aggregate``, ``promised`` (rate or ``None``), ``alarms``, ``normals``,
        ``measured``, ``low``, ``high`` (95 %, exact; the outer parts share their banks, so the
        true uncertainty is a little wider).
    """
    rows = []
    for aggregate in aggregates:
        how = aggregate.removeprefix("standardised ")
        own = [standardised(n) for n in nested] if how != aggregate else list(nested)
        for rule in rules:
            alarms = sum(
                int((aggregate_folds(n.outer, how) > threshold_of(rule, n.inner)).sum())
                for n in own
            )
            total = sum(n.outer.shape[1] for n in own)
            low, high = rate_interval(alarms, total)
            size = round(np.mean([sum(map(len, n.inner)) for n in own]))
            rows.append(
                {
                    "rule": rule,
                    "aggregate": aggregate,
                    "promised": promised_rate(rule, size),
                    "alarms": alarms,
                    "normals": total,
                    "measured": alarms / total,
                    "low": low,
                    "high": high,
                }
            )
    return rows


def fold_shift(nested: Sequence[NestedScores]) -> dict[str, float]:
    """Measure both halves of the protocol's bias, in standard deviations of a single bank's score.

    Returns
    -------
    dict
        ``score_shift``: how much the maximum over the folds' banks lies above the score of one
        bank, on average.  ``threshold_shift``: how much the mean of the maxima lies below the
        largest of all held-out scores.  Both raise the rate of false alarms.  ``correlation``:
        mean correlation of a normal's scores between two banks.
    """
    spread = np.mean([n.outer.std(axis=1, ddof=1).mean() for n in nested])
    score = np.mean([(n.outer.max(axis=0) - n.outer.mean(axis=0)).mean() for n in nested])
    maxima = [[own.max() for own in n.inner] for n in nested]
    threshold = np.mean([max(own) - np.mean(own) for own in maxima])
    between = []
    for n in nested:
        matrix = np.corrcoef(n.outer)
        between.append(matrix[np.triu_indices(len(matrix), 1)].mean())
    return {
        "score_shift": float(score / spread),
        "threshold_shift": float(threshold / spread),
        "correlation": float(np.mean(between)),
    }


def simulate_protocol(
    correlations: Sequence[float], *, n_normal: int, folds: int, seed: int, repeats: int = 2000
) -> list[dict[str, float]]:
    """Run the protocol on Gaussian scores whose law is known: all images alike, all banks alike.

    An image's score against bank k is sqrt(r) a + sqrt(1 - r) e_k, r the correlation between
    banks.  Any false-alarm rate above 1 / (n_normal / folds + 1) then comes from the protocol.

    Returns
    -------
    list of dict
        For each correlation: the false-alarm rates of the maximum and the mean over the banks and
        of one bank, against the mean of maxima, and of one bank against the largest score.
    """
    rows = []
    for correlation in correlations:
        generator = np.random.default_rng(seed)
        held_out = generator.standard_normal((repeats, folds, n_normal // folds))
        maxima = held_out.max(axis=2)  # each image meets one bank only: its correlation is idle
        threshold = maxima.mean(axis=1)
        common = generator.standard_normal((repeats, 200, 1)) * np.sqrt(correlation)
        own = generator.standard_normal((repeats, 200, folds)) * np.sqrt(1 - correlation)
        new = common + own
        rows.append(
            {
                "correlation": float(correlation),
                "maximum": float((new.max(axis=2) > threshold[:, None]).mean()),
                "mean": float((new.mean(axis=2) > threshold[:, None]).mean()),
                "one bank": float((new[:, :, 0] > threshold[:, None]).mean()),
                "one bank, largest": float((new[:, :, 0] > maxima.max(axis=1)[:, None]).mean()),
            }
        )
    return rows


def image_embeddings(features: np.ndarray, *, grid: int = 4) -> np.ndarray:
    """Describe each image by the means of its patch features over a ``grid`` x ``grid`` raster.

    Returns
    -------
    array of float32, shape (n_images, grid * grid * dim)
    """
    n, height, width, _ = features.shape
    rows = np.array_split(np.arange(height), min(grid, height))
    columns = np.array_split(np.arange(width), min(grid, width))
    cells = [
        np.array(features[:, r[0] : r[-1] + 1, c[0] : c[-1] + 1]).mean(axis=(1, 2))
        for r in rows
        for c in columns
    ]
    return np.concatenate(cells, axis=1).astype(np.float32).reshape(n, -1)


def stratified_equals_kfold(n_normal: int, folds: int) -> bool:
    """Tell whether StratifiedKFold on one class alone gives the splits of plain KFold."""
    images = np.zeros(n_normal)
    stratified = StratifiedKFold(folds).split(images, np.zeros(n_normal, dtype=int))
    plain = KFold(folds).split(images)
    return all(np.array_equal(a[1], b[1]) for a, b in zip(stratified, plain, strict=True))


def cluster_folds(
    embeddings: np.ndarray, folds: int, *, n_clusters: int, seed: int
) -> tuple[Folds, np.ndarray]:
    """Stratify folds by clusters of image embeddings, so that each fold has every kind of normal.

    Returns
    -------
    folds : list of (training, validation) image numbers
    clusters : array of int, shape (n_images,)
        Clusters smaller than ``folds`` are joined into the last one.
    """
    labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(embeddings)
    sizes = np.bincount(labels, minlength=n_clusters)
    labels = np.where(sizes[labels] < folds, n_clusters, labels)
    if 0 < (labels == n_clusters).sum() < folds:
        labels[labels == n_clusters] = int(sizes.argmax())
    labels = np.unique(labels, return_inverse=True)[1]
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(embeddings, labels)), labels


@dataclass(frozen=True)
class Duplicates:
    """Near-duplicate images.

    Parameters
    ----------
    pairs : list of (int, int, float)
        Image numbers, first below second, and their distance in units of the usual one; nearest
        first.
    groups : array of int, shape (n_images,)
        Images linked by pairs share a number.
    """

    pairs: list[tuple[int, int, float]]
    groups: np.ndarray

    def across(self, n_train: int) -> list[tuple[int, int, float]]:
        """Return the pairs of a training and a test image: leaks."""
        return [pair for pair in self.pairs if pair[0] < n_train <= pair[1]]


def find_duplicates(embeddings: np.ndarray, *, share: float = 0.25) -> Duplicates:
    """Find images that lie much nearer to each other than images of this set usually do.

    Parameters
    ----------
    embeddings : array of float, shape (n_images, dim)
        Of all images, train and test.
    share : float
        A pair is a near-duplicate below this share of the median distance to the nearest other.
    """
    distances = cdist(embeddings.astype(np.float64), embeddings.astype(np.float64))
    np.fill_diagonal(distances, np.inf)
    usual = float(np.median(distances.min(axis=1)))
    first, second = np.nonzero(np.triu(distances <= share * usual, 1))
    relative = distances[first, second] / max(usual, np.finfo(float).tiny)
    order = np.lexsort((second, first, relative))
    pairs = [(int(first[i]), int(second[i]), float(relative[i])) for i in order]
    n = len(embeddings)
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(n, n))
    return Duplicates(pairs, connected_components(graph, directed=False)[1])


def grouped_folds(groups: np.ndarray, folds: int) -> Folds:
    """Split so that near-duplicates never stand on both sides."""
    n_groups = len(np.unique(groups))
    if n_groups < folds:
        raise ValueError(f"n_groups={n_groups} is fewer than folds={folds}; lower the folds")
    return list(GroupKFold(folds).split(np.zeros(len(groups)), groups=groups))

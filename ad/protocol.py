"""The protocol: folds, a bank each, thresholds from normal images alone, and the final scores.

`cross_validate` is all of it, from features to thresholds and scores.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from sklearn.model_selection import KFold

from ad.coreset import k_center_greedy
from ad.memory_bank import ImageScores, score_images
from ad.params import Coreset, Score, parse_threshold_rule
from ad.projection import project

IMAGES = 16  # scored at a time, so that features may stay on disk
PATCHES = 32768  # projected at a time; whole chunks of `ad.projection.project`

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Protocol:
    """How banks are drawn and images scored.

    Parameters
    ----------
    coreset : Coreset
    score : Score
    seed : int
        Of each bank's first pick.
    projection_seed : int, optional
        Of the random projection; by default ``seed``.
    unit : float
        What a difference of 1 between features stands for; see `ad.memory_bank.reweighting`.
    """

    coreset: Coreset
    score: Score
    seed: int
    projection_seed: int | None = None
    unit: float = 1.0

    def bank_size(self, n_patches: int) -> int:
        """Return the size of a bank of so many patches, with enough for every score."""
        wanted = self.coreset.size or round(self.coreset.ratio * n_patches)
        return min(n_patches, max(self.score.num_neighbors, wanted))


def fold_indices(n_images: int, folds: int, *, shuffle: bool, seed: int) -> Folds:
    """Split image numbers into (training, held-out) pairs (scikit-learn's ``KFold``).

    Parameters
    ----------
    n_images : int
        Number of normal images, in manifest order.
    folds : int
        Number of folds, 2 to n_images.
    shuffle : bool
        Shuffle before splitting; otherwise each held-out part is a run of neighbours.
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
    splitter = KFold(folds, shuffle=shuffle, random_state=seed if shuffle else None)
    return list(splitter.split(np.zeros(n_images)))


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
    return fmean(scores.tolist()) + number * stdev(scores.tolist())


def final_threshold(held_out: Sequence[np.ndarray], rule: str = "max") -> float:
    """Return the mean of the folds' thresholds, rounded once."""
    return fmean(fold_threshold(scores, rule) for scores in held_out)


def _mean(scores: np.ndarray, axis: int) -> np.ndarray:
    """Average one entry after the other: in one order on every machine."""
    return sum(np.moveaxis(scores, axis, 0)) / scores.shape[axis]


def aggregate_folds(scores: np.ndarray, how: str = "max") -> np.ndarray:
    """Aggregate over folds, the first axis.

    Parameters
    ----------
    scores : array of float, shape (folds, ...)
        The same images (or patches) scored against each fold's bank.
    how : {"max", "mean", "median"}
        ``max`` is the protocol's.
    """
    rules = {"max": np.max, "mean": _mean, "median": np.median}
    if how not in rules:
        raise ValueError(f"cv.aggregate={how!r} must be one of {', '.join(rules)}")
    return rules[how](scores, axis=0)


@dataclass(frozen=True)
class BankImages:
    """Images that banks are drawn from.

    Parameters
    ----------
    parts : sequence of arrays, each (n_images, h, w, dim)
        May be memory-mapped; read one behind the other.
    source : array of int, shape (n_images of all parts,)
        The normal that each image is, or was made from: a fold's bank takes those of its training
        normals only.
    """

    parts: Sequence[np.ndarray]
    source: np.ndarray

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return patches by their row numbers over all parts, shape (n_rows, dim)."""
        flat = [part.reshape(-1, part.shape[-1]) for part in self.parts]
        ends = np.cumsum([len(part) for part in flat])
        bank = np.empty((len(rows), flat[0].shape[1]), dtype=flat[0].dtype)
        for part, end in zip(flat, ends, strict=True):
            inside = (rows >= end - len(part)) & (rows < end)
            bank[inside] = part[rows[inside] - (end - len(part))]
        return bank


def _let_go(array: np.ndarray) -> None:
    """Give the pages of a read-only mapped file back; they would count as resident memory."""
    mapped = isinstance(array, np.memmap) and array.mode == "r"
    if mapped and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        array._mmap.madvise(mmap.MADV_DONTNEED)


def _projected(patches: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Project patches (n, dim) a part at a time: the features may be larger than the memory."""
    seed = protocol.seed if protocol.projection_seed is None else protocol.projection_seed
    parts = []
    for start in range(0, len(patches), PATCHES):
        some = patches[start : start + PATCHES]
        parts.append(project(some, protocol.coreset.projection_dim, seed=seed))
        _let_go(patches)
    return np.concatenate(parts)


def select_coresets(
    images: BankImages, keep: Sequence[np.ndarray], protocol: Protocol, *, progress: bool = False
) -> list[np.ndarray]:
    """Draw a coreset from the patches of each set of normals.

    Parameters
    ----------
    images : BankImages
    keep : sequence of arrays of int
        Numbers of the normals that each coreset may see; its size is the ratio of their patches.
    protocol : Protocol

    Returns
    -------
    list of arrays of int64
        Rows into the patches of all images, image by image, in greedy order.
    """
    per_image = images.parts[0].shape[1] * images.parts[0].shape[2]
    projected = np.concatenate(  # once for all
        [_projected(part.reshape(-1, part.shape[-1]), protocol) for part in images.parts]
    )
    source = np.repeat(images.source, per_image)
    coresets = []
    for kept in keep:
        rows = np.flatnonzero(np.isin(source, kept))
        size = protocol.bank_size(len(kept) * per_image)
        picked = k_center_greedy(projected[rows], size, seed=protocol.seed, progress=progress)
        coresets.append(rows[picked])
    return coresets


def score_in_parts(
    features: np.ndarray,
    bank: np.ndarray,
    score: Score,
    *,
    unit: float = 1.0,
    device: str = "cpu",
) -> ImageScores:
    """Score images against a bank, a few at a time; see `ad.memory_bank.score_images`.

    Parameters
    ----------
    features : array, shape (n_images, h, w, dim)
        May be memory-mapped.
    bank : array, shape (n_bank, dim)
    """
    parts = []
    for start in range(0, len(features), IMAGES):
        some = np.asarray(features[start : start + IMAGES])
        parts.append(score_images(some, bank, score, unit=unit, device=device))
        _let_go(features)
    if not parts:
        return ImageScores(np.empty((0, *features.shape[1:3])), np.empty(0))
    return ImageScores(
        np.concatenate([part.patches for part in parts]),
        np.concatenate([part.images for part in parts]),
    )


@dataclass(frozen=True)
class CrossValidated:
    """What the folds say.

    Parameters
    ----------
    held_out : list of array
        Each fold's scores of its held-out normal images.
    fold_scores : array of float64, shape (folds, n_queries)
    """

    held_out: list[np.ndarray]
    fold_scores: np.ndarray

    def threshold(self, rule: str = "max") -> float:
        """Return the mean of the folds' thresholds."""
        return final_threshold(self.held_out, rule)

    def scores(self, aggregate: str = "max") -> np.ndarray:
        """Return the queries' scores over all folds, shape (n_queries,)."""
        return aggregate_folds(self.fold_scores, aggregate)


def cross_validate(
    normals: np.ndarray,
    queries: Sequence[np.ndarray],
    folds: Folds,
    protocol: Protocol,
    *,
    images: BankImages | None = None,
) -> CrossValidated:
    """Draw a bank per fold; score the fold's held-out normals and all queries against it.

    Parameters
    ----------
    normals : array, shape (n_images, h, w, dim)
        May be memory-mapped.
    queries : sequence of arrays like it
        Scored in this order; in parts, so that nothing is copied to join them.
    folds : sequence of (training, held-out) image numbers
    protocol : Protocol
    images : BankImages, optional
        Images that the banks are drawn from; by default the normals themselves.
    """
    images = images or BankImages([normals], np.arange(len(normals)))
    coresets = select_coresets(images, [kept for kept, _ in folds], protocol)
    held_scores, query_scores = [], []

    def scored(some: np.ndarray, bank: np.ndarray) -> np.ndarray:
        return score_in_parts(some, bank, protocol.score, unit=protocol.unit).images

    for (_, held_out), rows in zip(folds, coresets, strict=True):
        bank = images.take(rows)
        parts = np.array_split(held_out, -(-len(held_out) // IMAGES))
        held_scores.append(np.concatenate([scored(normals[part], bank) for part in parts]))
        query_scores.append(np.concatenate([scored(some, bank) for some in queries]))
    return CrossValidated(held_scores, np.stack(query_scores))

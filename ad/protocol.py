"""The protocol: folds, a bank each, a threshold from normal images alone, and the final scores.

`run_protocol` is all of it, from features to flags; the notebooks call its steps one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ad.coreset import k_center_greedy
from ad.params import Coreset, CrossValidation, Score
from ad.projection import project
from ad.scores import ImageScores, score_images
from ad.thresholds import final_threshold, fold_threshold

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def fold_indices(n_images: int, cv: CrossValidation, *, seed: int) -> Folds:
    """Split image numbers into (training, held-out) pairs (scikit-learn's ``KFold``).

    Parameters
    ----------
    n_images : int
        Number of normal images, in manifest order.
    cv : CrossValidation
        Not shuffled, each held-out part is a run of neighbours in that order.
    seed : int
        Used only where ``cv.shuffle`` is true.

    Raises
    ------
    ValueError
        When there are fewer images than folds.
    """
    from sklearn.model_selection import KFold  # a second to import, and no other step needs it

    if n_images < cv.folds:
        raise ValueError(
            f"cv.folds={cv.folds} exceeds the number of training images, {n_images}; lower it "
            f"to 2 or more, or add normal images"
        )
    splitter = KFold(cv.folds, shuffle=cv.shuffle, random_state=seed if cv.shuffle else None)
    return list(splitter.split(np.zeros(n_images)))


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


def select_coresets(
    images: BankImages,
    kept_normals: Sequence[np.ndarray],
    coreset: Coreset,
    *,
    seed: int,
    ignored: np.ndarray | None = None,
    progress: bool = False,
) -> list[np.ndarray]:
    """Select a coreset from the patches of each set of normals.

    Parameters
    ----------
    images : BankImages
    kept_normals : sequence of arrays of int
        Numbers of the normals that each coreset may see; its size is the ratio of their patches.
    coreset : Coreset
    seed : int
        Of each first pick, and of the projection.
    ignored : array of bool, shape (h, w), optional
        Patches that never count: none of them is selected.

    Returns
    -------
    list of arrays of int64
        Rows into the patches of all images, image by image, in greedy order.
    """
    height, width = images.parts[0].shape[1:3]
    parts = [part.reshape(-1, part.shape[-1]) for part in images.parts]
    if coreset.projection_dim is not None:  # once for all folds
        parts = [project(part, coreset.projection_dim, seed=seed) for part in parts]
    points = parts[0] if len(parts) == 1 else np.concatenate(parts)
    counted = np.ones(height * width, bool) if ignored is None else ~ignored.ravel()
    source, counts = np.repeat(images.source, height * width), np.tile(counted, len(images.source))
    coresets = []
    for kept in kept_normals:
        rows = np.flatnonzero(np.isin(source, kept) & counts)
        wanted = coreset.n_select or round(coreset.ratio * len(kept) * int(counted.sum()))
        size = min(max(wanted, 1), len(rows))
        coresets.append(rows[k_center_greedy(points[rows], size, seed=seed, progress=progress)])
    return coresets


def draw_banks(
    images: BankImages, folds: Folds, coreset: Coreset, *, seed: int, **how: object
) -> list[np.ndarray]:
    """Build each fold's memory bank from its training normals; arrays (n_bank, dim)."""
    rows = select_coresets(images, [train for train, _ in folds], coreset, seed=seed, **how)
    return [images.take(own) for own in rows]


def score_held_out(
    normals: np.ndarray, folds: Folds, banks: Sequence[np.ndarray], score: Score, **how: object
) -> list[ImageScores]:
    """Score each fold's held-out normals against the bank that never saw them."""
    return [
        score_images(normals[held_out], bank, score, **how)
        for (_, held_out), bank in zip(folds, banks, strict=True)
    ]


def score_queries(
    queries: np.ndarray, banks: Sequence[np.ndarray], score: Score, **how: object
) -> list[ImageScores]:
    """Score all queries against every fold's bank."""
    return [score_images(queries, bank, score, **how) for bank in banks]


def _mean(scores: np.ndarray, axis: int) -> np.ndarray:
    """Average one entry after the other: in one order on every machine."""
    return sum(np.moveaxis(scores, axis, 0)) / scores.shape[axis]


AGGREGATES = {"max": np.max, "mean": _mean, "median": np.median}


def aggregate_folds(scores: np.ndarray, how: str = "max") -> np.ndarray:
    """Aggregate over folds, the first axis.

    Parameters
    ----------
    scores : array of float, shape (folds, ...)
        The same images (or patches) scored against each fold's bank.
    how : {"max", "mean", "median"}
        ``max`` is the protocol's.
    """
    if how not in AGGREGATES:
        raise ValueError(f"cv.aggregate={how!r} must be one of {', '.join(AGGREGATES)}")
    return AGGREGATES[how](scores, axis=0)


@dataclass(frozen=True)
class Result:
    """What the protocol gives.

    Parameters
    ----------
    folds : sequence of (training, held-out) image numbers
    banks : list of arrays, each (n_bank, dim)
    held_out : list of arrays of float64
        Each fold's scores of its held-out normals, in the order of ``folds``.
    fold_scores : array of float64, shape (folds, n_queries)
    cv : CrossValidation
        Its ``threshold`` and ``aggregate`` make `threshold`, `scores` and `flags`.
    """

    folds: Folds
    banks: list[np.ndarray]
    held_out: list[np.ndarray]
    fold_scores: np.ndarray
    cv: CrossValidation

    def threshold_of(self, rule: str) -> float:
        """Return the final threshold by another rule, from the same banks."""
        return final_threshold(self.held_out, rule)

    def scores_of(self, aggregate: str) -> np.ndarray:
        """Return the queries' scores by another aggregate, from the same banks."""
        return aggregate_folds(self.fold_scores, aggregate)

    @property
    def thresholds(self) -> np.ndarray:
        """Return each fold's threshold, shape (folds,)."""
        return np.array([fold_threshold(own, self.cv.threshold) for own in self.held_out])

    @property
    def threshold(self) -> float:
        """Return the final threshold: the mean of the folds'."""
        return self.threshold_of(self.cv.threshold)

    @property
    def scores(self) -> np.ndarray:
        """Return the queries' final scores, shape (n_queries,)."""
        return self.scores_of(self.cv.aggregate)

    @property
    def flags(self) -> np.ndarray:
        """Return which queries are anomalous: those whose score is above the threshold."""
        return self.scores > self.threshold


def run_protocol(
    normals: np.ndarray,
    queries: np.ndarray,
    *,
    coreset: Coreset = Coreset(),
    score: Score = Score(),
    cv: CrossValidation = CrossValidation(),
    seed: int = 0,
    unit: float = 1.0,
    folds: Folds | None = None,
    bank_images: BankImages | None = None,
    device: str = "cpu",
    ignored: np.ndarray | None = None,
    progress: bool = False,
) -> Result:
    """Run the whole protocol, from features to thresholds, scores and flags.

    Per fold, a coreset of its training normals is the memory bank, and its threshold comes from the
    scores of its held-out normals.  The final threshold is the folds' mean; a query's final score
    is the folds' maximum (``cv.aggregate``).

    Parameters
    ----------
    normals : array of uint8 (0..127), int8 (-127..127) or float32, shape (n_images, h, w, dim)
        Features of the normal training images; may be memory-mapped.
    queries : array like it, shape (n_queries, h, w, dim)
    coreset, score, cv
        Settings; the defaults are those of ``params.yaml``.
    seed : int
        Of the folds' shuffling, each bank's first pick and the projection.
    unit : float
        What a difference of 1 between features stands for; see `ad.scores.reweighting`.
    folds : sequence of (training, held-out) image numbers, optional
        A split of your own, by groups for instance; by default `fold_indices`.
    bank_images : BankImages, optional
        Images that the banks are drawn from; by default the normals themselves.
    device : str
        Where neighbours are searched.
    ignored : array of bool, shape (h, w), optional
        Patches that never count.
    progress : bool
        Show progress bars.
    """
    folds = fold_indices(len(normals), cv, seed=seed) if folds is None else folds
    images = bank_images or BankImages([normals], np.arange(len(normals)))
    banks = draw_banks(images, folds, coreset, seed=seed, ignored=ignored, progress=progress)
    how = {"unit": unit, "device": device, "ignored": ignored}
    held_out = [own.images for own in score_held_out(normals, folds, banks, score, **how)]
    fold_scores = np.stack([own.images for own in score_queries(queries, banks, score, **how)])
    return Result(folds, banks, held_out, fold_scores, cv)

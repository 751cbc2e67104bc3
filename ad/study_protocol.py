"""The protocol on features at hand, for studies: folds, banks, and scores of any other images."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ad.coreset import k_center_greedy, project
from ad.memory_bank import score_images
from ad.threshold import aggregate_folds, fold_indices, fold_threshold

IMAGES = 16  # scored at a time, so that features may stay on disk
PATCHES = 32768  # projected at a time; whole chunks of `ad.coreset.project`


@dataclass(frozen=True)
class BankSettings:
    """How banks are drawn and images scored; see `ad.coreset` and `ad.memory_bank`."""

    ratio: float
    projection_dim: int | None
    num_neighbors: int
    squared: bool
    reweight: bool = False

    def n_select(self, n_patches: int) -> int:
        """Return the size of a bank of so many patches."""
        return max(self.num_neighbors, round(self.ratio * n_patches))


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
        return float(np.mean([fold_threshold(own, rule) for own in self.held_out]))

    def scores(self, aggregate: str = "max") -> np.ndarray:
        """Return the queries' scores over all folds, shape (n_queries,)."""
        return aggregate_folds(self.fold_scores, aggregate)


def _let_go(array: np.ndarray) -> None:
    """Give the pages of a read-only mapped file back; they would count as resident memory."""
    mapped = isinstance(array, np.memmap) and array.mode == "r"
    if mapped and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        array._mmap.madvise(mmap.MADV_DONTNEED)


def _projected(
    patches: np.ndarray, dim: int | None, *, seed: int, threads: int | None
) -> np.ndarray:
    """Project patches (n, dim) a part at a time: the features may be larger than the memory."""
    parts = []
    for start in range(0, len(patches), PATCHES):
        part = patches[start : start + PATCHES]
        parts.append(project(part, dim, seed=seed, threads=threads))
        _let_go(patches)
    return np.concatenate(parts)


def image_scores(
    features: np.ndarray, bank: np.ndarray, settings: BankSettings, *, threads: int | None = None
) -> np.ndarray:
    """Score images against a bank, a few at a time.

    Parameters
    ----------
    features : array of float32, shape (n_images, h, w, dim)
        May be memory-mapped.
    bank : array of float32, shape (n_bank, dim)

    Returns
    -------
    array of float64, shape (n_images,)
    """
    parts = []
    for start in range(0, len(features), IMAGES):
        found = score_images(
            features[start : start + IMAGES],
            bank,
            num_neighbors=settings.num_neighbors,
            squared=settings.squared,
            reweight=settings.reweight,
            threads=threads,
        )
        parts.append(found.images)
        _let_go(features)
    return np.concatenate(parts) if parts else np.empty(0)


def draw_bank(
    features: np.ndarray,
    settings: BankSettings,
    *,
    seed: int,
    threads: int | None = None,
    n_select: int | None = None,
) -> np.ndarray:
    """Draw a bank from images' patches by greedy k-center selection.

    Parameters
    ----------
    features : array of float32, shape (n_images, h, w, dim)
    n_select : int, optional
        Size of the bank; by default the ratio of the patches.

    Returns
    -------
    array of float32, shape (n_select, dim)
    """
    patches = features.reshape(-1, features.shape[-1])
    picked = k_center_greedy(
        patches,
        settings.n_select(len(patches)) if n_select is None else n_select,
        seed=seed,
        projection_dim=settings.projection_dim,
        threads=threads,
        progress=False,
    )
    return patches[picked]


def cross_validate(
    normals: np.ndarray,
    queries: Sequence[np.ndarray],
    settings: BankSettings,
    *,
    folds: int,
    shuffle: bool,
    seed: int,
    threads: int | None = None,
    copies: np.ndarray | None = None,
    copied_from: np.ndarray | None = None,
) -> CrossValidated:
    """Draw a bank per fold; score the fold's held-out normals and all queries against it.

    Parameters
    ----------
    normals : array of float32, shape (n_images, h, w, dim)
        May be memory-mapped.
    queries : sequence of arrays like it
        Scored in this order; in parts, so that nothing is copied to join them.
    settings : BankSettings
    folds, shuffle, seed
        See `ad.threshold.fold_indices`; the seed is also the coresets'.
    copies : array of float32, shape (n_copies, h, w, dim), optional
        Changed copies of normals; a fold's bank is drawn from its training normals and the copies
        of these.  The bank's size stays that of the normals alone.
    copied_from : array of int, shape (n_copies,), optional
        The normal that each copy was made from.
    """
    n_normals, per_image, dim = len(normals), normals.shape[1] * normals.shape[2], normals.shape[3]
    flat = [normals.reshape(-1, dim)]
    source = np.repeat(np.arange(n_normals), per_image)
    if copies is not None:
        flat.append(copies.reshape(-1, dim))
        source = np.concatenate([source, np.repeat(copied_from, per_image)])
    projected = np.concatenate(  # once for all folds
        [_projected(part, settings.projection_dim, seed=seed, threads=threads) for part in flat]
    )
    held_scores, query_scores = [], []
    for kept, held_out in fold_indices(n_normals, folds, shuffle=shuffle, seed=seed):
        own = np.flatnonzero(np.isin(source, kept))
        picked = own[
            k_center_greedy(
                projected[own],
                settings.n_select(len(kept) * per_image),
                seed=seed,
                threads=threads,
                progress=False,
            )
        ]
        first = picked < len(flat[0])
        bank = np.empty((len(picked), dim), dtype=np.float32)
        bank[first] = flat[0][picked[first]]
        if copies is not None:
            bank[~first] = flat[1][picked[~first] - len(flat[0])]
        held_scores.append(
            np.concatenate(
                [
                    image_scores(normals[part], bank, settings, threads=threads)
                    for part in np.array_split(held_out, -(-len(held_out) // IMAGES))
                ]
            )
        )
        query_scores.append(
            np.concatenate([image_scores(q, bank, settings, threads=threads) for q in queries])
        )
    return CrossValidated(held_scores, np.stack(query_scores))

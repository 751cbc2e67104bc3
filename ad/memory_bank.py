"""Score patches by their distance to a bank of normal patches (Roth et al., 2022, section 3.3)."""

from dataclasses import dataclass

import numpy as np

from ad.neighbors import Neighbors, find_neighbors
from ad.params import Score


def patch_scores(neighbors: Neighbors, *, squared: bool) -> np.ndarray:
    """Average each patch's distances to its k nearest bank patches.

    The authors' implementation averages squared distances (FAISS returns squares); the paper
    writes plain ones.  ``squared`` chooses.

    Returns
    -------
    array of float64, shape (n_queries,)
    """
    distances = neighbors.squared_distances.astype(np.float64)
    return (distances if squared else np.sqrt(distances)).mean(axis=1)


def reweighting(query: np.ndarray, nearest: int, bank: np.ndarray, *, num_neighbors: int) -> float:
    """Weigh an image's score by how unusual its nearest bank patch is (Roth et al., eq. 7).

    w = 1 - exp(||q - m*||) / sum over m in N_b(m*) of exp(||q - m||), where q is the image's most
    anomalous patch, m* its nearest bank patch and N_b(m*) the b bank patches nearest to m*, itself
    included.

    Parameters
    ----------
    query : array of float, shape (dim,)
    nearest : int
        Row of m* in the bank.
    bank : array of float, shape (n_bank, dim)
    num_neighbors : int
        b, at most n_bank.
    """
    bank64 = np.asarray(bank, dtype=np.float64)
    from_nearest = np.square(bank64 - bank64[nearest]).sum(axis=1)
    from_nearest[nearest] = -1.0  # m* itself comes first, also among duplicates
    support = np.argsort(from_nearest, kind="stable")[:num_neighbors]
    distances = np.sqrt(np.square(np.asarray(query, np.float64) - bank64[support]).sum(axis=1))
    # Shifted by the largest exponent: exp of a raw distance would overflow.
    exponentials = np.exp(distances - distances.max())
    return float(1.0 - exponentials[0] / exponentials.sum())


@dataclass(frozen=True)
class ImageScores:
    """Scores of images against one bank.

    Parameters
    ----------
    patches : array of float64, shape (n_images, h, w)
        Patch scores: the anomaly maps on the patch grid.
    images : array of float64, shape (n_images,)
        s* = the largest patch score (eq. 6), re-weighted by eq. 7 where asked for.
    """

    patches: np.ndarray
    images: np.ndarray


def score_images(
    features: np.ndarray,
    bank: np.ndarray,
    score: Score,
    *,
    device: str = "cpu",
    progress: bool = False,
) -> ImageScores:
    """Score every patch of every image, and every image.

    Parameters
    ----------
    features : array, shape (n_images, h, w, dim)
        May be memory-mapped.
    bank : array, shape (n_bank, dim)
    score : Score
        ``num_neighbors`` is also b of the re-weighting.
    device, progress
        See `find_neighbors`.
    """
    n_images, height, width, dim = features.shape
    k = score.num_neighbors
    neighbors = find_neighbors(
        features.reshape(-1, dim), bank, k, index=score.index, device=device, progress=progress
    )
    flat = patch_scores(neighbors, squared=score.squared).reshape(n_images, height * width)
    images = flat.max(axis=1)
    if score.reweight:
        for row, patch in enumerate(flat.argmax(axis=1)):
            query = features.reshape(n_images, height * width, dim)[row, patch]
            nearest = int(neighbors.indices[row * height * width + patch, 0])
            images[row] *= reweighting(query, nearest, bank, num_neighbors=k)
    return ImageScores(flat.reshape(n_images, height, width), images)

"""Score patches by their distance to a bank of normal patches (Roth et al., 2022, section 3.3)."""

from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np

from ad.neighbors import Neighbors, find_neighbors
from ad.params import Score


def patch_scores(neighbors: Neighbors, *, squared: bool) -> np.ndarray:
    """Average each patch's distances to its k nearest bank patches.

    The authors' implementation averages squared distances (FAISS returns squares); the paper
    writes plain ones.  ``squared`` chooses.  Every operation is rounded correctly, in one order:
    the sum of whole squares is exact, so their mean is rounded once.

    Returns
    -------
    array of float64, shape (n_queries,)
    """
    squares = neighbors.squared_distances
    columns = (squares if squared else np.sqrt(squares)).T
    return sum(columns) / len(columns)


def reweighting(
    query: np.ndarray, nearest: int, bank: np.ndarray, *, num_neighbors: int, unit: float = 1.0
) -> float:
    """Weigh an image's score by how unusual its nearest bank patch is (Roth et al., eq. 7).

    w = 1 - exp(||q - m*||) / sum over m in N_b(m*) of exp(||q - m||), where q is the image's most
    anomalous patch, m* its nearest bank patch and N_b(m*) the b bank patches nearest to m*, itself
    included.  Roots and exponentials are taken in 40 decimal digits, rounded correctly: libraries'
    exponentials differ in the last bit.

    Parameters
    ----------
    query : array of uint8, int8 or float, shape (dim,)
    nearest : int
        Row of m* in the bank.
    bank : array like it, shape (n_bank, dim)
    num_neighbors : int
        b, at most n_bank.
    unit : float
        What a difference of 1 stands for.  The exponential makes w depend on it: whole numbers
        need the step that they were made with.
    """
    wide = np.int64 if bank.dtype in (np.uint8, np.int8) else np.float64
    points = bank.astype(wide)
    from_nearest = np.square(points - points[nearest]).sum(axis=1)
    from_nearest[nearest] = -1  # m* itself comes first, also among duplicates
    support = np.argsort(from_nearest, kind="stable")[:num_neighbors]
    squares = np.square(query.astype(wide) - points[support]).sum(axis=1)
    with localcontext(prec=40):
        distances = [Decimal(square).sqrt() * Decimal(unit) for square in squares.tolist()]
        largest = max(distances)  # subtracted, so that no exponential grows out of range
        exponentials = [(distance - largest).exp() for distance in distances]
        return float(1 - exponentials[0] / sum(exponentials))


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
    unit: float = 1.0,
    device: str = "cpu",
    ignored: np.ndarray | None = None,
) -> ImageScores:
    """Score every patch of every image, and every image.

    Parameters
    ----------
    features : array of uint8 (0..127), int8 (-127..127) or float, shape (n_images, h, w, dim)
        May be memory-mapped.
    bank : array like it, shape (n_bank, dim)
    score : Score
        ``num_neighbors`` is also b of the re-weighting.
    unit : float
        See `reweighting`; nothing else depends on it.
    device
        ``cpu`` or ``cuda``; FAISS's indices do not use it.
    ignored : array of bool, shape (h, w), optional
        Patches that never count: their scores are 0.
    """
    n_images, height, width, dim = features.shape
    queries, k = features.reshape(-1, dim), score.num_neighbors
    neighbors = find_neighbors(queries, bank, k, index=score.index, device=device)
    flat = patch_scores(neighbors, squared=score.squared).reshape(n_images, height * width)
    if ignored is not None:
        flat[:, np.asarray(ignored, dtype=bool).ravel()] = 0
    images = flat.max(axis=1)
    if score.reweight:
        for row, patch in enumerate(flat.argmax(axis=1)):
            number = row * height * width + patch
            nearest = int(neighbors.indices[number, 0])
            images[row] *= reweighting(queries[number], nearest, bank, num_neighbors=k, unit=unit)
    return ImageScores(flat.reshape(n_images, height, width), images)

"""Random projection by signs: of whole numbers to whole numbers, exactly, and of floats."""

import numpy as np
import torch

from ad.exact.products import as_points, dot, is_whole
from ad.parallel import chunk_map

ROWS = 1024  # points that a thread projects at a time


def random_projection(dim: int, projection_dim: int, *, seed: int) -> np.ndarray:
    """Draw a projection of signs (Achlioptas, 2003): float32, shape (dim, projection_dim).

    Its entries, 1 or -1 over sqrt(projection_dim), keep squared distances in expectation.  They are
    bits of PCG64's raw stream, which NumPy keeps the same over its versions.
    """
    words = np.random.PCG64(seed).random_raw(-(-dim * projection_dim // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), count=dim * projection_dim)
    signs = 2 * bits.reshape(dim, projection_dim).astype(np.float32) - 1
    return signs / np.sqrt(np.float32(projection_dim))


def project(features: np.ndarray, projection_dim: int, *, seed: int) -> np.ndarray:
    """Project features at random, in chunks; copy them where there is nothing to do.

    Parameters
    ----------
    features : array of uint8 (0..127), int8 (-127..127) or float, shape (n, dim)
        May be memory-mapped.
    projection_dim : int
        A value of at least ``dim`` keeps the features as they are.

    Returns
    -------
    array, shape (n, min(dim, projection_dim))
        float32 of floats.  uint8 of whole numbers: 64 and the exact sum with signs over the least
        power of two that is no less than 2 sqrt(dim), rounded half to even and cut to 0..127 (six
        standard deviations where the features' root mean square is 20, two where it is 60).

    Raises
    ------
    ValueError
        As `ad.exact.products.as_points`.
    """
    whole = is_whole(features, "features")
    n, dim = features.shape
    if keep := projection_dim >= dim:
        result = np.empty((n, dim), features.dtype if whole else np.float32)
    else:
        result = np.empty((n, projection_dim), np.uint8 if whole else np.float32)
        matrix = np.ascontiguousarray(random_projection(dim, projection_dim, seed=seed).T)
        matrix = torch.from_numpy(np.sign(matrix).astype(np.int8) if whole else matrix)
    step = 2 ** (((4 * dim - 1).bit_length() + 1) // 2)

    def one_chunk(start: int) -> None:
        chunk = as_points(features[start : start + ROWS], "features", start=start).values
        if not keep:
            chunk = dot(chunk, matrix)
            if whole:  # float32 holds the sums and the parts of a step exactly
                chunk = (chunk.float() / step).round_().add_(64).clamp_(0, 127)
        result[start : start + ROWS] = chunk.numpy()

    with chunk_map() as run:
        for _ in run(one_chunk, range(0, n, ROWS)):
            pass
    return result

"""Bilinear resizing and Gaussian smoothing by whole numbers, exact in any order of sums."""

import math
from decimal import Decimal, localcontext

import numpy as np


def bilinear_weights(size_in: int, size_out: int) -> tuple[np.ndarray, int]:
    """Return whole-number weights of bilinear resizing along one axis, and their sum.

    The centres of the outer positions stay half a step from the edge, as in PyTorch's
    ``interpolate`` with ``align_corners=False``.

    Returns
    -------
    weights : array of int64, shape (size_out, size_in)
        Each row sums to ``total``.
    total : int
    """
    total = 2 * size_out
    weights = np.zeros((size_out, size_in), dtype=np.int64)
    for row in range(size_out):
        low, rest = divmod(max((2 * row + 1) * size_in - size_out, 0), total)
        weights[row, min(low, size_in - 1)] += total - rest
        weights[row, min(low + 1, size_in - 1)] += rest
    common = math.gcd(*weights.ravel().tolist())
    return weights // common, total // common


def gaussian_weights(size: int, sigma: float, total: int) -> np.ndarray:
    """Return whole-number weights of Gaussian smoothing along one axis, cut at 4 sigma.

    At the edges values are mirrored, as in SciPy's ``gaussian_filter``.

    Returns
    -------
    array of int64, shape (size, size)
        Each row sums to about ``total``.
    """
    radius = int(4 * sigma + 0.5)
    with localcontext(prec=30):  # decimal exponentials are rounded correctly, libraries' are not
        scale = -1 / (2 * Decimal(sigma) ** 2) if sigma else Decimal(0)
        bell = [(scale * step**2).exp() for step in range(-radius, radius + 1)]
        taps = [int((total * each / sum(bell)).to_integral_value()) for each in bell]
    weights = np.zeros((size, size), dtype=np.int64)
    for row in range(size):
        for step, tap in enumerate(taps, start=-radius):
            place = (row + step) % (2 * size)
            weights[row, min(place, 2 * size - 1 - place)] += tap
    return weights

"""From patch scores to anomaly maps in the pixels of the network's input, by whole numbers."""

import math

import numpy as np

from ad.exact.resizing import bilinear_weights, gaussian_weights

SMOOTHING_SIGMA = 4.0  # pixels; the value of the paper (section 4.4.1) and of the authors' code
EXACT_BITS = 53  # float64 holds every whole number of so many bits
KERNEL_BITS = 16  # of the weights along an axis, of 1


def anomaly_maps(
    patch_scores: np.ndarray, shape: tuple[int, int], *, sigma: float = SMOOTHING_SIGMA
) -> np.ndarray:
    """Bring patch scores to the image's size (bilinear) and smooth them (Gaussian).

    An image's scores are rounded to whole numbers of 20 bits of its largest one, and both steps are
    one product a side with whole-number weights of 16 bits.  Every partial sum is a whole number
    below 2 ** 53, so the maps are the same on every machine; they are within 2e-4 of the image's
    largest score of the same in float64.

    Parameters
    ----------
    patch_scores : array of float, shape (n_images, h, w)
        From 0 on.
    shape : tuple of int
        Height and width of the maps, in pixels.
    sigma : float
        Standard deviation of the smoothing, in pixels; 0 for none.

    Returns
    -------
    array of float32, shape (n_images, *shape)
    """
    sides = zip(patch_scores.shape[1:], shape, strict=True)
    high, wide = (_axis_weights(cells, pixels, sigma) for cells, pixels in sides)
    bits = EXACT_BITS - 1 - 2 * KERNEL_BITS
    maps = np.empty((len(patch_scores), *shape), dtype=np.float32)
    for number, scores in enumerate(patch_scores):
        exponent = bits - math.frexp(float(scores.max()))[1]
        whole = np.rint(np.ldexp(scores.astype(np.float64), exponent))
        maps[number] = np.ldexp(high @ whole @ wide.T, -exponent - 2 * KERNEL_BITS)
    return maps


def _axis_weights(size_in: int, size_out: int, sigma: float) -> np.ndarray:
    """Return resizing and smoothing along one axis: whole numbers, shape (size_out, size_in)."""
    resizing, total = bilinear_weights(size_in, size_out)
    both = gaussian_weights(size_out, sigma, 2**KERNEL_BITS) @ resizing
    weights = np.rint(both / total)  # one correctly rounded division of whole numbers
    # What rounding leaves goes to the largest, so that a constant stays what it is.
    weights[np.arange(size_out), weights.argmax(axis=1)] += 2**KERNEL_BITS - weights.sum(axis=1)
    return weights

"""Anomaly maps, against bilinear interpolation written out and scipy in float64."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ad.localization import _axis_weights, anomaly_maps


def bilinear(coarse: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolate between patch centres, in float64; the outermost values go on to the border."""

    def weights(n: int, size: int) -> np.ndarray:
        matrix = np.zeros((size, n))
        for pixel in range(size):
            place = min(max((pixel + 0.5) * n / size - 0.5, 0), n - 1)
            low = min(int(place), n - 1)
            matrix[pixel, low] += 1 - (place - low)
            matrix[pixel, min(low + 1, n - 1)] += place - low
        return matrix

    height, width = coarse.shape
    return weights(height, shape[0]) @ coarse @ weights(width, shape[1]).T


@pytest.mark.parametrize(
    ("grid", "shape"), [((4, 4), (16, 16)), ((7, 5), (30, 21)), ((6, 6), (6, 6)), ((1, 1), (8, 9))]
)
@pytest.mark.parametrize("sigma", [0, 1.5, None])
def test_maps_equal_interpolation_and_smoothing_in_float64(
    grid: tuple[int, int], shape: tuple[int, int], sigma: float | None
):
    scores = np.random.default_rng(0).random((3, *grid)) * 50
    found = anomaly_maps(scores, shape, **({} if sigma is None else {"sigma": sigma}))
    sigma = 4 if sigma is None else sigma  # by default the paper's
    assert found.shape == (3, *shape)
    assert found.dtype == np.float32
    for own, coarse in zip(found, scores, strict=True):
        fine = bilinear(coarse, shape)
        expected = gaussian_filter(fine, sigma) if sigma else fine
        np.testing.assert_allclose(own, expected, atol=2e-4 * coarse.max())


def test_an_images_map_is_exact_and_its_own():
    """As fractions: weights of 1 / 2 ** 16, scores of 20 bits, and one rounding to float32."""
    scores = np.random.default_rng(4).random((3, 3, 2)) * [[[1e-3]], [[7]], [[1e6]]]
    maps = anomaly_maps(scores, (10, 10), sigma=1.5)
    high, wide = (_axis_weights(side, 10, 1.5) for side in (3, 2))
    for own, coarse in zip(maps, scores, strict=True):
        np.testing.assert_array_equal(anomaly_maps(coarse[None], (10, 10), sigma=1.5)[0], own)
        unit = Fraction(2) ** (math.frexp(coarse.max())[1] - 20)
        whole = [[round(Fraction(value) / unit) for value in row] for row in coarse.tolist()]
        for y, x in np.ndindex(own.shape):
            exact = sum(
                int(high[y, i]) * whole[i][j] * int(wide[x, j]) for i, j in np.ndindex(3, 2)
            )
            assert own[y, x] == np.float32(float(exact * unit / 2**32))


def test_the_peak_stays_over_its_patch():
    scores = np.zeros((1, 8, 8))
    scores[0, 2, 5] = 1
    row, column = np.unravel_index(anomaly_maps(scores, (64, 64))[0].argmax(), (64, 64))
    assert abs(row - (2.5 * 8 - 0.5)) <= 1
    assert abs(column - (5.5 * 8 - 0.5)) <= 1


def test_the_scores_are_not_changed():
    scores = np.random.default_rng(2).random((1, 8, 8)).astype(np.float32)
    before = scores.copy()
    maps = anomaly_maps(scores, (8, 8), sigma=0)
    maps += 1
    np.testing.assert_array_equal(scores, before)

"""Linear maps against scikit-learn, PyTorch and hand-worked cases."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from studies.reconpatch.maps import (
    LinearMap,
    load_map,
    patch_moments,
    pca_map,
    pooling_map,
    projection_map,
    save_map,
)


def patches(n: int = 500, dim: int = 12) -> np.ndarray:
    generator = np.random.default_rng(0)
    mixing = generator.standard_normal((dim, dim)) * np.geomspace(3, 0.1, dim)
    return (generator.standard_normal((n, dim)) @ mixing.T + 40).astype(np.float32)


@pytest.mark.parametrize("n_components", [1, 4, 5, 12])
def test_pooling_is_adaptive_average_pooling(n_components):
    x = patches()
    expected = F.adaptive_avg_pool1d(torch.from_numpy(x)[None], n_components)[0]
    np.testing.assert_allclose(pooling_map(12, n_components)(x), expected, rtol=1e-5)


def test_pca_distances_are_scikit_learns():
    x = patches()
    for whitening, reference in ((0.0, PCA(5)), (1.0, PCA(5, whiten=True))):
        own = pca_map(patch_moments(x), 5, whitening=whitening)(x[:50])
        expected = reference.fit(x.astype(np.float64)).transform(x[:50].astype(np.float64))
        np.testing.assert_allclose(cdist(own, own), cdist(expected, expected), rtol=2e-3, atol=1e-3)


def test_half_whitening_leaves_the_root_of_the_variance():
    x = patches()
    moments = patch_moments(x)
    variances = pca_map(moments, 6, whitening=0.5)(x).var(axis=0, ddof=1)
    np.testing.assert_allclose(variances, np.sqrt(moments.eigenvalues[:6]), rtol=1e-3)


def test_moments_far_from_the_origin():
    x = patches() + np.float32(1000)
    moments = patch_moments(x)
    covariance = np.cov(x.astype(np.float64), rowvar=False)
    rebuilt = moments.eigenvectors * moments.eigenvalues @ moments.eigenvectors.T
    np.testing.assert_allclose(rebuilt, covariance, rtol=1e-4, atol=1e-4 * covariance.max())
    np.testing.assert_allclose(moments.mean, x.astype(np.float64).mean(axis=0), rtol=1e-6)


def test_whitening_of_a_constant_dimension_stays_finite():
    x = patches()
    x[:, 3] = 7.0
    mapped = pca_map(patch_moments(x), 12, whitening=1.0)(x)
    assert np.isfinite(mapped).all()
    assert mapped.std(axis=0).max() < 1.1


def test_full_dimension_pca_keeps_distances():
    x = patches()
    mapped = pca_map(patch_moments(x), 12)(x[:40])
    np.testing.assert_allclose(cdist(mapped, mapped), cdist(x[:40], x[:40]), rtol=1e-3, atol=1e-3)


def test_projection_is_seeded_and_keeps_distances_on_average():
    first, again, other = (projection_map(64, 32, seed=seed).matrix for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    x = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    squares = [
        np.square(np.diff(projection_map(64, 32, seed=s)(x), axis=0)).sum() for s in range(300)
    ]
    assert np.mean(squares) == pytest.approx(np.square(x[1] - x[0]).sum(), rel=0.1)


def test_map_keeps_leading_axes_and_ignores_threads():
    x = patches(540).reshape(15, 6, 6, 12)
    linear = pca_map(patch_moments(x.reshape(-1, 12)), 3)
    torch.set_num_threads(1)
    one = linear(x)
    torch.set_num_threads(2)
    two = linear(x)
    assert one.shape == (15, 6, 6, 3)
    np.testing.assert_array_equal(one, two)
    flat = (x.reshape(-1, 12).astype(np.float64) - linear.mean) @ linear.matrix
    np.testing.assert_allclose(one.reshape(-1, 3), flat, atol=1e-3)


def test_saved_map_comes_back(tmp_path):
    linear = LinearMap(np.arange(6, dtype=np.float32).reshape(3, 2), np.ones(3, dtype=np.float32))
    save_map(tmp_path / "map.safetensors", linear)
    back = load_map(tmp_path / "map.safetensors")
    np.testing.assert_array_equal(back.matrix, linear.matrix)
    np.testing.assert_array_equal(back.mean, linear.mean)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["map.safetensors"]


def test_bad_arguments(one_line):
    moments = patch_moments(patches())
    for call, words in (
        (lambda: pooling_map(12, 13), "n_components=13"),
        (lambda: projection_map(12, 0, seed=0), "n_components=0"),
        (lambda: pca_map(moments, 4, whitening=1.5), "whitening=1.5"),
        (lambda: patch_moments(patches()[:1]), "n_patches=1"),
        (lambda: pooling_map(12, 3)(patches(dim=5)), "5 dimensions"),
        (lambda: patch_moments(np.full((4, 3), np.nan, np.float32)), "NaN"),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        one_line(caught, words)

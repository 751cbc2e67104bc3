"""Similarities and loss against loops written from the paper's equations; training repeats."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ad.reduction import patch_moments, pca_map

from ad.parallel import chunk_map
from studies.reconpatch.training import (
    Settings,
    contextual_similarity,
    ensemble_scores,
    pairwise_similarity,
    relaxed_contrastive_loss,
    similarity,
    squared_distances,
    train,
)

SMALL = Settings(epochs=3, patches_per_image=16, batch_patches=32, learning_rate=1e-3)


def points(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    """Draw points in a few clusters, float64."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((3, dim)) * 2
    return torch.from_numpy(centres[np.arange(n) % 3] + 0.3 * generator.standard_normal((n, dim)))


def distance(z: torch.Tensor, i: int, j: int) -> float:
    return math.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(z[i], z[j], strict=True)))


def neighborhood(z: torch.Tensor, i: int, k: int) -> set[int]:
    """N_k(i): all at most as far as the k-th nearest, i itself included."""
    distances = [distance(z, i, j) for j in range(len(z))]
    return {j for j, d in enumerate(distances) if d <= sorted(distances)[k - 1]}


def slow_contextual(z: torch.Tensor, k: int) -> np.ndarray:
    """Contextual similarity with sets and loops."""
    n = len(z)
    near = [neighborhood(z, i, k) for i in range(n)]
    half = [neighborhood(z, i, max(1, k // 2)) for i in range(n)]
    plain = np.zeros((n, n))
    for i in range(n):
        for j in near[i]:
            plain[i, j] = len(near[i] & near[j]) / len(near[i])
    expanded = np.zeros((n, n))
    for i in range(n):
        reciprocal = [j for j in half[i] if i in half[j]]
        for j in range(n):
            expanded[i, j] = sum(plain[m, j] for m in reciprocal) / len(reciprocal)
    return np.array([[(expanded[i, j] + expanded[j, i]) / 2 for j in range(n)] for i in range(n)])


def slow_loss(z: torch.Tensor, weights: np.ndarray, margin: float) -> float:
    """Relaxed contrastive loss with loops."""
    n, total = len(z), 0.0
    for i in range(n):
        mean = sum(distance(z, i, m) for m in range(n)) / n
        for j in range(n):
            relative = distance(z, i, j) / mean
            total += weights[i, j] * relative**2
            total += (1 - weights[i, j]) * max(0.0, margin - relative) ** 2
    return total / n


@pytest.mark.parametrize("k", [2, 3, 5, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_contextual_similarity(k, seed):
    z = points(24, 5, seed)
    found = contextual_similarity(squared_distances(z), k).numpy()
    np.testing.assert_allclose(found, slow_contextual(z, k), atol=1e-12)
    assert np.array_equal(found, found.T)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12


def test_contextual_similarity_by_hand():
    # On a line: 0 and 1 are each other's nearest, 5 and 6 likewise; k = 2 holds a point and one.
    z = torch.tensor([[0.0], [1.0], [5.0], [6.0]], dtype=torch.float64)
    expected = np.kron(np.eye(2), np.ones((2, 2)))
    np.testing.assert_array_equal(contextual_similarity(squared_distances(z), 2), expected)


def test_pairwise_similarity_and_mix():
    z = points(12, 4)
    slow = np.array(
        [[math.exp(-(distance(z, i, j) ** 2) / 0.7) for j in range(12)] for i in range(12)]
    )
    np.testing.assert_allclose(pairwise_similarity(squared_distances(z), 0.7), slow, atol=1e-12)
    mixed = similarity(z, alpha=0.3, sigma=0.7, k=4)
    np.testing.assert_allclose(mixed, 0.3 * slow + 0.7 * slow_contextual(z, 4), atol=1e-12)


@pytest.mark.parametrize("margin", [0.4, 1.0, 2.0])
def test_loss(margin):
    z = points(20, 6)
    weights = similarity(z, alpha=0.5, sigma=1.0, k=5)
    found = float(relaxed_contrastive_loss(z, weights, margin))
    # The loops have distance 0 on the diagonal, the root has 1e-6: of no weight in the loss.
    assert found == pytest.approx(slow_loss(z, weights.numpy(), margin), rel=1e-5)


def test_loss_does_not_depend_on_scale_or_place():
    z = points(20, 6)
    weights = similarity(z, alpha=0.5, sigma=1.0, k=5)
    reference = float(relaxed_contrastive_loss(z, weights, 1.0))
    assert float(relaxed_contrastive_loss(7 * z + 3, weights, 1.0)) == pytest.approx(reference)


def test_gradient():
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    patches = points(9, 5)
    weights = similarity(patches[:, :3], alpha=0.5, sigma=1.0, k=3)
    assert torch.autograd.gradcheck(
        lambda f: relaxed_contrastive_loss(patches @ f, weights, 1.0), (f,)
    )


def test_gradient_of_duplicates_is_finite():
    z = points(6, 3).repeat(2, 1).requires_grad_()
    relaxed_contrastive_loss(z, torch.zeros(12, 12, dtype=torch.float64), 1.0).backward()
    assert bool(torch.isfinite(z.grad).all())


def training_set(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    parts = generator.standard_normal((10, 16))
    features = parts[generator.integers(0, 10, (12, 36))]
    return (features + 0.2 * generator.standard_normal(features.shape)).astype(np.float32)


@pytest.mark.parametrize("start", ["pca", "random"])
def test_training_repeats_on_any_number_of_threads(start):
    features = training_set()
    moments = patch_moments(features.reshape(-1, 16))
    settings = replace(SMALL, start=start)

    def one(seed: int) -> np.ndarray:
        return train(features, 4, moments, seed=seed, settings=settings, progress=False).map.matrix

    with chunk_map(2) as run:
        together = list(run(one, [0, 1]))
    torch.set_num_threads(1)
    np.testing.assert_array_equal(one(0), together[0])
    np.testing.assert_array_equal(one(1), together[1])
    assert not np.array_equal(together[0], together[1])
    assert together[0].shape == (16, 4)


def test_training_starts_at_pca_and_moves_by_the_rate():
    features = training_set()
    moments = patch_moments(features.reshape(-1, 16))
    start = pca_map(moments, 4).matrix
    slow = train(
        features, 4, moments, seed=0, settings=replace(SMALL, learning_rate=1e-9), progress=False
    )
    np.testing.assert_allclose(slow.map.matrix, start, atol=1e-6)
    fast = train(features, 4, moments, seed=0, settings=SMALL, progress=False)
    assert np.abs(fast.map.matrix - start).max() > 1e-4
    whole = train(
        features, 16, moments, seed=0, settings=replace(SMALL, learning_rate=1e-9), progress=False
    )
    np.testing.assert_allclose(whole.map.matrix, np.eye(16), atol=1e-6)


@pytest.mark.parametrize("n_components", [4, 16])
def test_a_whitened_start_keeps_pca_s_directions_and_plain_pca_s_size(n_components):
    features = training_set()
    moments = patch_moments(features.reshape(-1, 16))
    settings = replace(SMALL, learning_rate=1e-9, whitening=0.5)
    found = train(features, n_components, moments, seed=0, settings=settings, progress=False)
    matrix = pca_map(moments, n_components, whitening=0.5).matrix
    expected = matrix * np.sqrt(n_components) / np.linalg.norm(matrix)
    np.testing.assert_allclose(found.map.matrix, expected, atol=1e-6)


def test_training_lowers_the_loss_where_the_labels_stand_still():
    features = training_set()
    moments = patch_moments(features.reshape(-1, 16))
    # Averages that hardly follow keep the labels; one batch holds all patches of an epoch.
    settings = Settings(
        start="random",
        momentum=1 - 1e-9,
        epochs=200,
        patches_per_image=36,
        batch_patches=12 * 36,
        learning_rate=1e-3,
    )
    losses = train(features, 3, moments, seed=0, settings=settings, progress=False).losses
    assert losses[-20:].max() < losses[:20].min()


def test_the_unit_of_features_does_not_matter():
    features = training_set()
    maps = []
    for unit in (1.0, 64.0):
        own = features * np.float32(unit)
        moments = patch_moments(own.reshape(-1, 16))
        maps.append(train(own, 4, moments, seed=0, settings=SMALL, progress=False).map.matrix)
    np.testing.assert_allclose(np.abs(maps[0]), np.abs(maps[1]), atol=1e-3)


def test_bad_settings(one_line):
    for wrong, words in (
        ({"start": "zeros"}, "start='zeros'"),
        ({"alpha": 1.5}, "alpha=1.5"),
        ({"whitening": 1.5}, "whitening=1.5"),
        ({"sigma": 0.0}, "sigma=0.0"),
        ({"neighbors": 1}, "neighbors=1"),
    ):
        with pytest.raises(ValueError) as caught:
            Settings(**wrong)
        one_line(caught, words)
    features = training_set()
    moments = patch_moments(features.reshape(-1, 16))
    with pytest.raises(ValueError) as caught:
        train(features, 17, moments, seed=0, settings=SMALL, progress=False)
    one_line(caught, "n_components=17", "dim=16")
    with pytest.raises(ValueError) as caught:
        train(features, 4, moments, seed=0, settings=Settings(), progress=False)
    one_line(caught, "batch_patches=512")


def test_ensemble_standardises_each_model():
    generator = np.random.default_rng(0)
    normal, scores = generator.normal(5, 2, 50), generator.normal(6, 2, 9)
    one = (scores - normal.mean()) / normal.std(ddof=1)
    np.testing.assert_allclose(ensemble_scores([scores], [normal]), one)
    both = ensemble_scores([scores, 100 * scores + 7], [normal, 100 * normal + 7])
    np.testing.assert_allclose(both, one)  # a model's unit does not weigh
    with pytest.raises(ValueError, match="do not vary"):
        ensemble_scores([scores], [np.ones(3)])

"""Similarities and loss against loops written from the paper's equations; training repeats."""

import math

import numpy as np
import pytest
import torch

from ad.parallel import chunk_map
from studies.reconpatch.maps import Moments, patch_moments, pca_map
from studies.reconpatch.settings import Training
from studies.reconpatch.training import (
    Trained,
    _epoch,
    contextual_similarity,
    movement,
    pairwise_similarity,
    relaxed_contrastive_loss,
    similarity,
    squared_distances,
    train,
)

SMALL = Training(epochs=3, patches_per_image=16, batch_patches=32, learning_rate=1e-3, start="pca")


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


def training_set(seed: int = 0) -> tuple[np.ndarray, Moments]:
    generator = np.random.default_rng(seed)
    parts = generator.standard_normal((10, 16))
    features = parts[generator.integers(0, 10, (12, 36))]
    features = (features + 0.2 * generator.standard_normal(features.shape)).astype(np.float32)
    return features, patch_moments(features.reshape(-1, 16))


def run(n_components: int = 4, seed: int = 0, keep: tuple[int, ...] = (), **changes) -> Trained:
    """Train on the small set with some settings changed."""
    features, moments = training_set()
    how = SMALL.model_copy(update=changes)
    return train(features, n_components, moments, how, seed=seed, keep=keep)


@pytest.mark.parametrize("start", ["pca", "random"])
def test_training_repeats_on_any_number_of_threads(start):
    with chunk_map(2) as mapped:
        together = list(mapped(lambda seed: run(seed=seed, start=start).map.matrix, [0, 1]))
    torch.set_num_threads(1)
    for seed in (0, 1):
        np.testing.assert_array_equal(run(seed=seed, start=start).map.matrix, together[seed])
    assert not np.array_equal(together[0], together[1])
    assert together[0].shape == (16, 4)


def test_training_starts_at_pca_and_moves_by_the_rate():
    start = pca_map(training_set()[1], 4).matrix
    np.testing.assert_allclose(run(learning_rate=1e-9).map.matrix, start, atol=1e-6)
    assert np.abs(run().map.matrix - start).max() > 1e-4
    whole = run(16, learning_rate=1e-9).map.matrix
    np.testing.assert_allclose(whole, np.eye(16), atol=1e-6)


@pytest.mark.parametrize("n_components", [4, 16])
def test_a_whitened_start_keeps_pca_s_directions_and_plain_pca_s_size(n_components):
    found = run(n_components, learning_rate=1e-9, start_whitening=0.5).map.matrix
    matrix = pca_map(training_set()[1], n_components, whitening=0.5).matrix
    expected = matrix * np.sqrt(n_components) / np.linalg.norm(matrix)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_training_lowers_the_loss_where_the_labels_stand_still():
    # Averages that hardly follow keep the labels; one batch holds all patches of an epoch.
    fixed = {"momentum": 1 - 1e-9, "epochs": 40, "learning_rate": 3e-3, "batch_patches": 12 * 36}
    losses = run(3, start="random", patches_per_image=None, **fixed).losses
    assert losses[-10:].max() < losses[:10].min()


def test_the_unit_of_features_does_not_matter():
    features, _ = training_set()
    maps = []
    for unit in (1.0, 64.0):
        scaled = features * np.float32(unit)
        moments = patch_moments(scaled.reshape(-1, 16))
        maps.append(train(scaled, 4, moments, SMALL, seed=0).map.matrix)
    np.testing.assert_allclose(np.abs(maps[0]), np.abs(maps[1]), atol=1e-3)


@pytest.mark.parametrize(("per_image", "expected"), [(None, 36), (36, 36), (7, 7), (99, 36)])
def test_an_epoch_takes_so_many_patches_of_every_image_each_once(per_image, expected):
    how = SMALL.model_copy(update={"patches_per_image": per_image})
    batches = list(_epoch((12, 36), how, torch.Generator().manual_seed(0)))
    rows, columns = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)
    np.testing.assert_array_equal(np.bincount(rows), np.full(12, expected))
    assert all(len(batch) >= how.batch_patches for batch, _ in batches)


def test_maps_kept_on_the_way_are_those_of_the_course():
    trained = run(keep=(0, 1, 3))
    assert list(trained.kept) == [0, 1, 3]
    np.testing.assert_array_equal(trained.kept[3].matrix, trained.map.matrix)
    np.testing.assert_array_equal(trained.kept[0].matrix, pca_map(training_set()[1], 4).matrix)
    assert 0 < movement(trained.kept[0], trained.kept[1]) < trained.movement
    start, end = trained.kept[0].matrix, trained.map.matrix
    expected = math.sqrt(((end - start) ** 2).sum() / (start**2).sum())
    assert trained.movement == pytest.approx(expected, rel=1e-5)


def test_bad_settings(one_line):
    for wrong, words in (
        ({"start": "zeros"}, "start"),
        ({"alpha": 1.5}, "alpha"),
        ({"sigma": 0.0}, "sigma"),
        ({"neighbors": 1}, "neighbors"),
        ({"neighbors": 600}, "batch_patches"),
    ):
        with pytest.raises(ValueError, match=words):
            Training(**wrong)
    for call, words in (
        (lambda: run(17), ("n_components=17", "dim=16")),
        (lambda: run(batch_patches=512), ("192 patches", "batch_patches=512")),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        one_line(caught, *words)

"""Neighbours and scores against float64 brute force and hand-worked cases."""

import faiss
import numpy as np
import pytest

from ad.memory_bank import (
    Neighbors,
    exact_neighbors,
    faiss_neighbors,
    find_neighbors,
    patch_scores,
    recall,
    reweighting,
    score_images,
)


def brute_force(queries: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    """Return the k smallest squared distances in float64, from differences."""
    q, b = queries.astype(np.float64), bank.astype(np.float64)
    squared = np.stack([((row - b) ** 2).sum(axis=1) for row in q])
    return np.sort(squared, axis=1)[:, :k]


def draw(n_queries: int, n_bank: int, dim: int, *, shift: float = 0.0, seed: int = 0):
    """Draw queries and a bank around ``shift``."""
    generator = np.random.default_rng(seed)
    queries = generator.standard_normal((n_queries, dim)).astype(np.float32) + np.float32(shift)
    bank = generator.standard_normal((n_bank, dim)).astype(np.float32) + np.float32(shift)
    return queries, bank


@pytest.mark.parametrize(
    ("n_queries", "n_bank", "dim", "k", "shift"),
    [
        (700, 900, 32, 5, 0.0),
        (700, 933, 32, 1, 0.0),  # a bank that the groups do not divide
        (40, 7, 16, 7, 0.0),  # k = the whole bank
        (30, 2000, 1, 9, 0.0),  # one dimension: many near ties
        (300, 800, 64, 5, 30.0),  # far from the origin
        (1, 1, 3, 1, 0.0),
    ],
)
def test_equal_float64_brute_force(n_queries, n_bank, dim, k, shift):
    queries, bank = draw(n_queries, n_bank, dim, shift=shift)
    found = exact_neighbors(queries, bank, k)
    expected = brute_force(queries, bank, k)
    np.testing.assert_allclose(found.squared_distances, expected, rtol=1e-4, atol=1e-12)
    own = ((queries[:, None].astype(float) - bank[found.indices].astype(float)) ** 2).sum(axis=2)
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("distance", [0.0, 1e-6, 1e-4, 1e-2])
def test_no_cancellation_near_zero(distance):
    _, bank = draw(1, 1500, 128, shift=5.0)
    direction = np.random.default_rng(3).standard_normal((400, 128)).astype(np.float32)
    queries = bank[:400] + np.float32(distance) * direction
    found = exact_neighbors(queries, bank, 3)
    # What float32 storage of centred points leaves of a difference.
    resolution = 128 * (np.abs(bank).max() * np.finfo(np.float32).eps) ** 2
    np.testing.assert_allclose(
        found.squared_distances, brute_force(queries, bank, 3), rtol=1e-4, atol=resolution
    )
    assert np.array_equal(found.indices[:, 0], np.arange(400))


def test_threads_do_not_change_a_bit():
    queries, bank = draw(3000, 700, 24)
    one, two = (exact_neighbors(queries, bank, 5, threads=t) for t in (1, 2))
    assert one.squared_distances.tobytes() == two.squared_distances.tobytes()
    assert np.array_equal(one.indices, two.indices)


def test_memory_mapped_queries(tmp_path):
    queries, bank = draw(100, 300, 8)
    np.save(tmp_path / "queries.npy", queries)
    mapped = np.load(tmp_path / "queries.npy", mmap_mode="r")
    a, b = exact_neighbors(mapped, bank, 2), exact_neighbors(queries, bank, 2)
    assert np.array_equal(a.squared_distances, b.squared_distances)


def test_faiss_flat_agrees_and_threads_are_restored():
    queries, bank = draw(200, 600, 16)
    before = faiss.omp_get_max_threads()
    flat = faiss_neighbors(queries, bank, 4, index="faiss_flat", threads=1)
    assert faiss.omp_get_max_threads() == before
    np.testing.assert_allclose(
        flat.squared_distances, brute_force(queries, bank, 4), rtol=1e-4, atol=1e-5
    )


def test_hnsw_recall_is_measured_against_exact():
    queries, bank = draw(200, 3000, 8)
    exact = exact_neighbors(queries, bank, 5)
    approximate = find_neighbors(queries, bank, 5, index="faiss_hnsw", threads=1)
    assert recall(exact, exact) == 1.0
    assert recall(approximate, exact) > 0.9
    damaged = Neighbors(exact.squared_distances, np.where([1, 1, 0, 0, 0], exact.indices, -1))
    assert recall(damaged, exact) == pytest.approx(0.4)


def test_unknown_index_and_too_many_neighbours():
    queries, bank = draw(5, 4, 3)
    with pytest.raises(ValueError, match=r"score\.index='annoy' must be"):
        find_neighbors(queries, bank, 1, index="annoy")
    with pytest.raises(ValueError, match=r"score\.num_neighbors=5 must be 1 to .* n_patches=4"):
        find_neighbors(queries, bank, 5)
    with pytest.raises(ValueError, match=r"\(5, 3\) and bank \(4, 2\)"):
        find_neighbors(queries, bank[:, :2], 1)


def test_patch_scores_squared_or_plain():
    neighbors = Neighbors(np.array([[4.0, 16.0]], dtype=np.float32), np.array([[0, 1]]))
    assert patch_scores(neighbors, squared=True) == pytest.approx([10.0])
    assert patch_scores(neighbors, squared=False) == pytest.approx([3.0])


def test_reweighting_hand_worked():
    bank = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
    query = np.array([1.0, 0.0])
    # m* = (0, 0) at 1; of its two nearest, itself and (0, 1), the latter is sqrt(2) from q.
    expected = 1 - np.exp(1.0) / (np.exp(1.0) + np.exp(np.sqrt(2.0)))
    assert reweighting(query, 0, bank, num_neighbors=2) == pytest.approx(expected)


def test_reweighting_survives_large_distances_and_duplicates():
    bank = np.array([[0.0], [0.0], [1e4]])
    assert reweighting(np.array([1e4 - 1.0]), 2, bank, num_neighbors=1) == 0.0
    assert reweighting(np.array([2e3]), 1, bank, num_neighbors=2) == pytest.approx(0.5)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("reweight", [True, False])
def test_image_scores_equal_the_definition(squared, reweight):
    generator = np.random.default_rng(4)
    features = generator.standard_normal((6, 3, 4, 10)).astype(np.float32)
    bank = generator.standard_normal((50, 10)).astype(np.float32)
    found = score_images(features, bank, num_neighbors=3, squared=squared, reweight=reweight)
    for number in range(6):
        patches = features[number].reshape(-1, 10).astype(float)
        squares = ((patches[:, None] - bank.astype(float)) ** 2).sum(axis=2)
        distances = squares if squared else np.sqrt(squares)
        scores = np.sort(distances, axis=1)[:, :3].mean(axis=1)
        np.testing.assert_allclose(found.patches[number].ravel(), scores, rtol=1e-4)
        expected = scores.max()
        if reweight:
            star = scores.argmax()
            nearest = squares[star].argmin()
            support = np.argsort(((bank - bank[nearest]) ** 2).sum(axis=1))[:3]
            to_support = np.sqrt(squares[star][support])
            expected *= 1 - np.exp(np.sqrt(squares[star, nearest])) / np.exp(to_support).sum()
        assert found.images[number] == pytest.approx(expected, rel=1e-3)

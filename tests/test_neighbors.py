"""Neighbours against float64 brute force, with and without bounds, and FAISS beside them."""

import faiss
import numpy as np
import pytest

from ad import neighbors
from ad.neighbors import Neighbors, exact_neighbors, faiss_neighbors, find_neighbors, recall


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


def clusters(n: int, dim: int, *, rank: int, seed: int) -> np.ndarray:
    """Draw points in clusters near a subspace, as patch features lie."""
    generator = np.random.default_rng(seed)
    directions = np.random.default_rng(77).standard_normal((rank, dim))
    centres = np.random.default_rng(78).standard_normal((20, rank))
    inside = centres[generator.integers(20, size=n)] + 0.3 * generator.standard_normal((n, rank))
    noise = 0.1 * generator.standard_normal((n, dim))
    return (inside @ directions + noise).astype(np.float32)


def far_ones(points: np.ndarray) -> np.ndarray:
    points[::50] *= 30
    return points


LARGE = neighbors.FEWEST_ROWS + 37  # searched with bounds
BOUNDED = {
    "near a subspace": lambda n, seed: clusters(n, 200, rank=12, seed=seed),
    "within a subspace": lambda n, seed: np.tile(draw(n, 1, 25, seed=seed)[0], 8),
    "some far from everything": lambda n, seed: far_ones(clusters(n, 200, rank=12, seed=seed)),
    "alike in all directions": lambda n, seed: draw(n, 1, 200, seed=seed)[0],
    "far from the origin": lambda n, seed: clusters(n, 200, rank=12, seed=seed) + np.float32(30),
    "few values, many ties": lambda n, seed: draw(n, 1, 200, seed=seed)[0].round().clip(-1, 1),
}


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("kind", BOUNDED)
def test_bounds_leave_out_no_neighbour(kind, k):
    bank, queries = BOUNDED[kind](LARGE, 1), BOUNDED[kind](600, 2)
    queries[:20] = bank[:20]  # distance zero
    found = exact_neighbors(queries, bank, k)
    expected = brute_force(queries, bank, k)
    # What float32 storage of centred points leaves of a difference.
    resolution = 200 * (np.abs(bank).max() * np.finfo(np.float32).eps) ** 2
    np.testing.assert_allclose(found.squared_distances, expected, rtol=1e-4, atol=resolution)
    own = ((queries[:, None].astype(float) - bank[found.indices].astype(float)) ** 2).sum(axis=2)
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=resolution)


def test_bounds_are_used_and_are_below_the_distances():
    bank, queries = clusters(LARGE, 200, rank=12, seed=1), clusters(300, 200, rank=12, seed=2)
    ready = neighbors._Bank(bank, 5)
    assert ready.bounded
    centred = queries - ready.mean
    norms = np.square(centred).sum(axis=1)
    short = np.hstack([ready.shorten(centred, norms), np.ones((300, 1), np.float32)])
    bounds = short.astype(float) @ ready.short_factors.T.astype(float) + norms[:, None]
    squared = ((queries[:, None].astype(float) - bank.astype(float)) ** 2).sum(axis=2)
    assert (bounds <= squared + neighbors.ROUNDING * (norms[:, None] + ready.norms)).all()
    assert np.mean(bounds / squared) > 0.5  # tight enough to leave most of the bank out


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


@pytest.mark.parametrize(("n_bank", "dim"), [(700, 24), (LARGE, 200)])
def test_threads_do_not_change_a_bit(n_bank, dim):
    queries, bank = clusters(3000, dim, rank=6, seed=0), clusters(n_bank, dim, rank=6, seed=1)
    one, two = (exact_neighbors(queries, bank, 5, threads=t) for t in (1, 2))
    assert one.squared_distances.tobytes() == two.squared_distances.tobytes()
    assert np.array_equal(one.indices, two.indices)


@pytest.mark.parametrize("n_bank", [50, LARGE])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(n_bank, value):
    queries, bank = draw(30, n_bank, 200)
    bad = bank.copy()
    bad[7, 3] = value
    with pytest.raises(ValueError, match=rf"of {n_bank} bank patches hold NaN or infinity"):
        exact_neighbors(queries, bad, 2)
    queries[4, 1] = value
    with pytest.raises(ValueError, match=r"1 of 30 query patches hold NaN or infinity"):
        exact_neighbors(queries, bank, 2)


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

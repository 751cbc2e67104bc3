"""Neighbours against brute force: int64 and ties for whole numbers, float64 for floats."""

import faiss
import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ad import neighbors
from ad.exact import products
from ad.neighbors import Neighbors, exact_neighbors, faiss_neighbors, find_neighbors, recall


def brute_force(queries: np.ndarray, bank: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k least squared distances in int64 and their rows, the lower row at a tie."""
    q, b = queries.astype(np.int64), bank.astype(np.int64)
    squared = np.stack([np.square(b - row).sum(axis=1) for row in q])
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, order, axis=1), order


def draw(n: int, dim: int, *, least: int = 0, most: int = 127, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).integers(least, most + 1, (n, dim))
    return values.astype(np.uint8 if least >= 0 else np.int8)


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """Give queries, a bank, and k."""
    some = draw(80, 5, most=20, seed=3)
    return {
        "spread": (draw(150, 24, seed=0), draw(333, 24, seed=1), 5),
        "signed": (draw(150, 9, least=-127, seed=0), draw(320, 9, least=-127, seed=1), 4),
        "a signed bank": (draw(40, 9, seed=0), draw(120, 9, least=-127, seed=1), 4),
        "two values, many ties": (draw(200, 4, most=1, seed=0), draw(700, 4, most=1, seed=1), 9),
        "signed ties": (*(draw(n, 3, least=-1, most=1, seed=n) for n in (90, 200)), 50),
        "duplicates": (some, some.repeat(5, axis=0)[::-1], 7),
        "zeros": (np.zeros((30, 3), np.uint8), np.zeros((100, 3), np.uint8), 20),
        "k is the bank": (draw(20, 6, seed=0), draw(37, 6, seed=1), 37),
        "one of each": (draw(1, 1, seed=0), draw(1, 1, seed=1), 1),
        "one dimension": (draw(300, 1, seed=0), draw(250, 1, seed=1), 6),
        "wide": (draw(20, 2100, least=-127, seed=0), draw(90, 2100, least=-127, seed=1), 3),
        "as far as can be": (
            np.full((7, 1041), 127, np.int8),
            np.tile(np.array([[-127], [127], [-127]], np.int8), (20, 1041)),
            45,
        ),
    }


@pytest.mark.parametrize("name", pairs())
@pytest.mark.parametrize("step", [16, 50, 1024])
def test_whole_numbers_equal_brute_force_in_int64(name, step, monkeypatch):
    """Whatever the chunks' borders and the number of threads."""
    monkeypatch.setattr(neighbors, "ROWS", step)
    queries, bank, k = pairs()[name]
    squared, rows = brute_force(queries, bank, k)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found = exact_neighbors(queries, bank, k)
        assert found.squared_distances.dtype == np.float64
        np.testing.assert_array_equal(found.squared_distances, squared)
        np.testing.assert_array_equal(found.indices, rows)


@pytest.mark.parametrize("name", ["spread", "signed", "two values, many ties", "wide"])
@pytest.mark.parametrize("group", [1, 3, 64])
def test_neither_the_engine_nor_the_groups_matter(name, group, monkeypatch):
    monkeypatch.setattr(neighbors, "GROUP", group)
    monkeypatch.setattr(products, "_by_bytes", products._by_floats)
    monkeypatch.setattr(neighbors, "CELLS", 0)  # fewest queries at a time
    products.exact_product.cache_clear()
    queries, bank, k = pairs()[name]
    found = exact_neighbors(queries, bank, k)
    products.exact_product.cache_clear()
    squared, rows = brute_force(queries, bank, k)
    np.testing.assert_array_equal(found.squared_distances, squared)
    np.testing.assert_array_equal(found.indices, rows)


def draw_floats(n: int, dim: int, *, shift: float = 0.0, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((n, dim)) + shift
    return values.astype(np.float32)


@pytest.mark.parametrize(
    ("n_bank", "dim", "k", "shift"),
    [(900, 32, 5, 0.0), (933, 32, 1, 0.0), (7, 16, 7, 0.0), (800, 64, 5, 3.0), (1, 3, 1, 0.0)],
)
def test_floats_agree_with_scikit_learn(n_bank, dim, k, shift):
    queries = draw_floats(300, dim, shift=shift, seed=0)
    bank = draw_floats(n_bank, dim, shift=shift, seed=1)
    found = exact_neighbors(queries, bank, k)
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank.astype(np.float64))
    expected = index.kneighbors(queries.astype(np.float64))[0] ** 2
    # float32's rounding of |q|^2 - 2 q.b + |b|^2
    rounding = 1e-6 * 4 * dim * (1 + shift**2)
    np.testing.assert_allclose(found.squared_distances, expected, rtol=0, atol=rounding)
    own = np.square(queries[:, None].astype(float) - bank[found.indices].astype(float)).sum(axis=2)
    np.testing.assert_allclose(own, expected, rtol=0, atol=rounding)


def test_floats_that_are_whole_numbers_give_the_same_neighbours():
    queries, bank, k = pairs()["two values, many ties"]
    whole = exact_neighbors(queries, bank, k)
    floats = exact_neighbors(queries.astype(np.float16), bank.astype(np.float64), k)
    np.testing.assert_array_equal(whole.squared_distances, floats.squared_distances)
    np.testing.assert_array_equal(whole.indices, floats.indices)


def test_memory_mapped_queries(tmp_path):
    queries, bank, k = pairs()["spread"]
    np.save(tmp_path / "queries.npy", queries)
    mapped = np.load(tmp_path / "queries.npy", mmap_mode="r")
    found = exact_neighbors(mapped, bank, k)
    np.testing.assert_array_equal(found.indices, brute_force(queries, bank, k)[1])


def test_faiss_flat_agrees_and_threads_are_restored():
    queries, bank, k = pairs()["spread"]
    before = faiss.omp_get_max_threads()
    flat = faiss_neighbors(queries, bank, k, index="faiss_flat")
    assert faiss.omp_get_max_threads() == before
    np.testing.assert_array_equal(flat.squared_distances, brute_force(queries, bank, k)[0])


def test_hnsw_recall_is_measured_against_exact():
    queries, bank = draw_floats(200, 8, seed=0), draw_floats(3000, 8, seed=1)
    exact = exact_neighbors(queries, bank, 5)
    approximate = find_neighbors(queries, bank, 5, index="faiss_hnsw")
    assert recall(exact, exact) == 1.0
    assert recall(approximate, exact) > 0.9
    damaged = Neighbors(exact.squared_distances, np.where([1, 1, 0, 0, 0], exact.indices, -1))
    assert recall(damaged, exact) == pytest.approx(0.4)


def test_what_does_not_fit_together_is_refused():
    queries, bank = draw_floats(5, 3, seed=0), draw_floats(4, 3, seed=1)
    with pytest.raises(ValueError, match=r"score\.index='annoy' must be"):
        find_neighbors(queries, bank, 1, index="annoy")
    with pytest.raises(ValueError, match=r"score\.num_neighbors=5 must be 1 to .* 4 patches"):
        find_neighbors(queries, bank, 5)
    with pytest.raises(ValueError, match=r"\(5, 3\) and bank \(4, 2\)"):
        find_neighbors(queries, bank[:, :2], 1)
    with pytest.raises(ValueError, match=r"queries are float32, bank uint8: both float or neither"):
        find_neighbors(queries, bank.astype(np.uint8), 1)
    queries = draw_floats(2000, 3, seed=0)
    queries[1404, 1] = np.nan
    with pytest.raises(ValueError, match=r"queries\[1404, 1\] is nan"):
        find_neighbors(queries, bank, 1)

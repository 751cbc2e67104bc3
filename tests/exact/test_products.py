"""Whole-number products against int64, by every engine; an engine that is not exact is refused."""

import numpy as np
import pytest
import torch

from ad.exact import products
from ad.exact.products import LARGEST, MOST_DIMS, as_points, dot, exact_product, shifted_squares


@pytest.fixture(autouse=True)
def engines_forgotten():
    exact_product.cache_clear()
    yield
    exact_product.cache_clear()


def draw(kind: str, n: int, dim: int, seed: int) -> np.ndarray:
    """Draw rows of random or of the largest values; signed ones are int8."""
    generator = np.random.default_rng(seed)
    least, dtype = (-LARGEST, np.int8) if "signed" in kind else (0, np.uint8)
    values = generator.integers(least, LARGEST + 1, (n, dim)).astype(dtype)
    if "worst" in kind:
        values[:] = np.where(np.arange(n) % 2, least, LARGEST)[:, None]
    return values


@pytest.mark.parametrize("dim", [1, 2, 63, 1040, 1041, 2100])
@pytest.mark.parametrize("kind", ["random", "worst", "random signed", "worst signed"])
@pytest.mark.parametrize("engine", ["whichever", "floats"])
def test_products_and_squares_equal_int64(dim, kind, engine, monkeypatch):
    if engine == "floats":
        monkeypatch.setattr(products, "_by_bytes", products._by_floats)
    left, right = draw(kind, 37, dim, 0), draw(kind, 29, dim, 1)
    a, b = as_points(left, "a"), as_points(right, "b")
    wide = left.astype(np.int64), right.astype(np.int64)
    np.testing.assert_array_equal(dot(a.values, b.values), wide[0] @ wide[1].T)
    squares = np.square(wide[0][:, None] - wide[1]).sum(axis=2)
    np.testing.assert_array_equal(shifted_squares(a, b) + a.norms[:, None], squares)


def test_the_most_dimensions_hold_the_largest_distance(monkeypatch):
    monkeypatch.setattr(products, "exact_product", lambda *_: products._by_floats)
    for least, dtype in ((0, np.uint8), (-LARGEST, np.int8)):
        rows = np.array([least, LARGEST], dtype=dtype)[:, None].repeat(MOST_DIMS, axis=1)
        points = as_points(rows, "rows")
        squares = (shifted_squares(points, points) + points.norms[:, None]).numpy()
        far = MOST_DIMS * (LARGEST - least) ** 2
        np.testing.assert_array_equal(squares, [[0, far], [far, 0]])
    assert (2 * LARGEST) ** 2 * (MOST_DIMS + 1) >= 2**31


def saturated(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sum pairs of products in 16 bits, as instructions before VNNI do."""
    shift = 128 if left.dtype == torch.int8 else 0
    wide, right = left.long() + shift, right.long()
    if wide.shape[1] % 2:
        wide, right = (torch.nn.functional.pad(part, (0, 1)) for part in (wide, right))
    pairs = (wide[:, None] * right).unflatten(2, (-1, 2)).sum(dim=3).clamp(-(2**15), 2**15 - 1)
    return (pairs.sum(dim=2) - shift * right.sum(dim=1)).int()


@pytest.mark.parametrize("dim", [1, 2, 5, 64])
def test_saturating_bytes_are_used_where_they_are_exact_only(dim, monkeypatch):
    monkeypatch.setattr(products, "_by_bytes", saturated)
    assert exact_product(dim, False, "cpu") is saturated
    if dim > 1:  # one product alone fits
        assert exact_product(dim, True, "cpu") is products._by_floats
    left, right = draw("worst signed", 6, dim, 0), draw("random signed", 5, dim, 1)
    found = dot(torch.from_numpy(left), torch.from_numpy(right))
    np.testing.assert_array_equal(found, left.astype(int) @ right.T.astype(int))


def off_by_one_at_the_worst(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    found = products._by_floats(left, right)
    return found - (found == found.max()).int()


def rounded(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (left.bfloat16().float() @ right.bfloat16().float().T).bfloat16().int()


def by_shape(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return products._by_floats(left, right) + (left.shape[0] > 100)


def missing(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("not built in")


@pytest.mark.parametrize("engine", [off_by_one_at_the_worst, rounded, by_shape, missing])
@pytest.mark.parametrize("signed", [False, True])
def test_an_inexact_engine_is_refused(engine, signed, monkeypatch, one_line):
    monkeypatch.setattr(products, "_by_bytes", engine)
    assert exact_product(300, signed, "cpu") is products._by_floats
    if engine in (off_by_one_at_the_worst, by_shape):
        return  # they are made of float products
    exact_product.cache_clear()
    monkeypatch.setattr(products, "_by_floats", engine)
    with one_line(RuntimeError, "300 dimensions", "float32 features"):
        exact_product(300, signed, "cpu")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(128, np.uint8), (255, np.uint8), (-128, np.int8), (np.nan, float), (-np.inf, np.float32)],
)
def test_values_out_of_range_are_located(value, dtype):
    features = np.zeros((5000, 3), dtype=dtype)
    features[4711, 2] = value
    with pytest.raises(ValueError, match=r"rows\[4811, 2\] is .*; they must be finite, or whole"):
        as_points(features, "rows", start=100)
    features[4711, 2] = 127
    assert as_points(features, "rows").norms[4711] == 127**2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 3), np.int16), "rows are int16; they must be uint8, int8 or float"),
        (np.zeros(2), r"rows have shape \(2,\)"),
        (np.zeros((1, MOST_DIMS + 1), np.int8), f"whole numbers allow {MOST_DIMS}"),
    ],
)
def test_shapes_and_types_that_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        as_points(rows, "rows")


def test_points_are_views_where_nothing_must_change(tmp_path):
    features = np.ones((4, 3), dtype=np.uint8)
    assert np.shares_memory(as_points(features, "rows").values.numpy(), features)
    np.save(tmp_path / "rows.npy", features)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    np.testing.assert_array_equal(as_points(mapped, "rows").values, features)

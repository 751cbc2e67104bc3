"""Products of one-byte whole numbers, exact on every machine; plain float32 products beside them.

Proof, for whole numbers of at most 127 in size.  A float32 sum of products is exact in any order,
with or without fused multiply-add, while every partial sum is below 2^24: over 1040 dimensions
(`BLOCK_DIMS`); blocks are added as int32.  |r|^2 - 2 l.r is between -127^2 and 3 * 127^2 a
dimension, a squared distance at most 254^2: to 33,286 dimensions (`MOST_DIMS`) int32 holds both.
So no result depends on the engine that made the product.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

LARGEST = 127
BLOCK_DIMS = (2**24 - 1) // LARGEST**2
MOST_DIMS = (2**31 - 1) // (2 * LARGEST) ** 2
ROWS = 4096  # points checked and squared at a time


@dataclass(frozen=True)
class Points:
    """Points (n, dim) of uint8, int8 or float32, and their squared lengths (n,), int32 or float32.

    ``points[rows]`` are some of them; ``rows`` is a slice, or an array of int64.
    """

    values: Tensor
    norms: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray | slice) -> "Points":
        if isinstance(rows, slice):
            return Points(self.values[rows], self.norms[rows])
        index = torch.from_numpy(rows)  # index_select is ten times faster than values[index]
        return Points(self.values.index_select(0, index), self.norms.index_select(0, index))


def is_whole(features: np.ndarray, what: str) -> bool:
    """Tell one-byte whole numbers from floats; raise ValueError for other shapes and types."""
    if features.ndim != 2:
        raise ValueError(f"{what} have shape {features.shape}; expected (n_patches, dim)")
    whole = features.dtype in (np.uint8, np.int8)
    if not whole and features.dtype.kind != "f":
        raise ValueError(f"{what} are {features.dtype}; they must be uint8, int8 or float")
    if whole and features.shape[1] > MOST_DIMS:
        raise ValueError(f"{what} have dim={features.shape[1]}; whole numbers allow {MOST_DIMS}")
    return whole


def as_points(features: np.ndarray, what: str, *, start: int = 0, device: str = "cpu") -> Points:
    """Check features and take their squared lengths; copy them only where they must change.

    Parameters
    ----------
    features : array of uint8 (0..127), int8 (-127..127) or float, shape (n, dim)
        May be memory-mapped.
    what, start
        What an error calls them, and the number of their first row.

    Raises
    ------
    ValueError
        As `is_whole`, or for a value that is out of range, NaN or infinite.
    """
    whole = is_whole(features, what)
    values = np.require(features, features.dtype if whole else np.float32, ["C", "W"])
    norms = np.empty(len(values), np.int32 if whole else np.float32)
    for at in range(0, len(values), ROWS):
        chunk = values[at : at + ROWS]
        right = abs(chunk.astype(np.int16)) <= LARGEST if whole else np.isfinite(chunk)
        if not right.all():
            row, column = np.argwhere(~right)[0]
            raise ValueError(
                f"{what}[{start + at + row}, {column}] is {chunk[row, column]}; they must be "
                f"finite, or whole numbers 0..127 (uint8) or -127..127 (int8)"
            )
        norms[at : at + ROWS] = np.square(chunk, dtype=norms.dtype).sum(axis=1, dtype=norms.dtype)
    return Points(torch.from_numpy(values).to(device), torch.from_numpy(norms).to(device))


def shifted_squares(left: Points, right: Points) -> Tensor:
    """Return |r|^2 - 2 l.r, squared distances less |l|^2, int32 or float32; shape (n, m)."""
    return dot(left.values, right.values).mul_(-2).add_(right.norms)


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right.T: exact, int32, for whole numbers, else float32; shape (n, m)."""
    if left.is_floating_point():
        return _float_product(left, right)
    engine = exact_product(left.shape[1], left.dtype == torch.int8, left.device.type)
    return engine(left, right.view(torch.int8))


def _float_product(left: Tensor, right: Tensor) -> Tensor:
    if left.device.type != "cpu":
        return left @ right.T
    # NumPy's BLAS is fast on every vendor's processors, PyTorch's on Intel's.
    return torch.from_numpy(left.numpy() @ right.numpy().T)


def _by_bytes(left: Tensor, right: Tensor) -> Tensor:
    return torch._int_mm(left, right.T)


def _by_floats(left: Tensor, right: Tensor) -> Tensor:
    parts = zip(left.split(BLOCK_DIMS, dim=1), right.split(BLOCK_DIMS, dim=1), strict=True)
    return sum(_float_product(a.float(), b.float()).int() for a, b in parts)


@cache
def exact_product(dim: int, signed: bool, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the first engine that reproduces int64's products here, in this process.

    Without VNNI the byte product's pairs of products fill 16 bits: exact where ``left`` is uint8.

    Raises
    ------
    RuntimeError
        When none does.
    """
    for engine in (_by_bytes, _by_floats) if device == "cpu" else (_by_floats,):
        if _reproduces(engine, dim, signed, device):
            return engine
    raise RuntimeError(
        f"no product of whole numbers of {dim} dimensions is exact on this {device}; switch "
        f"reduced precision (TF32, bfloat16) off, or use float32 features"
    )


def _reproduces(engine: Callable, dim: int, signed: bool, device: str) -> bool:
    """Compare an engine with float64, exact in any order, on random and the largest numbers."""
    generator = np.random.default_rng(dim)
    least, dtype = (-LARGEST, np.int8) if signed else (0, np.uint8)
    for n, m in ((1, 1), (1, 65), (65, 1), (70, 83), (1024, 1100)):
        left = generator.integers(least, LARGEST + 1, (n, dim)).astype(dtype)
        right = generator.integers(-LARGEST, LARGEST + 1, (m, dim)).astype(np.int8)
        left[::2], left[1::4], right[::3], right[1::3] = LARGEST, least, LARGEST, -LARGEST
        try:
            found = engine(torch.from_numpy(left).to(device), torch.from_numpy(right).to(device))
        except (AttributeError, RuntimeError):  # a build without the operation
            return False
        if not np.array_equal(found.cpu(), left.astype(np.float64) @ right.T.astype(np.float64)):
            return False
    return True

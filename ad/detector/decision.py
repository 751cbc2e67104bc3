"""From a network's maps to features, neighbours and the decision, as nodes of an ONNX graph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ad.exact.features import Pooling, WholeForm, bins
from ad.exact.products import BLOCK_DIMS, LARGEST
from ad.exact.resizing import bilinear_weights
from ad.detector.graph import Graph, Size

FLOAT_LIMIT = 2**24  # float32 holds every whole number up to here


@dataclass(frozen=True)
class Decision:
    """What is decided with: a bank a fold, and how their scores become one flag.

    Parameters
    ----------
    banks : list of array of uint8 or int8, each (n_bank, dim)
    k : int
        Neighbours; a patch's score is the mean of so many squared distances.
    threshold : float
        An image is flagged above it.
    """

    banks: list[np.ndarray]
    k: int
    threshold: float

    def largest_pass(self) -> int:
        """Return the largest sum of k squared distances whose mean is not above the threshold."""
        total = int(self.threshold * self.k)
        while (total + 1) / self.k <= self.threshold:
            total += 1
        while total / self.k > self.threshold:
            total -= 1
        return total


def is_power_of_two(values: np.ndarray) -> bool:
    """Tell whether all values are powers of two: dividing by them rounds nothing."""
    return bool((np.frexp(values)[0] == 0.5).all())


class FeatureNodes:
    """Adds what `ad.exact.features` does to maps: pooling, resizing, rounding to bytes."""

    def __init__(self, graph: Graph, whole: WholeForm) -> None:
        self.graph, self.whole = graph, whole
        self.low = -LARGEST if whole.signed else 0

    def run(self, maps: Sequence[tuple[str, Size]], channels: Sequence[int]) -> str:
        """Add all; return features of float32, whole numbers, shape (n, h * w, dim)."""
        pooling: Pooling = self.whole.pooling
        size, layers, dims = maps[0][1], [], []
        exponents = self.whole.exponents
        for (name, own), n, exponent in zip(maps, channels, exponents, strict=True):
            dims.append(pooling.pretrain_dim or n)
            sums, counts = self._neighbourhoods(name, n, dims[-1])
            sums, totals, largest = self._resized(sums, own, size, int(counts.max()) * LARGEST)
            unit = counts.astype(float) / pooling.size**2 * totals * 2.0**exponent
            layers.append((sums, unit, largest))
        dim = pooling.target_dim or sum(dims)
        # Where every division is by a power of two, float32 is exact; else elementwise float64.
        exact = (
            dim == sum(dims)
            and all(is_power_of_two(unit) for _, unit, _ in layers)
            and max(largest for *_, largest in layers) < FLOAT_LIMIT
        )
        dtype = np.float32 if exact else np.float64
        scaled = [self._scaled(sums, unit, dtype) for sums, unit, _ in layers]
        joined = self.graph.add("Concat", scaled, {"axis": 1}) if len(scaled) > 1 else scaled[0]
        if dim != sum(dims):
            joined = self._binned(joined, sum(dims), dim, dtype)
        scale = self.graph.scalar(2.0**self.whole.exponent, dtype)
        whole = self.graph.rounded(self.graph.add("Mul", [joined, scale]), self.low, LARGEST, dtype)
        rows = self.graph.add("Transpose", [whole], {"perm": [0, 2, 3, 1]})
        shape = self.graph.constant(np.array([0, size[0] * size[1], dim], dtype=np.int64))
        flat = self.graph.add("Reshape", [rows, shape])
        return flat if exact else self.graph.cast(flat, np.float32)

    def _neighbourhoods(self, name: str, channels: int, dim: int) -> tuple[str, np.ndarray]:
        """Sum what a bin holds, by a convolution of zeros and ones; see `ad.exact.features`."""
        side = self.whole.pooling.size
        if channels % dim == 0:
            weight = np.ones((dim, channels // dim, side, side), dtype=np.float32)
            group, counts = dim, np.full(dim, channels // dim * side**2)
        else:
            starts, ends = (each.numpy() for each in bins(channels * side**2, dim))
            entry = np.arange(channels * side**2)
            weight = ((entry >= starts[:, None]) & (entry < ends[:, None])).astype(np.float32)
            weight = weight.reshape(dim, channels, side, side)
            group, counts = 1, ends - starts
        how = {"kernel_shape": [side, side], "pads": [side // 2] * 4, "group": group}
        return self.graph.add("Conv", [name, self.graph.constant(weight)], how), counts

    def _resized(self, name: str, own: Size, size: Size, largest: int) -> tuple[str, int, int]:
        """Resize by whole-number weights; return the sum of weights, and the largest value."""
        if own == size:
            return name, 1, largest
        (high, down), (wide, right) = (bilinear_weights(own[i], size[i]) for i in (0, 1))
        largest *= down * right
        dtype = np.float32 if largest < FLOAT_LIMIT else np.float64
        name = name if dtype == np.float32 else self.graph.cast(name, dtype)
        rows = self.graph.add("MatMul", [self.graph.constant(high.astype(dtype)), name])
        both = self.graph.add("MatMul", [rows, self.graph.constant(wide.T.astype(dtype))])
        return both, down * right, largest

    def _scaled(self, name: str, unit: np.ndarray, dtype: type) -> str:
        divisor = self.graph.constant(unit.astype(dtype)[:, None, None])
        return self.graph.add("Div", [self.graph.cast(name, dtype), divisor])

    def _binned(self, name: str, length: int, dim: int, dtype: type) -> str:
        """Average channels in bins, one entry after the other: in the order of `bin_sums`."""
        graph = self.graph
        starts, ends = (each.numpy() for each in bins(length, dim))
        total = ""
        for step in range(int((ends - starts).max())):
            index = graph.constant(np.minimum(starts + step, length - 1))
            inside = graph.constant((starts + step < ends).astype(dtype)[:, None, None])
            entry = graph.add("Gather", [name, index], {"axis": 1})
            entry = graph.add("Mul", [entry, inside])
            total = graph.add("Add", [total, entry]) if total else entry
        counts = graph.constant((ends - starts).astype(dtype)[:, None, None])
        return graph.add("Div", [total, counts])


class DecisionNodes:
    """Adds exact nearest neighbours in every bank, and the flag; sums are whole numbers."""

    def __init__(self, graph: Graph, features: str, dim: int) -> None:
        self.graph, self.features, self.dim = graph, features, dim
        self.last = graph.constant(np.array([-1], dtype=np.int64))
        squares = graph.add("Mul", [features, features])
        if dim <= BLOCK_DIMS:
            squares = graph.add("ReduceSum", [squares, self.last], {"keepdims": 0})
            self.norms = graph.cast(squares, np.int32)
        else:
            squares = graph.cast(squares, np.int32)
            self.norms = graph.add("ReduceSum", [squares, self.last], {"keepdims": 0})

    def run(self, decision: Decision, grid: Size) -> None:
        """Add all, with outputs named as `ad.detector.detector` reads them."""
        graph, k = self.graph, decision.k
        if k * (2 * LARGEST) ** 2 * self.dim >= 2**31:
            raise ValueError(
                f"score.num_neighbors={k} in {self.dim} dimensions is beyond 32-bit sums; lower it"
            )
        of_norms = graph.add("Mul", [self.norms, graph.scalar(k, np.int32)])
        sums = [graph.add("Add", [self._nearest(bank, k), of_norms]) for bank in decision.banks]
        largest = graph.add("Max", sums) if len(sums) > 1 else sums[0]
        shape = graph.constant(np.array([0, *grid], dtype=np.int64))
        graph.add("Reshape", [largest, shape], output="patch_sums")
        axis = {"keepdims": 1}
        each = [graph.add("ReduceMax", [own, self.last], axis) for own in sums]
        graph.add("Concat", each, {"axis": 1}, output="fold_sums")
        graph.add("ReduceMax", ["fold_sums", self.last], {"keepdims": 0}, output="image_sums")
        limit = graph.scalar(decision.largest_pass(), np.int32)
        graph.add("Greater", ["image_sums", limit], output="flagged")

    def _nearest(self, bank: np.ndarray, k: int) -> str:
        """Sum the k least of |b|^2 - 2 f.b over a bank, shape (n, patches) of int32."""
        graph, wide = self.graph, bank.astype(np.int64)
        norms = np.square(wide).sum(axis=1)
        if 3 * LARGEST**2 * self.dim < FLOAT_LIMIT:
            columns = graph.constant(np.ascontiguousarray(-2 * wide.T).astype(np.float32))
            products = graph.add("MatMul", [self.features, columns])
            shifted = graph.add("Add", [products, graph.constant(norms.astype(np.float32))])
        else:
            shifted = graph.constant(norms.astype(np.int32))
            for start in range(0, self.dim, BLOCK_DIMS):
                stop = min(start + BLOCK_DIMS, self.dim)
                products = self._product(wide[:, start:stop], start, stop)
                doubled = graph.add("Mul", [products, graph.scalar(-2, np.int32)])
                shifted = graph.add("Add", [doubled, shifted])
        least = f"least_{len(graph.nodes)}"
        places = f"places_{len(graph.nodes)}"
        number = graph.constant(np.array([k], dtype=np.int64))
        graph.several("TopK", [shifted, number], {"largest": 0, "axis": -1}, [least, places])
        whole = graph.cast(least, np.int32)
        return graph.add("ReduceSum", [whole, self.last], {"keepdims": 0})

    def _product(self, bank: np.ndarray, start: int, stop: int) -> str:
        """Multiply a block of dimensions in float32, where sums of bytes are exact."""
        graph, part = self.graph, self.features
        if stop - start < self.dim:
            ends = [graph.constant(np.array([value], dtype=np.int64)) for value in (start, stop)]
            part = graph.add("Slice", [part, *ends, self.last])
        columns = graph.constant(np.ascontiguousarray(bank.T).astype(np.float32))
        return graph.cast(graph.add("MatMul", [part, columns]), np.int32)

"""From patch features to neighbours and the decision, as nodes of an ONNX graph.

Proof that float32 is exact, whatever the order of sums.  Features are whole numbers of at most 127
in size.  With the squared length of a bank row as the bias, a sum for |b|^2 - 2 f.b lies, whatever
part of its terms has been added, between the sums of all its negative and of all its positive
terms: `reach` bounds it from the bank alone.  Products without the bias are even, so they may be
twice as large.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ad.detector.graph import FLOAT_LIMIT, Graph, Size

LARGEST = 127  # of a feature, as in `ad.exact.products`, which needs PyTorch
BLOCK_DIMS = (FLOAT_LIMIT - 1) // LARGEST**2  # dimensions whose products float32 sums exactly
SPLIT = 2**12  # larger distances are two numbers, SPLIT * high + low


@dataclass(frozen=True)
class Decision:
    """What is decided with: a bank a fold, and how their scores become one flag.

    Parameters
    ----------
    banks : sequence of array of uint8 or int8, each (n_bank, dim)
    k : int
        Neighbours; a patch's score is the mean of so many squared distances.
    threshold : float
        An image is flagged above it.
    ignore : array of bool, shape (h, w), optional
        Patches that never count: their scores are 0.
    """

    banks: Sequence[np.ndarray]
    k: int
    threshold: float
    ignore: np.ndarray | None = None

    @property
    def ignored(self) -> int:
        """Count the patches that never count."""
        return 0 if self.ignore is None else int(self.ignore.sum())

    def largest_pass(self) -> int:
        """Return the largest sum of k squared distances whose mean is not above the threshold."""
        total = int(self.threshold * self.k)
        while (total + 1) / self.k <= self.threshold:
            total += 1
        while total / self.k > self.threshold:
            total -= 1
        return min(total, 2**31 - 1)  # no sum is larger

    def check(self) -> None:
        """Refuse more neighbours than a bank holds, or sums beyond 32 bits."""
        dim, least = self.banks[0].shape[1], min(map(len, self.banks))
        if self.k > least:
            raise ValueError(
                f"score.num_neighbors={self.k}, but a bank holds {least}; lower it, or keep more "
                f"patches (coreset.ratio)"
            )
        if self.k * (2 * LARGEST) ** 2 * dim >= 2**31:
            raise ValueError(
                f"score.num_neighbors={self.k} in {dim} dimensions is beyond 32-bit sums; lower it"
            )


def reach(bank: np.ndarray) -> int:
    """Bound every partial sum of |b|^2 - 2 f.b over a bank, for every f; see the proof above."""
    wide = bank.astype(np.int64)
    norms, signed = np.square(wide).sum(axis=1), bank.dtype == np.int8
    positive = 2 * LARGEST * np.maximum(wide, 0).sum(axis=1)
    negative = 2 * LARGEST * np.maximum(-wide, 0).sum(axis=1)
    rises, falls = (negative + positive,) * 2 if signed else (negative, positive)
    with_bias = max((norms + rises).max(), (falls - norms).max())
    return int(max(with_bias, (positive + negative).max() // 2))


class DecisionNodes:
    """Adds exact nearest neighbours in every bank, and the flag; sums are whole numbers.

    Parameters
    ----------
    graph : Graph
    features : str
        Name of whole numbers in float32, shape (n, h, w, dim).
    """

    def __init__(self, graph: Graph, features: str, grid: Size, dim: int) -> None:
        self.graph, self.grid, self.dim = graph, grid, dim
        flat = graph.constant([0, grid[0] * grid[1], dim])
        self.features = graph.add("Reshape", [features, flat])
        self.doubled = graph.add("Mul", [self.features, graph.scalar(-2)])
        squares = graph.add("Mul", [self.features, self.features])
        if dim <= BLOCK_DIMS:
            self.norms = graph.cast(graph.total(squares), np.int32)
        else:
            self.norms = graph.total(graph.cast(squares, np.int32))

    def run(self, decision: Decision) -> None:
        """Add all, with outputs named as `ad.detector.detector` reads them."""
        graph, k = self.graph, decision.k
        of_norms = graph.add("Mul", [self.norms, graph.scalar(k, np.int32)])
        sums = [graph.add("Add", [self._nearest(bank, k), of_norms]) for bank in decision.banks]
        if decision.ignored:
            counts = graph.constant((~decision.ignore).astype(np.int32).ravel())
            sums = [graph.add("Mul", [own, counts]) for own in sums]
        largest = graph.add("Max", sums) if len(sums) > 1 else sums[0]
        graph.add("Reshape", [largest, graph.constant([0, *self.grid])], "patch_sums")
        last = graph.constant([-1])
        each = [graph.add("ReduceMax", [own, last], keepdims=1) for own in sums]
        graph.add("Concat", each, "fold_sums", axis=1)
        graph.add("ReduceMax", ["fold_sums", last], "image_sums", keepdims=0)
        limit = graph.scalar(decision.largest_pass(), np.int32)
        graph.add("Greater", ["image_sums", limit], "flagged")

    def _nearest(self, bank: np.ndarray, k: int) -> str:
        """Sum the k least of |b|^2 - 2 f.b over a bank, shape (n, patches) of int32."""
        norms = np.square(bank.astype(np.int64)).sum(axis=1)
        if reach(bank) >= FLOAT_LIMIT:
            return self._nearest_of_two(bank, norms, k)
        graph = self.graph
        products = graph.add("MatMul", [self.doubled, self._columns(bank)])
        shifted = graph.add("Add", [products, graph.constant(norms.astype(np.float32))])
        least = self._least(shifted, k)[0]
        return graph.total(graph.cast(least, np.int32))

    def _nearest_of_two(self, bank: np.ndarray, norms: np.ndarray, k: int) -> str:
        """Do the same for distances beyond float32, as SPLIT * high + low, 0 <= low < SPLIT.

        The k-th least high part tells whose low parts decide: below it all count, at it the least.
        """
        graph = self.graph
        high, low = (graph.constant(part.astype(np.float32)) for part in np.divmod(norms, SPLIT))
        for start in range(0, self.dim, BLOCK_DIMS):
            part = self.features
            block = slice(start, min(start + BLOCK_DIMS, self.dim))
            if self.dim > BLOCK_DIMS:
                part = graph.sliced(part, {2: block})
            above, rest = self._split(graph.add("MatMul", [part, self._columns(bank[:, block])]))
            high = graph.add("Sub", [high, graph.add("Add", [above, above])])
            low = graph.add("Sub", [low, graph.add("Add", [rest, rest])])
        carry, low = self._split(low)
        high = graph.add("Add", [high, carry])
        last = graph.sliced(self._least(high, k)[0], {2: slice(k - 1, k)})
        none, full = graph.scalar(-1), graph.scalar(SPLIT)
        at_last = graph.add("Where", [graph.add("Equal", [high, last]), low, full])
        order = graph.add("Where", [graph.add("Less", [high, last]), none, at_last])
        places = self._least(order, k)[1]
        chosen = [
            graph.total(graph.cast(graph.add("GatherElements", [each, places], axis=2), np.int32))
            for each in (high, low)
        ]
        scaled = graph.add("Mul", [chosen[0], graph.scalar(SPLIT, np.int32)])
        return graph.add("Add", [scaled, chosen[1]])

    def _columns(self, bank: np.ndarray) -> str:
        """Keep rows of a bank as bytes, a quarter of their size in float32."""
        return self.graph.cast(self.graph.constant(np.ascontiguousarray(bank.T)), np.float32)

    def _split(self, name: str) -> tuple[str, str]:
        """Split whole numbers into SPLIT * high + low; all in float32, all exact."""
        graph = self.graph
        high = graph.add("Floor", [graph.add("Mul", [name, graph.scalar(1 / SPLIT)])])
        return high, graph.add("Sub", [name, graph.add("Mul", [high, graph.scalar(SPLIT)])])

    def _least(self, name: str, k: int) -> Sequence[str]:
        """Return the k least, in rising order, and their places; only ever of float32."""
        count = len(self.graph.nodes)
        return self.graph.several(
            "TopK",
            [name, self.graph.constant([k])],
            [f"least_{count}", f"places_{count}"],
            largest=0,
            axis=-1,
        )

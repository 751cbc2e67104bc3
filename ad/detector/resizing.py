"""Pillow's resizing inside a detector file: a camera's own pixels in, the network's pixels out.

Pillow resizes 8-bit pictures by two passes, along rows and along columns, of whole-number weights
of 22 bits, each rounded and clipped to 8 bits (Pillow's `Resample.c`).  Here a pass is two matrix
products in float32: weights are split into ``high * 2 ** bits + low`` so that no partial sum of
either reaches 2 ** 24.  So it is exact in any order of sums, as the network is, without float64.
"""

import numpy as np
from PIL import Image

from ad.detector.graph import FLOAT_LIMIT, Graph, Size
from ad.images import InputRule, resized

PRECISION = 22  # bits of Pillow's weights
BANDS = 8  # a product takes so many parts of a side, each of the inputs that it needs


def bilinear(x: np.ndarray) -> np.ndarray:
    """Return Pillow's triangle filter; its support is 1."""
    return np.maximum(1.0 - abs(x), 0.0)


def bicubic(x: np.ndarray) -> np.ndarray:
    """Return Pillow's cubic filter with a = -1/2, in the order of its operations; support 2."""
    x, a = abs(x), -0.5
    inner = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


FILTERS = {Image.Resampling.BILINEAR: (bilinear, 1.0), Image.Resampling.BICUBIC: (bicubic, 2.0)}


def pillow_weights(size_in: int, size_out: int, resample: Image.Resampling) -> np.ndarray:
    """Return the whole-number weights of one pass, of 2 ** 22.

    Every operation is one of Pillow's, in its order, in float64.

    Returns
    -------
    array of int64, shape (size_out, size_in)
    """
    function, support = FILTERS[resample]
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    weights = np.zeros((size_out, size_in), dtype=np.int64)
    for row in range(size_out):
        centre = (row + 0.5) * scale
        first = max(int(centre - support * stretch + 0.5), 0)
        last = min(int(centre + support * stretch + 0.5), size_in)
        found = function((np.arange(first, last) - centre + 0.5) * (1.0 / stretch))
        found = found / np.cumsum(found)[-1]  # summed one after the other, as Pillow does
        weights[row, first:last] = np.trunc(found * 2**PRECISION + np.copysign(0.5, found))
    return weights


def split_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Split weights into ``high * 2 ** bits + low`` whose sums of 8-bit pixels float32 holds.

    Raises
    ------
    ValueError
        When a picture is so large beside the result that no split does.
    """
    for bits in range(PRECISION // 2, 4, -1):
        half = 2 ** (bits - 1)
        low = (weights + half) % 2**bits - half
        high = (weights - low) // 2**bits
        sums = [255 * abs(part).sum(axis=1).max() for part in (high, low)]
        largest = max(sums[1], sums[0] + sums[1] // 2**bits + 1 + 2 ** (PRECISION - 1 - bits))
        if largest < FLOAT_LIMIT:
            return high, low, bits
    raise ValueError(
        f"a side of {weights.shape[1]} pixels is too long to be resized to {weights.shape[0]} in "
        f"the file; give a smaller camera size, or resize outside"
    )


def rows_first(given: Size, wanted: Size) -> bool:
    """Tell whether Pillow 13 resizes along rows first; versions before always did."""
    lost = given[0] - wanted[0], given[1] - wanted[1]
    return not (lost[0] > 0 and lost[0] > 2 * lost[1])


class ResizingNodes:
    """Adds what `InputRule.pixels` does to a picture of a known width and height, ``camera``."""

    def __init__(self, graph: Graph, rule: InputRule, camera: Size) -> None:
        self.graph, self.rule, self.camera = graph, rule, camera

    def run(self, pixels: str, output: str) -> None:
        """Bring uint8 pictures (n, height, width, 3) to ``output``: uint8, of the rule's shape."""
        graph, rule, shape = self.graph, self.rule, self.rule.shape
        left, top, right, below = rule.box(*self.camera)
        given = below - top, right - left
        wanted = resized(*given[::-1], rule.resize)[::-1] if rule.resize else shape
        name = graph.add("Transpose", [graph.cast(pixels, np.float32)], perm=[0, 3, 1, 2])
        name = graph.sliced(name, {2: slice(top, below), 3: slice(left, right)})
        for side in (1, 0) if rows_first(given, wanted) else (0, 1):
            weights = pillow_weights(given[side], wanted[side], rule.resample)
            # As `resize_and_crop` cuts the centre.
            start = round((wanted[side] - shape[side]) / 2.0)
            name = self._along(name, weights[start : start + shape[side]], 2 + side)
        whole = graph.add("Transpose", [name], perm=[0, 2, 3, 1])
        graph.cast(whole, np.uint8, output)

    def _along(self, name: str, weights: np.ndarray, axis: int) -> str:
        """Resize along columns (axis 2) or rows (axis 3), rounded and clipped to 8 bits."""
        parts = []
        for band in np.array_split(weights, min(BANDS, len(weights))):
            used = np.flatnonzero(band.any(axis=0))
            needed = slice(int(used[0]), int(used[-1]) + 1)
            part = self.graph.sliced(name, {axis: needed})
            parts.append(self._band(part, *split_weights(band[:, needed]), axis))
        return self.graph.add("Concat", parts, axis=axis)

    def _band(self, name: str, high: np.ndarray, low: np.ndarray, bits: int, axis: int) -> str:
        """Return floor((high * 2 ** bits + low + 2 ** 21) / 2 ** 22) of the sums, clipped."""
        graph = self.graph

        def product(weights: np.ndarray) -> str:
            matrix = weights.astype(np.float32)
            if axis == 2:
                return graph.add("MatMul", [graph.constant(matrix), name])
            return graph.add("MatMul", [name, graph.constant(np.ascontiguousarray(matrix.T))])

        def floored(values: str, shift: int) -> str:
            return graph.add("Floor", [graph.add("Mul", [values, graph.scalar(2.0**-shift)])])

        # What is left of the low sum is below one unit of the high one: it changes no floor.
        total = graph.add("Add", [product(high), floored(product(low), bits)])
        rounded = graph.add("Add", [total, graph.scalar(2.0 ** (PRECISION - 1 - bits))])
        ends = [graph.scalar(0), graph.scalar(255)]
        return graph.add("Clip", [floored(rounded, PRECISION - bits), *ends])

"""Stage 01's `network.onnx`: pixels to patch features, exact in float32, by standard operators."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ad.detector.contract import image_section, probe_picture
from ad.detector.graph import FLOAT_LIMIT, Graph, Size, model_bytes, tensor, write_bytes
from ad.detector.tiles import cut_nodes, join_nodes
from ad.exact.engines import Conv, Operation, same_padding
from ad.exact.features import WholeForm, bins
from ad.exact.network import PIXELS, Add, Concat, IntegerNetwork, MaxPool, Mean, Product, Table
from ad.exact.products import LARGEST
from ad.exact.resizing import bilinear_weights
from ad.extraction import FeatureExtractor


def write_network(path: Path, extractor: FeatureExtractor) -> None:
    """Write the exact network of a run; `ad.detector.make` adds banks and a threshold to it.

    Its input ``pixels`` are uint8 (n, height, width, 3), decoded and resized; its output
    ``features`` are whole numbers in float32, shape (n, h, w, dim).  Its metadata hold how
    pictures are read, and the SHA-256 of the extractor's own features of a probe picture, which
    stage 05 holds the file against.

    Parameters
    ----------
    path : path
    extractor : FeatureExtractor
        Of whole numbers.
    """
    whole, rule = extractor.whole, extractor.rule
    graph, network = Graph(), whole.runner.network
    values = graph.add("Transpose", [graph.cast("pixels", np.float32)], perm=[0, 3, 1, 2])
    means = np.array(network.means, dtype=np.float32)[:, None, None]
    values = graph.add("Sub", [values, graph.constant(means)])
    maps = NetworkNodes(graph, cut_nodes(graph, values, rule), rule.size).run(network)
    features = FeatureNodes(graph, whole).run(maps)
    features, grid = join_nodes(graph, features, maps[0][1], rule)
    graph.add("Identity", [features], "features")

    own = extractor(probe_picture(*rule.shape)[None])
    about = {
        "image": image_section(rule),
        "features_sha256": hashlib.sha256(own.tobytes()).hexdigest(),
        "grid": list(grid),
        "needs": ["float64"] if graph.has(np.float64) else [],
    }
    inputs = [tensor("pixels", np.uint8, ["n", *rule.shape, 3])]
    outputs = [tensor("features", np.float32, ["n", *grid, own.shape[-1]])]
    write_bytes(path, model_bytes([graph], inputs, outputs, about))


def window(size: Size, kernel: Size, stride: Size, padding: Sequence[int], dilation: Size) -> Size:
    """Return the size of a result; padding is top, left, below, right."""
    return tuple(
        (size[i] + padding[i] + padding[i + 2] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    )


def conv_padding(conv: Conv, size: Size) -> list[int]:
    """Return rows and columns of zeros: top, left, below, right; see `ad.exact.engines.pad`."""
    if conv.padding == "even":
        return [0, 0, 0, 0]
    if conv.padding != "same":
        return [*conv.padding, *conv.padding]
    high, wide = same_padding(conv, size)
    return [high // 2, wide // 2, high - high // 2, wide - wide // 2]


class NetworkNodes:
    """Adds the operations of a network to a graph; values are whole numbers in float32.

    Scales are powers of two and every sum stays below 2 ** 24 (`IntegerNetwork` proves it), so an
    optimiser may fold scales into weights, and sums may come in any order: the results are exact.
    """

    def __init__(self, graph: Graph, pixels: str, size: Size) -> None:
        self.graph = graph
        self.names, self.sizes, self.channels = {PIXELS: pixels}, {PIXELS: size}, {PIXELS: 3}

    def run(self, network: IntegerNetwork) -> list[tuple[str, Size, int]]:
        """Add all operations; return each output's name, size and number of channels."""
        for each in network.operations:
            sources = [self.names[name] for name in each.sources]
            sizes = [self.sizes[name] for name in each.sources]
            channels = [self.channels[name] for name in each.sources]
            name, size = self._one(each, sources, sizes)
            self.names[each.target], self.sizes[each.target] = name, size
            joined = sum(channels) if isinstance(each, Concat) else max(channels)
            self.channels[each.target] = len(each.bias) if isinstance(each, Conv) else joined
        return [
            (self.names[name], self.sizes[name], self.channels[name])
            for name in (output.tensor for output in network.outputs)
        ]

    def _one(self, each: Operation, sources: list[str], sizes: list[Size]) -> tuple[str, Size]:
        graph = self.graph
        if isinstance(each, Conv):
            return self._conv(each, sources[0], sizes[0])
        if isinstance(each, MaxPool):
            padding = [*each.padding, *each.padding]
            how = {"kernel_shape": each.kernel, "strides": each.stride, "pads": padding}
            size = window(sizes[0], each.kernel, each.stride, padding, (1, 1))
            return graph.add("MaxPool", sources, **how), size
        if isinstance(each, Mean):
            return self._mean(each, sources[0], sizes[0]), (1, 1)
        if isinstance(each, Concat):
            return graph.add("Concat", sources, axis=1), sizes[0]
        if isinstance(each, Table):
            index = graph.cast(graph.add("Add", [sources[0], graph.scalar(128)]), np.int32)
            values = graph.constant(each.values.astype(np.float32))
            return graph.add("Gather", [values, index], axis=0), sizes[0]
        scales = np.ldexp(np.float32(1), -each.shift.astype(int)).astype(np.float32)
        if isinstance(each, Product):
            scaled = [graph.add("Mul", [graph.add("Mul", sources), graph.scalar(scales[0])])]
        elif isinstance(each, Add):
            scaled = [
                graph.add("Mul", [source, graph.scalar(scale)])
                for source, scale in zip(sources, scales, strict=True)
            ]
        else:
            raise TypeError(f"{type(each).__name__} has no form in the graph")
        total = scaled[0]
        for other in scaled[1:]:
            total = graph.add("Add", [total, other])
        return graph.rounded(total, each.low, each.high), max(sizes)

    def _conv(self, conv: Conv, source: str, size: Size) -> tuple[str, Size]:
        scale = np.ldexp(1.0, -conv.shift.astype(int))
        weight = self.graph.constant((conv.weight * scale[:, None, None, None]).astype(np.float32))
        bias = self.graph.constant((conv.bias * scale).astype(np.float32))
        padding, kernel = conv_padding(conv, size), conv.weight.shape[2:]
        how = {
            "kernel_shape": kernel,
            "strides": conv.stride,
            "pads": padding,
            "dilations": conv.dilation,
            "group": conv.groups,
        }
        sums = self.graph.add("Conv", [source, weight, bias], **how)
        result = window(size, kernel, conv.stride, padding, conv.dilation)
        return self.graph.rounded(sums, conv.low, conv.high), result

    def _mean(self, mean: Mean, source: str, size: Size) -> str:
        """Divide whole numbers, rounded to the nearest: see `ad.exact.network.Mean`."""
        graph, count = self.graph, size[0] * size[1]
        axes = graph.constant([2, 3])
        total = graph.cast(graph.add("ReduceSum", [source, axes], keepdims=1), np.int64)
        doubled = graph.add("Mul", [total, graph.scalar(2 ** (mean.shift + 1), np.int64)])
        # ONNX divides towards zero: a multiple of the divisor keeps the dividend positive.
        lift = 2**10 * 2 ** (mean.shift + 1)
        lifted = graph.add("Add", [doubled, graph.scalar(count + lift * 2 * count, np.int64)])
        quotient = graph.add("Div", [lifted, graph.scalar(2 * count, np.int64)])
        lowered = graph.add("Sub", [quotient, graph.scalar(lift, np.int64)])
        return graph.rounded(graph.cast(lowered, np.float32), mean.low, mean.high)


def is_power_of_two(values: np.ndarray) -> bool:
    """Tell whether all values are powers of two: dividing by them rounds nothing."""
    return bool((np.frexp(values)[0] == 0.5).all())


class FeatureNodes:
    """Adds what `ad.exact.features` does to maps: pooling, resizing, rounding to bytes."""

    def __init__(self, graph: Graph, whole: WholeForm) -> None:
        self.graph, self.whole = graph, whole
        self.low = -LARGEST if whole.signed else 0

    def run(self, maps: Sequence[tuple[str, Size, int]]) -> str:
        """Add all; return features of float32, whole numbers, shape (n, h, w, dim)."""
        pooling = self.whole.pooling
        size, layers, dims = maps[0][1], [], []
        for (name, own, channels), exponent in zip(maps, self.whole.exponents, strict=True):
            dims.append(pooling.pretrain_dim or channels)
            sums, counts = self._neighbourhoods(name, channels, dims[-1])
            sums, totals, largest = self._resized(sums, own, size, int(counts.max()) * LARGEST)
            unit = counts.astype(float) / pooling.patch_size**2 * totals * 2.0**exponent
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
        joined = self.graph.add("Concat", scaled, axis=1) if len(scaled) > 1 else scaled[0]
        if dim != sum(dims):
            joined = self._binned(joined, sum(dims), dim, dtype)
        scale = self.graph.scalar(2.0**self.whole.exponent, dtype)
        whole = self.graph.rounded(self.graph.add("Mul", [joined, scale]), self.low, LARGEST, dtype)
        rows = self.graph.add("Transpose", [whole], perm=[0, 2, 3, 1])
        return rows if exact else self.graph.cast(rows, np.float32)

    def _neighbourhoods(self, name: str, channels: int, dim: int) -> tuple[str, np.ndarray]:
        """Sum what a bin holds, by a convolution of zeros and ones; see `ad.exact.features`."""
        side = self.whole.pooling.patch_size
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
        return self.graph.add("Conv", [name, self.graph.constant(weight)], **how), counts

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
            entry = graph.add("Mul", [graph.add("Gather", [name, index], axis=1), inside])
            total = graph.add("Add", [total, entry]) if total else entry
        counts = graph.constant((ends - starts).astype(dtype)[:, None, None])
        return graph.add("Div", [total, counts])

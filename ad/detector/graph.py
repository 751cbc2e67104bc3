"""A network of whole numbers as an ONNX graph of standard operators, exact in float32."""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ad.exact.engines import Conv, Operation
from ad.exact.network import PIXELS, Add, Concat, IntegerNetwork, MaxPool, Mean, Product, Table

Size = tuple[int, int]


class Graph:
    """Nodes and constants, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, values: np.ndarray) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        attributes: Mapping[str, object] | None = None,
        output: str = "",
    ) -> str:
        """Add a node of one output; return its name."""
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **(attributes or {})))
        return name

    def several(
        self,
        operator: str,
        inputs: Sequence[str],
        attributes: Mapping[str, object],
        outputs: Sequence[str],
    ) -> None:
        """Add a node of several outputs."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    def scalar(self, value: float, dtype: type = np.float32) -> str:
        """Add a constant of one number."""
        return self.constant(np.array(value, dtype=dtype))

    def cast(self, name: str, dtype: type) -> str:
        """Add a conversion."""
        return self.add("Cast", [name], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))})

    def rounded(self, name: str, low: int, high: int, dtype: type = np.float32) -> str:
        """Round half to even and clip."""
        ends = [self.scalar(low, dtype), self.scalar(high, dtype)]
        return self.add("Clip", [self.add("Round", [name]), *ends])


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
    before, behind = [], []
    for i in (0, 1):
        reach = (conv.weight.shape[2 + i] - 1) * conv.dilation[i] + 1
        total = max((-(-size[i] // conv.stride[i]) - 1) * conv.stride[i] + reach - size[i], 0)
        before.append(total // 2)
        behind.append(total - total // 2)
    return before + behind


class NetworkNodes:
    """Adds the operations of a network to a graph; values are whole numbers in float32.

    Scales are powers of two and every sum stays below 2 ** 24 (`IntegerNetwork` proves it), so an
    optimiser may fold scales into weights, and sums may come in any order: the results are exact.
    """

    def __init__(self, graph: Graph, pixels: str, size: Size) -> None:
        self.graph = graph
        self.names, self.sizes = {PIXELS: pixels}, {PIXELS: size}

    def run(self, network: IntegerNetwork) -> list[tuple[str, Size]]:
        """Add all operations; return each output's name and size."""
        for each in network.operations:
            sources = [self.names[name] for name in each.sources]
            sizes = [self.sizes[name] for name in each.sources]
            name, size = self._one(each, sources, sizes)
            self.names[each.target], self.sizes[each.target] = name, size
        tensors = [output.tensor for output in network.outputs]
        return [(self.names[tensor], self.sizes[tensor]) for tensor in tensors]

    def _one(self, each: Operation, sources: list[str], sizes: list[Size]) -> tuple[str, Size]:
        graph = self.graph
        if isinstance(each, Conv):
            return self._conv(each, sources[0], sizes[0])
        if isinstance(each, MaxPool):
            padding = [*each.padding, *each.padding]
            how = {"kernel_shape": each.kernel, "strides": each.stride, "pads": padding}
            size = window(sizes[0], each.kernel, each.stride, padding, (1, 1))
            return graph.add("MaxPool", sources, how), size
        if isinstance(each, Mean):
            return self._mean(each, sources[0], sizes[0]), (1, 1)
        if isinstance(each, Concat):
            return graph.add("Concat", sources, {"axis": 1}), sizes[0]
        if isinstance(each, Table):
            index = graph.cast(graph.add("Add", [sources[0], graph.scalar(128)]), np.int32)
            values = graph.constant(each.values.astype(np.float32))
            return graph.add("Gather", [values, index], {"axis": 0}), sizes[0]
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
        sums = self.graph.add("Conv", [source, weight, bias], how)
        result = window(size, kernel, conv.stride, padding, conv.dilation)
        return self.graph.rounded(sums, conv.low, conv.high), result

    def _mean(self, mean: Mean, source: str, size: Size) -> str:
        """Divide whole numbers, rounded to the nearest: see `ad.exact.network.Mean`."""
        graph, count = self.graph, size[0] * size[1]
        axes = graph.constant(np.array([2, 3], dtype=np.int64))
        total = graph.cast(graph.add("ReduceSum", [source, axes], {"keepdims": 1}), np.int64)
        doubled = graph.add("Mul", [total, graph.scalar(2 ** (mean.shift + 1), np.int64)])
        # ONNX divides towards zero: a multiple of the divisor keeps the dividend positive.
        lift = 2**10 * 2 ** (mean.shift + 1)
        lifted = graph.add("Add", [doubled, graph.scalar(count + lift * 2 * count, np.int64)])
        quotient = graph.add("Div", [lifted, graph.scalar(2 * count, np.int64)])
        lowered = graph.add("Sub", [quotient, graph.scalar(lift, np.int64)])
        return graph.rounded(graph.cast(lowered, np.float32), mean.low, mean.high)

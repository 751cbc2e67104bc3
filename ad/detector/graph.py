"""An ONNX graph as it grows: nodes of standard operators, constants, and the file made of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from ad.detector.contract import METADATA
from ad.files import atomic_path

OPSET = 18
IR_VERSION = 9
FLOAT_LIMIT = 2**24  # float32 holds every whole number up to here
Size = tuple[int, int]


class Graph:
    """Nodes and constants, as they are added; graphs that are joined need different prefixes."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, values: np.ndarray | Sequence[int]) -> str:
        """Add a constant (whole numbers become int64); return its name."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attributes) -> str:
        """Add a node of one output; return its name."""
        name = output or f"{self.prefix}{operator.lower()}_{len(self.nodes)}"
        return self.several(operator, inputs, [name], **attributes)[0]

    def several(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes
    ) -> Sequence[str]:
        """Add a node of several outputs; return their names."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def scalar(self, value: float, dtype: type = np.float32) -> str:
        """Add a constant of one number."""
        return self.constant(np.array(value, dtype=dtype))

    def cast(self, name: str, dtype: type, output: str = "") -> str:
        """Add a conversion."""
        to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", [name], output, to=to)

    def rounded(self, name: str, low: int, high: int, dtype: type = np.float32) -> str:
        """Round half to even and clip."""
        ends = [self.scalar(low, dtype), self.scalar(high, dtype)]
        return self.add("Clip", [self.add("Round", [name]), *ends])

    def sliced(self, name: str, spans: Mapping[int, slice]) -> str:
        """Take a span of each of some axes."""
        starts, stops = ([getattr(s, end) for s in spans.values()] for end in ("start", "stop"))
        return self.add("Slice", [name, *map(self.constant, (starts, stops, list(spans)))])

    def has(self, dtype: type) -> bool:
        """Tell whether there is a constant of a type: what an engine must take."""
        number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return any(each.data_type == number for each in self.constants)

    def total(self, name: str, axis: int = -1, *, keep: bool = False) -> str:
        """Sum along an axis."""
        return self.add("ReduceSum", [name, self.constant([axis])], keepdims=int(keep))


def tensor(name: str, dtype: type, shape: Sequence[int | str]) -> ValueInfoProto:
    """Describe an input or output."""
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )


def model_bytes(
    graphs: Sequence[Graph],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    about: Mapping[str, object],
) -> bytes:
    """Join graphs, in order, to a checked model; the same parts give the same bytes."""
    nodes = [node for graph in graphs for node in graph.nodes]
    constants = [each for graph in graphs for each in graph.constants]
    built = helper.make_graph(nodes, "detector", inputs, outputs, constants)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(
        built, opset_imports=[opset], ir_version=IR_VERSION, producer_name="ad"
    )
    text = json.dumps(about, sort_keys=True, allow_nan=False)
    helper.set_model_props(model, {METADATA: text})
    checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def read_graph(path: Path) -> tuple[Graph, dict]:
    """Read a file's nodes and constants, to add to, and what it says of itself.

    Raises
    ------
    OSError, ValueError
        When it is none of this package's files, or one that says why it holds nothing.
    """
    try:
        model, graph = onnx.load(path, load_external_data=False), Graph()
        about = json.loads({each.key: each.value for each in model.metadata_props}[METADATA])
    except (DecodeError, KeyError):
        raise ValueError(f"{path}: no network or detector file of this package") from None
    if "why_not" in about:
        raise ValueError(f"{path}: {about['why_not']}")
    graph.nodes, graph.constants = list(model.graph.node), list(model.graph.initializer)
    return graph, about


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)

"""Follow a network up to the layers asked for and write it down as operations in float64."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from timm.layers import Conv2dSame, DropPath
from torch import fx, nn

from ad.exact.engines import Conv, Operation
from ad.exact.network import PIXELS, Add, Concat, MaxPool, Mean, Product

PASSED_OVER = (nn.Identity, nn.Dropout, DropPath)
ACTIVATIONS = {  # classes of PyTorch and timm by their names
    "ReLU": "relu",
    "ReLU6": "relu6",
    "SiLU": "silu",
    "Swish": "silu",
    "Sigmoid": "sigmoid",
    "Hardswish": "hardswish",
    "HardSwish": "hardswish",
    "Hardsigmoid": "hardsigmoid",
    "HardSigmoid": "hardsigmoid",
}
SUMS = (operator.add, operator.iadd, torch.add)
PRODUCTS = (operator.mul, operator.imul, torch.mul)


def unsupported(layer: str, what: str) -> ValueError:
    """Return the error that names a layer without an integer form, and the way out."""
    return ValueError(
        f"backbone.arithmetic: layer {layer} ({what}) has no integer form; "
        f"set backbone.arithmetic: float32"
    )


class _LastLayerReached(Exception):
    """Raised while tracing; what lies behind is not followed."""


class _Tracer(fx.Tracer):
    """Record the graph up to the last of some layers, and each layer's output."""

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers
        self.found: dict[str, fx.Node] = {}
        self.current = "input"

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        """Keep timm's convolutions and batch norms whole, as those of PyTorch."""
        kept = isinstance(module, nn.Conv2d | nn.BatchNorm2d | DropPath)
        return kept or super().is_leaf_module(module, qualified_name)

    def call_module(
        self, module: nn.Module, forward: Callable, args: tuple, kwargs: dict
    ) -> fx.Proxy:
        """Note the layers' outputs; leave behind the last."""
        name = self.current = self.path_of_module(module)
        output = super().call_module(module, forward, args, kwargs)
        if name in self.layers:
            self.found[name] = output.node
            if len(self.found) == len(self.layers):
                raise _LastLayerReached
        return output


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _fills(pool: nn.AvgPool2d) -> bool:
    """Tell whether every window is full: for 2 x 2 in ceiling mode, on maps of even sides."""
    kernel, stride = _pair(pool.kernel_size), _pair(pool.stride)
    return pool.padding == 0 and (not pool.ceil_mode or kernel == stride == (2, 2))


def _float64(values: torch.Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


@dataclass
class Traced:
    """A network in real numbers: `Conv` with weights and gains, no shifts and clips yet.

    Parameters
    ----------
    operations : dict
        By target, in order of execution; the input is `PIXELS`.
    activations : dict
        Values of `ACTIVATIONS`, by the target that they follow.
    channels : dict
        By target.
    outputs : dict
        From layer to target.
    """

    operations: dict[str, Operation]
    activations: dict[str, str]
    channels: dict[str, int]
    outputs: dict[str, str]


class _Builder:
    """Turn the nodes of a traced network into operations."""

    def __init__(self, model: nn.Module, found: dict[str, fx.Node]) -> None:
        self.model = model
        self.kept = set(found.values())
        self.tensor: dict[fx.Node, str] = {}  # the tensor that holds a node's value
        self.traced = Traced({}, {}, {PIXELS: 3}, {})

    def emit(self, node: fx.Node, operation: Operation, channels: int) -> None:
        """Append an operation that gives a node's value."""
        self.traced.operations[operation.target] = operation
        self.traced.channels[operation.target] = channels
        self.tensor[node] = operation.target

    def only_for(self, node: fx.Node, source: fx.Node) -> Operation | None:
        """Return the operation behind ``source`` if nothing but ``node`` reads it."""
        tensor = self.tensor[source]
        held = {each for each, name in self.tensor.items() if name == tensor}
        readers = {user for each in held for user in each.users if user not in held}
        if readers != {node} or held & self.kept or tensor in self.traced.activations:
            return None
        return self.traced.operations.get(tensor)

    def affine(self, node: fx.Node, name: str, scale: np.ndarray, offset: np.ndarray) -> None:
        """Scale each channel: in the convolution before, or in one of its own."""
        conv = self.only_for(node, node.args[0])
        if isinstance(conv, Conv):
            gain = scale if conv.gain is None else conv.gain * scale
            conv = replace(conv, gain=gain, bias=conv.bias * scale + offset)
        else:
            source = self.tensor[node.args[0]]
            conv = per_channel(name, source, node.name, scale[:, None, None, None], offset)
        self.emit(node, conv, len(scale))

    def activate(self, node: fx.Node, name: str, kind: str) -> None:
        """Put an activation behind the operation before, or behind an identity."""
        if kind not in ACTIVATIONS:
            raise unsupported(name, kind)
        before = self.only_for(node, node.args[0])
        if not isinstance(before, Conv | Add):
            channels = self.traced.channels[self.tensor[node.args[0]]]
            self.affine(node, name, np.ones(channels), np.zeros(channels))
            before = self.traced.operations[self.tensor[node]]
        self.tensor[node] = before.target
        self.traced.activations[before.target] = ACTIVATIONS[kind]

    def norm(self, node: fx.Node, module: nn.BatchNorm2d) -> None:
        """Fold a batch norm: elementwise in float64, which is the same everywhere."""
        scale = 1.0 / np.sqrt(_float64(module.running_var) + module.eps)
        if module.affine:
            scale = _float64(module.weight) * scale
        offset = -_float64(module.running_mean) * scale
        if module.affine:
            offset = offset + _float64(module.bias)
        self.affine(node, node.target, scale, offset)
        act = getattr(module, "act", nn.Identity())  # timm keeps the activation in the norm
        if not isinstance(act, nn.Identity):
            if type(act).__name__ not in ACTIVATIONS:
                raise unsupported(f"{node.target}.act", type(act).__name__)
            self.traced.activations[self.tensor[node]] = ACTIVATIONS[type(act).__name__]

    def module(self, node: fx.Node) -> None:
        """Append what a module does."""
        module, source = self.model.get_submodule(node.target), self.tensor[node.args[0]]
        channels = self.traced.channels[source]
        names = {"name": node.target, "sources": (source,), "target": node.name}
        if isinstance(module, PASSED_OVER):
            self.tensor[node] = source
        elif isinstance(module, nn.BatchNorm2d):
            self.norm(node, module)
        elif isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
            bias = np.zeros(module.out_channels) if module.bias is None else _float64(module.bias)
            conv = Conv(
                **names,
                weight=module.weight.detach().cpu().numpy(),  # as it is: no second copy
                bias=bias,
                stride=_pair(module.stride),
                padding="same" if isinstance(module, Conv2dSame) else _pair(module.padding),
                dilation=_pair(module.dilation),
                groups=module.groups,
            )
            self.emit(node, conv, module.out_channels)
        elif isinstance(module, nn.MaxPool2d) and not module.ceil_mode and module.dilation == 1:
            sizes = {"kernel": module.kernel_size, "stride": module.stride}
            sizes = {k: _pair(v) for k, v in (sizes | {"padding": module.padding}).items()}
            self.emit(node, MaxPool(**names, **sizes), channels)
        elif isinstance(module, nn.AvgPool2d) and _fills(module):
            kernel = _pair(module.kernel_size)
            weight = np.full((channels, 1, *kernel), 1 / math.prod(kernel))
            conv = per_channel(node.target, source, node.name, weight, np.zeros(channels))
            padding = "even" if module.ceil_mode else (0, 0)
            conv = replace(conv, stride=_pair(module.stride), padding=padding)
            self.emit(node, conv, channels)
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            self.emit(node, Mean(**names), channels)
        else:
            self.activate(node, node.target, type(module).__name__)

    def function(self, node: fx.Node, layer: str) -> None:
        """Append what a function, or a method of a tensor, does."""
        what = getattr(node.target, "__name__", str(node.target))
        sources = list(node.args[0] if node.target is torch.cat else node.args)
        if node.target == "mean" and tuple(node.args[1]) in ((2, 3), (-2, -1)):
            sources = sources[:1]
        if not all(isinstance(each, fx.Node) for each in sources):
            raise unsupported(layer, what)
        read = tuple(self.tensor[each] for each in sources)
        counts = [self.traced.channels[each] for each in read]
        names = {"name": f"{layer} ({what})", "sources": read, "target": node.name}
        if node.target in SUMS and len(set(counts)) == 1:
            self.emit(node, Add(**names), counts[0])
        elif node.target in PRODUCTS and len(read) == 2:
            self.emit(node, Product(**names), counts[0])
        elif node.target is torch.cat and len(read) == 1:
            self.tensor[node] = read[0]
        elif node.target is torch.cat and node.args[1:] == (1,):
            self.emit(node, Concat(**names), sum(counts))
        elif node.target == "mean" and node.kwargs.get("keepdim"):
            self.emit(node, Mean(**names), counts[0])
        else:
            raise unsupported(layer, what)


def per_channel(name: str, source: str, target: str, weight: np.ndarray, bias: np.ndarray) -> Conv:
    """Return a convolution of each channel by itself, weights (c, 1, kh, kw)."""
    return Conv(
        name=name, sources=(source,), target=target, weight=weight, bias=bias, groups=len(bias)
    )


def trace(model: nn.Module, layers: Sequence[str]) -> Traced:
    """Write a network down up to the last of ``layers``, batch norms folded.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    layers : sequence of str
        Names of modules, shallow before deep.

    Raises
    ------
    ValueError
        When a layer has no integer form; the message names it.
    """
    tracer = _Tracer(layers)
    try:
        tracer.trace(model)
    except _LastLayerReached:
        pass
    except Exception as error:  # whatever a network's own code raises for want of a tensor
        raise unsupported(tracer.current, type(error).__name__) from None
    builder = _Builder(model, tracer.found)
    layer = "input"
    for node in tracer.graph.nodes:
        if node.op == "placeholder":
            builder.tensor[node] = PIXELS
        elif node.op == "call_module":
            layer = node.target
            builder.module(node)
        elif node.op in ("call_function", "call_method"):
            builder.function(node, layer)
        elif node.op != "output":
            raise unsupported(node.name, node.op)
    builder.traced.outputs = {name: builder.tensor[node] for name, node in tracer.found.items()}
    return builder.traced

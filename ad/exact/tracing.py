"""Follow a network up to the layers asked for and write it down as operations in float64."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from timm.layers import Conv2dSame, DropPath
from torch import fx, nn

from ad.exact.engines import Conv, Operation
from ad.exact.network import PIXELS, Add, Concat, MaxPool, Mean, Product

PASSED_OVER = (nn.Identity, nn.Dropout, DropPath)
# Names of classes of PyTorch and timm, which write them in capitals of their own.
ACTIVATIONS = ("relu", "relu6", "silu", "sigmoid", "hardswish", "hardsigmoid")
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


def _activation_of(layer: str, module: nn.Module) -> str:
    """Return an activation's name, or raise ValueError."""
    name = type(module).__name__.lower()
    name = "silu" if name == "swish" else name
    if name not in ACTIVATIONS:
        raise unsupported(layer, type(module).__name__)
    return name


def _float64(values: torch.Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def per_channel(name: str, source: str, target: str, weight: np.ndarray, bias: np.ndarray) -> Conv:
    """Return a convolution of each channel by itself, weights (c, 1, kh, kw)."""
    return Conv(
        name=name, sources=(source,), target=target, weight=weight, bias=bias, groups=len(bias)
    )


class Traced:
    """A network in real numbers: `Conv` with weights and gains, no shifts and clips yet.

    Attributes
    ----------
    operations : dict of Operation
        By target, in order of execution; the input is `PIXELS`.
    activations : dict
        Of `ACTIVATIONS`, by the target that they follow.
    outputs : dict
        From layer to target.
    """

    def __init__(self, model: nn.Module, graph: fx.Graph, found: dict[str, fx.Node]) -> None:
        self.operations: dict[str, Operation] = {}
        self.activations: dict[str, str] = {}
        self._model, self._kept = model, set(found.values())
        self._channels = {PIXELS: 3}
        self._tensor: dict[fx.Node, str] = {}  # the tensor that holds a node's value
        layer = "input"
        for node in graph.nodes:
            if node.op == "placeholder":
                self._tensor[node] = PIXELS
            elif node.op == "call_module":
                layer = node.target
                self._module(node)
            elif node.op in ("call_function", "call_method"):
                self._function(node, layer)
            elif node.op != "output":
                raise unsupported(node.name, node.op)
        self.outputs = {name: self._tensor[node] for name, node in found.items()}

    def _emit(self, node: fx.Node, operation: Operation, channels: int) -> None:
        """Append an operation that gives a node's value."""
        self.operations[operation.target] = operation
        self._channels[operation.target] = channels
        self._tensor[node] = operation.target

    def _only_for(self, node: fx.Node) -> Operation | None:
        """Return the operation before a node if nothing else reads it."""
        tensor = self._tensor[node.args[0]]
        held = {each for each, name in self._tensor.items() if name == tensor}
        readers = {user for each in held for user in each.users if user not in held}
        if readers != {node} or held & self._kept or tensor in self.activations:
            return None
        return self.operations.get(tensor)

    def _affine(self, node: fx.Node, scale: np.ndarray, offset: np.ndarray) -> None:
        """Scale each channel: in the convolution before, or in one of its own."""
        conv = self._only_for(node)
        if isinstance(conv, Conv):
            gain = scale if conv.gain is None else conv.gain * scale
            conv = replace(conv, gain=gain, bias=conv.bias * scale + offset)
        else:
            source, weight = self._tensor[node.args[0]], scale[:, None, None, None]
            conv = per_channel(node.target, source, node.name, weight, offset)
        self._emit(node, conv, len(scale))

    def _activate(self, node: fx.Node, activation: str) -> None:
        """Put an activation behind the operation before, or behind an identity."""
        before = self._only_for(node)
        if not isinstance(before, Conv | Add):
            channels = self._channels[self._tensor[node.args[0]]]
            self._affine(node, np.ones(channels), np.zeros(channels))
            before = self.operations[self._tensor[node]]
        self._tensor[node] = before.target
        self.activations[before.target] = activation

    def _norm(self, node: fx.Node, module: nn.BatchNorm2d) -> None:
        """Fold a batch norm: elementwise in float64, which is the same everywhere."""
        scale = 1.0 / np.sqrt(_float64(module.running_var) + module.eps)
        weight, bias = (_float64(module.weight), _float64(module.bias)) if module.affine else (1, 0)
        scale = weight * scale
        self._affine(node, scale, bias - _float64(module.running_mean) * scale)
        act = getattr(module, "act", nn.Identity())  # timm keeps the activation in the norm
        if not isinstance(act, nn.Identity):
            self.activations[self._tensor[node]] = _activation_of(f"{node.target}.act", act)

    def _module(self, node: fx.Node) -> None:
        """Append what a module does."""
        module, source = self._model.get_submodule(node.target), self._tensor[node.args[0]]
        channels = self._channels[source]
        names = {"name": node.target, "sources": (source,), "target": node.name}
        if isinstance(module, PASSED_OVER):
            self._tensor[node] = source
        elif isinstance(module, nn.BatchNorm2d):
            self._norm(node, module)
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
            self._emit(node, conv, module.out_channels)
        elif isinstance(module, nn.MaxPool2d) and not module.ceil_mode and module.dilation == 1:
            sizes = map(_pair, (module.kernel_size, module.stride, module.padding))
            sizes = dict(zip(("kernel", "stride", "padding"), sizes, strict=True))
            self._emit(node, MaxPool(**names, **sizes), channels)
        elif isinstance(module, nn.AvgPool2d) and _fills(module):
            kernel = _pair(module.kernel_size)
            weight = np.full((channels, 1, *kernel), 1 / math.prod(kernel))
            conv = per_channel(node.target, source, node.name, weight, np.zeros(channels))
            padding = "even" if module.ceil_mode else (0, 0)
            self._emit(node, replace(conv, stride=_pair(module.stride), padding=padding), channels)
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            self._emit(node, Mean(**names), channels)
        else:
            self._activate(node, _activation_of(node.target, module))

    def _function(self, node: fx.Node, layer: str) -> None:
        """Append what a function, or a method of a tensor, does."""
        what = getattr(node.target, "__name__", str(node.target))
        sources = list(node.args[0] if node.target is torch.cat else node.args)
        if node.target == "mean" and tuple(node.args[1]) in ((2, 3), (-2, -1)):
            sources = sources[:1]
        if not all(isinstance(each, fx.Node) for each in sources):
            raise unsupported(layer, what)
        read = tuple(self._tensor[each] for each in sources)
        counts = [self._channels[each] for each in read]
        names = {"name": f"{layer} ({what})", "sources": read, "target": node.name}
        if node.target in SUMS and len(set(counts)) == 1:
            self._emit(node, Add(**names), counts[0])
        elif node.target in PRODUCTS and len(read) == 2:
            self._emit(node, Product(**names), counts[0])
        elif node.target is torch.cat and len(read) == 1:
            self._tensor[node] = read[0]
        elif node.target is torch.cat and node.args[1:] == (1,):
            self._emit(node, Concat(**names), sum(counts))
        elif node.target == "mean" and node.kwargs.get("keepdim"):
            self._emit(node, Mean(**names), counts[0])
        else:
            raise unsupported(layer, what)


def trace(model: nn.Module, layers: Sequence[str]) -> Traced:
    """Write a network, in evaluation mode, down up to the last of ``layers``, batch norms folded.

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
    return Traced(model, tracer.graph, tracer.found)

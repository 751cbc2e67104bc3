"""Make whole numbers of a network: choose each tensor's scale on normal images.

What is measured is measured in whole numbers, layer by layer, on what the layers already made
give; so the scales, too, are the same on every machine.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ad.exact.engines import BYTE, ENGINES, Conv, Operation, exact_float32
from ad.exact.network import (
    PIXELS,
    Add,
    Concat,
    IntegerNetwork,
    MaxPool,
    Mean,
    Output,
    Product,
    Table,
    centred,
    pixel_range,
)
from ad.exact.rounding import TABLES, choose_exponent, quantize_conv, table_of
from ad.exact.tracing import Traced, per_channel, trace, unsupported
from ad.exact.trials import exact_engine

TABLE_BITS = 20  # of the fraction of a function's values while its exponent is chosen
# A channel's range is at least this part of its tensor's: a defect may excite what normals do not.
LEAST_RANGE = 0.25
# Where an activation still changes; what lies outside need not be told apart.
CLAMPS = {
    "": (None, math.inf),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "silu": (-8.0, None),
    "sigmoid": (-6.0, 6.0),
    "hardswish": (-3.0, None),
    "hardsigmoid": (-3.0, 3.0),
}


class _Maker:
    """Make one operation after another, each on what those before it give on normal images."""

    def __init__(self, traced: Traced, means: Sequence[int], images: np.ndarray) -> None:
        self.traced = traced
        self.made: list[Operation] = []
        self.engines: dict[str, object] = {}
        self.trusted: dict[tuple, bool] = {}
        self.values = {PIXELS: centred(torch.from_numpy(images), means)}
        self.means: dict[str, np.ndarray] = {}
        self.units = {PIXELS: np.ones(3)}
        self.ranges = {PIXELS: pixel_range(means)}

    def keep(self, operation: Operation, values: Tensor, units: np.ndarray | float) -> None:
        """Append an operation; keep what it gives on the images, and its unit a channel."""
        self.made.append(operation)
        self.values[operation.target] = values
        self.units[operation.target] = np.broadcast_to(units, values.shape[1])
        self.ranges[operation.target] = (operation.low, operation.high)

    def exponent(self, tensor: str, layer: str) -> int:
        """Return the one exponent of a tensor whose channels must have one unit."""
        units = self.units[tensor]
        mantissa, power = math.frexp(units[0])
        if mantissa != 0.5 or (units != units[0]).any():
            raise unsupported(layer, f"{tensor} with a unit a channel")
        return 1 - power

    def free(self, tensor: str) -> bool:
        """Tell whether a tensor may have a unit a channel: only convolutions read it."""
        if tensor in self.traced.outputs.values():
            return False
        readers = [op for op in self.traced.operations.values() if tensor in op.sources]
        return all(
            isinstance(op, Conv) or (isinstance(op, MaxPool | Concat) and self.free(op.target))
            for op in readers
        )

    def make(self, operation: Operation) -> None:
        """Make an operation of whole numbers, and the table of its activation."""
        values = [self.values[name] for name in operation.sources]
        units = [self.units[name] for name in operation.sources]
        if isinstance(operation, Conv | Add | Product):
            self._rounded(operation, values)
            return
        spans = [self.ranges[name] for name in operation.sources]
        low, high = min(low for low, _ in spans), max(high for _, high in spans)
        operation = replace(operation, low=low, high=high)
        unit = np.concatenate(units)
        if isinstance(operation, Mean):
            largest = int(values[0].sum((2, 3), dtype=torch.int64).abs().max())
            room = BYTE[1] * values[0][0, 0].numel() / max(largest, 1)
            operation = replace(operation, shift=min(8, math.frexp(room)[1] - 1), high=BYTE[1])
            unit = unit * 2.0**-operation.shift
        self.keep(operation, operation.run(*values), unit)

    def _rounded(self, operation: Conv | Add | Product, values: list[Tensor]) -> None:
        """Choose the unit of a result that is rounded; keep the operation and its table."""
        target = operation.target
        activation = self.traced.activations.get(target, "")
        tabled, output = activation in TABLES, target in self.traced.outputs.values()
        low = 0 if activation.startswith("relu") else -BYTE[1] if output else BYTE[0]
        high = BYTE[1]
        real = self._ready(self._in_units(operation, np.ones(1))).sums(*values)
        real.clamp_(*CLAMPS[activation])
        if isinstance(operation, Conv) and not tabled and self.free(target):
            peaks = real.abs().amax((0, 2, 3)).double().numpy()
            # A channel that reaches the 6 of a ReLU6 has a unit of 6 / 127: no other clip.
            units = np.maximum(peaks, peaks.max() * LEAST_RANGE or 1.0) / BYTE[1]
        else:
            units = np.ldexp(np.ones(1), -choose_exponent(real, low))
            if activation == "relu6":
                high = min(high, int(6.0 / units[0]))
        operation = replace(
            self._in_units(operation, units),
            target=f"{target}.in" if tabled else target,
            low=low,
            high=high,
        )
        if isinstance(operation, Conv):
            run = self.engines[operation.target] = self._ready(operation)
        else:
            run = operation.run
        self.keep(operation, run(*values), units)
        if tabled:
            self._tabulate(operation, target, activation)

    def _in_units(self, operation: Conv | Add | Product, units: np.ndarray) -> Operation:
        """Return an operation whose result is in ``units``, one for all or one a channel."""
        if isinstance(operation, Conv):
            source = operation.sources[0]
            largest = max(map(abs, self.ranges[source]))
            units = np.broadcast_to(units, len(operation.bias))
            if source not in self.means:
                values = self.values[source]
                total = values.sum((0, 2, 3), dtype=torch.int64).numpy()
                self.means[source] = total / values[:, 0].numel()
            return quantize_conv(operation, self.units[source], units, largest, self.means[source])
        exponents = np.array([self.exponent(name, operation.name) for name in operation.sources])
        if isinstance(operation, Product):
            exponents = exponents.sum(keepdims=True)
        exponent = 1 - math.frexp(units[0])[1]
        return replace(operation, shift=(exponents - exponent).astype(np.int16))

    def _ready(self, operation: Conv | Add | Product) -> object:
        """Return what computes an operation: for a convolution, an engine that is exact here."""
        if not isinstance(operation, Conv):
            return operation
        source = self.ranges[operation.sources[0]]
        engine = exact_engine(operation, source, "cpu", ENGINES, self.trusted)
        return engine(operation, source, "cpu")

    def _tabulate(self, before: Operation, target: str, activation: str) -> None:
        """Keep the table of an activation."""
        exponent_in = self.exponent(before.target, before.name)
        values = self.values[before.target]
        fine = torch.from_numpy(table_of(activation, exponent_in, TABLE_BITS))
        real = fine[values.long() + 128].float() * 2.0**-TABLE_BITS
        exponent = choose_exponent(real, BYTE[0])
        table = table_of(activation, exponent_in, exponent).clip(-BYTE[1], BYTE[1])
        operation = Table(
            name=before.name,
            sources=(before.target,),
            target=target,
            values=table.astype(np.int8),
            low=int(table.min()),
            high=int(table.max()),
        )
        self.keep(operation, operation.run(values), 2.0**-exponent)

    def output(self, layer: str, tensor: str) -> Output:
        """Return a layer's output, brought to one power of two and -127..127 if it is not."""
        units = self.units[tensor]
        if (units != units[0]).any() or self.ranges[tensor][0] < -BYTE[1]:
            ones = np.ones((len(units), 1, 1, 1))
            source, tensor = tensor, f"{tensor}.out"
            self.traced.outputs[layer] = tensor
            self.make(per_channel(layer, source, tensor, ones, np.zeros(len(units))))
        return Output(layer, tensor, self.exponent(tensor, layer))


def to_integer(
    model: nn.Module,
    layers: Sequence[str],
    images: np.ndarray,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[IntegerNetwork, dict[str, object], list[Tensor]]:
    """Make the whole-number form of a network.

    Parameters
    ----------
    model : nn.Module
        A timm network with its weights, in evaluation mode.
    layers : sequence of str
        Modules whose outputs are read, shallow before deep.
    images : array of uint8, shape (n, 3, h, w)
        Normal images on which scales are measured; a dozen will do.
    mean, std : sequence of float
        What the network's training subtracted from RGB in 0 to 1, and divided by.

    Returns
    -------
    network : IntegerNetwork
    engines : dict
        For each convolution's target the engine on a CPU that measured it, for a `Runner`.
    maps : list of Tensor of int8, shape (n, c, h', w')
        What the network gives on the images, one a layer.

    Raises
    ------
    ValueError
        When a layer has no integer form or cannot keep the bound; the message names it.
    """
    traced = trace(model, layers)
    means = tuple(round(255.0 * each) for each in mean)
    maker = _Maker(traced, means, images)
    maker.units[PIXELS] = 1.0 / (255.0 * np.asarray(std, dtype=np.float64))
    last_use = {name: op.target for op in traced.operations.values() for name in op.sources}
    with torch.inference_mode(), exact_float32():
        for target, operation in list(traced.operations.items()):
            if PIXELS in operation.sources:
                operation = _with_rest(operation, np.asarray(mean) * 255.0 - means, std)
            maker.make(operation)
            for name in {*operation.sources} - {*traced.outputs.values()}:
                if last_use[name] == target:
                    del maker.values[name]
        outputs = tuple(maker.output(*each) for each in list(traced.outputs.items()))
    network = IntegerNetwork(tuple(maker.made), means, outputs)
    return network, maker.engines, [maker.values[each.tensor] for each in outputs]


def _with_rest(conv: Operation, rest: np.ndarray, std: Sequence[float]) -> Conv:
    """Put into the bias what whole-number means leave of the pixels' means."""
    if not isinstance(conv, Conv) or conv.groups != 1:
        raise unsupported(conv.name, "reads the image")
    part = rest / (255.0 * np.asarray(std, dtype=np.float64))
    terms = (conv.real_weight() * part[:, None, None]).reshape(len(conv.bias), -1)
    # fsum rounds once, so the order of the summands does not enter.
    return replace(conv, bias=conv.bias - np.array([math.fsum(row) for row in terms]))

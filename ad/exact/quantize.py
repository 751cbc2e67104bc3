"""Make whole numbers of a network: choose each tensor's scale on normal images.

What is measured is measured in whole numbers, layer by layer, on what the layers already made
give, and sums enter as whole numbers or correctly rounded; so the scales, too, are the same on
every machine.
"""

import decimal
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import torch
from torch import Tensor, nn

from ad.exact.engines import BYTE, Conv, Operation, exact_engine, exact_float32
from ad.exact.network import (
    LIMIT,
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
from ad.exact.tracing import Traced, per_channel, trace, unsupported

FINE_BITS = 4  # below a byte's, to which rounding and clipping are compared
SPARE_BITS = 3  # that a channel's weights may lose to keep the bound
TABLE_BITS = 20  # of the fraction of a function's values while its exponent is chosen
# A channel's range is at least this part of its tensor's: a defect may excite what normals do not.
LEAST_RANGE = 0.25


@dataclass(frozen=True)
class Activation:
    """What an activation makes of a sum."""

    clamp: tuple[float | None, float | None]  # where it still changes; the rest is not told apart
    low: int = BYTE[0]  # smallest whole number of its result, or of its table's input
    ceiling: float = math.inf  # largest value of its result
    function: Callable[[Decimal], Decimal] | None = None  # what is done by a table


def _sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def _hard_sigmoid(x: Decimal) -> Decimal:
    return min(max(x + 3, Decimal(0)), Decimal(6)) / 6


ACTIVATIONS = {
    "": Activation((None, math.inf)),
    "relu": Activation((0.0, None), low=0),
    "relu6": Activation((0.0, 6.0), low=0, ceiling=6.0),
    "silu": Activation((-8.0, None), function=lambda x: x * _sigmoid(x)),
    "sigmoid": Activation((-6.0, 6.0), function=_sigmoid),
    "hardswish": Activation((-3.0, None), function=lambda x: x * _hard_sigmoid(x)),
    "hardsigmoid": Activation((-3.0, 3.0), function=_hard_sigmoid),
}


def table_of(activation: str, exponent_in: int, exponent_out: int) -> np.ndarray:
    """Return a function of the 256 signed bytes in units of ``2 ** -exponent_out``, as int64.

    In decimal arithmetic, whose exponential is correctly rounded: the same everywhere.
    """
    function = ACTIVATIONS[activation].function
    with decimal.localcontext(prec=40, rounding=decimal.ROUND_HALF_EVEN):
        inputs = [Decimal(math.ldexp(q, -exponent_in)) for q in range(-128, 128)]
        scale = Decimal(2) ** exponent_out
        return np.array([int((function(x) * scale).to_integral_value()) for x in inputs])


def finest_exponent(largest: float) -> int:
    """Return the largest exponent at which a value does not exceed 127 units."""
    mantissa, power = math.frexp(largest or 1.0)  # largest = mantissa * 2 ** power
    return 7 - power - (mantissa > 127 / 128)


def choose_exponent(real: Tensor, low: int) -> int:
    """Choose the power of two at which rounding and clipping to ``low``..127 err least."""
    finest = finest_exponent(float(real.abs().amax()))
    errors = [0.0] * 4
    for part in real:
        fine = (part * 2.0 ** (finest + FINE_BITS)).round_()
        for clipped in range(4):
            unit = 2.0 ** (FINE_BITS - clipped)
            off = (fine / unit).round_().clamp_(low, BYTE[1]).mul_(unit).sub_(fine)
            # Whole numbers: their sum in float64 is exact.
            errors[clipped] += float(off.square_().sum(dtype=torch.float64))
    return finest + errors.index(min(errors))


def quantize_conv(
    conv: Conv, units_in: np.ndarray, units_out: np.ndarray, largest: int, mean_in: np.ndarray
) -> Conv:
    """Write a traced network's weights as whole numbers times a power of two a channel.

    Parameters
    ----------
    conv : Conv
    units_in, units_out : array of float64, shape (in,) and (out,)
        What a whole number of the input and of the result stands for.
    largest : int
        Largest absolute whole number of the input: sums stay below `LIMIT` for it.
    mean_in : array of float64, shape (in,)
        Mean whole number of the input; what rounded weights add to it goes off the bias.

    Raises
    ------
    ValueError
        When a channel would have to lose more than `SPARE_BITS` bits.
    """
    weight, bias = _in_units(conv, units_in, units_out)
    # A bias far beyond its weights sets the unit in their place.
    sizes = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), np.ldexp(np.abs(bias), -16))
    # Beyond 2 ** -120 float32 has no units left; such a channel is as good as zero.
    finest = np.array([min(finest_exponent(size), 120) for size in sizes])
    shift = finest.copy()
    while (finest - shift).max() <= SPARE_BITS:
        whole, whole_bias = _rounded(weight, bias, shift, _by_group(conv, mean_in))
        # The largest sum that any input reaches: below 2 ** 24, float32 holds every part of it.
        over = np.abs(whole).sum(axis=(1, 2, 3)) * largest + np.abs(whole_bias) >= LIMIT
        if not over.any():
            arrays = {"weight": whole.astype(np.int8), "bias": whole_bias.astype(np.int32)}
            return replace(conv, **arrays, shift=shift.astype(np.int16), gain=None)
        shift -= over  # one bit less in these channels
    raise ValueError(
        f"backbone.arithmetic: sums of layer {conv.name}, channel {int(np.argmin(shift - finest))},"
        f" reach 2^24 even with {8 - SPARE_BITS}-bit weights; set backbone.arithmetic: float32"
    )


def _by_group(conv: Conv, values: np.ndarray) -> np.ndarray:
    """Bring values a channel of the input, (in,), to the weights: (out, in / groups, 1, 1)."""
    return values.reshape(conv.groups, -1, 1, 1).repeat(len(conv.bias) // conv.groups, 0)


def _in_units(
    conv: Conv, units_in: np.ndarray, units_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and bias that turn whole numbers of the input into units of the result."""
    weight = conv.real_weight()  # a copy, changed in place: 100 MB in a wide network
    weight *= _by_group(conv, units_in)
    weight /= units_out[:, None, None, None]
    return weight, conv.bias / units_out


def _rounded(
    weight: np.ndarray, bias: np.ndarray, shift: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Round to multiples of ``2 ** -shift``; the bias makes up for what that does to the mean."""
    # Powers of two: products are exact.
    scale, unit = (np.ldexp(1.0, each)[:, None, None, None] for each in (shift, -shift))
    whole = weight * scale
    np.rint(whole, out=whole)
    error = whole * unit
    error -= weight
    error *= mean * 2.0**24
    # Whole numbers: their sum is the same in any order.
    drift = np.rint(error, out=error).astype(np.int64).sum(axis=(1, 2, 3))
    return whole, np.rint(np.ldexp(bias - np.ldexp(drift.astype(float), -24), shift))


class _Maker:
    """Make one operation after another, each on what those before it give on normal images."""

    def __init__(self, traced: Traced, means: Sequence[int], images: np.ndarray) -> None:
        self.traced = traced
        self.made: list[Operation] = []
        self.engines: dict[str, object] = {}
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
        if isinstance(operation, Conv | Add | Product):
            self._make_rounded(operation, values)
            return
        unit = np.concatenate([self.units[name] for name in operation.sources])
        spans = [self.ranges[name] for name in operation.sources]
        low, high = min(low for low, _ in spans), max(high for _, high in spans)
        operation = replace(operation, low=low, high=high)
        if isinstance(operation, Mean):
            largest = int(values[0].sum((2, 3), dtype=torch.int64).abs().max())
            room = BYTE[1] * values[0][0, 0].numel() / max(largest, 1)
            operation = replace(operation, shift=min(8, math.frexp(room)[1] - 1), high=BYTE[1])
            unit = unit * 2.0**-operation.shift
        self.keep(operation, operation(*values), unit)

    def _make_rounded(self, operation: Conv | Add | Product, values: list[Tensor]) -> None:
        """Choose the unit of a result that is rounded; keep the operation and its table."""
        target = operation.target
        name = self.traced.activations.get(target, "")
        activation = ACTIVATIONS[name]
        tabled, output = activation.function is not None, target in self.traced.outputs.values()
        low = max(activation.low, -BYTE[1]) if output else activation.low
        high = BYTE[1]
        real = self._ready(self._in_units(operation, np.ones(1))).sums(*values)
        real.clamp_(*activation.clamp)
        if isinstance(operation, Conv) and not tabled and self.free(target):
            peaks = real.abs().amax((0, 2, 3)).double().numpy()
            # A channel that reaches the 6 of a ReLU6 has a unit of 6 / 127: no other clip.
            units = np.maximum(peaks, peaks.max() * LEAST_RANGE or 1.0) / BYTE[1]
        else:
            units = np.ldexp(np.ones(1), -choose_exponent(real, low))
            high = int(min(high, activation.ceiling / units[0]))
        operation = replace(self._in_units(operation, units), low=low, high=high)
        if tabled:
            operation = replace(operation, target=f"{target}.in")
        ready = self._ready(operation)
        if isinstance(operation, Conv):
            self.engines[operation.target] = ready
        self.keep(operation, ready(*values), units)
        if tabled:
            self._tabulate(operation, target, name)

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
        conv, source = isinstance(operation, Conv), self.ranges[operation.sources[0]]
        return exact_engine(operation, source, "cpu") if conv else operation

    def _tabulate(self, before: Operation, target: str, activation: str) -> None:
        """Keep the table of an activation."""
        exponent_in = self.exponent(before.target, before.name)
        values = self.values[before.target]
        fine = torch.from_numpy(table_of(activation, exponent_in, TABLE_BITS))
        real = fine[values.long() + 128].float() * 2.0**-TABLE_BITS
        exponent = choose_exponent(real, BYTE[0])
        table = table_of(activation, exponent_in, exponent).clip(-BYTE[1], BYTE[1])
        names = {"name": before.name, "sources": (before.target,), "target": target}
        span = {"low": int(table.min()), "high": int(table.max())}
        operation = Table(**names, **span, values=table.astype(np.int8))
        self.keep(operation, operation(values), 2.0**-exponent)

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
    """Make the whole-number form of a timm network with its weights, in evaluation mode.

    Parameters
    ----------
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

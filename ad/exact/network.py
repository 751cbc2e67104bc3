"""A convolutional network as whole numbers: the same bits on every machine, engine and runtime.

Every tensor holds whole numbers of one byte that stand for ``q * 2 ** -exponent``.  A layer sums
products of whole numbers, shifts the sum and rounds half to even.  A float32 sum of multiples of
one unit is exact in any order while every partial sum stays below 2 ** 24 units; `largest_sums`
bounds all of them from the weights alone, so nothing is left that a processor, a library or a
number of threads could change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ad.exact.engines import BYTE, ENGINES, Conv, Operation, exact_engine, exact_float32, finish

LIMIT = 2**24  # float32 holds every whole number up to here
PIXELS = "pixels"


class _Rounded:
    """An operation that rounds and clips what its ``sums`` returns."""

    def __call__(self, *values: Tensor) -> Tensor:
        """Return int8, shape (n, c, h, w)."""
        return finish(self.sums(*values), self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Add(_Rounded, Operation):
    """``clip(round(sum of q_i * 2 ** -shift_i))`` of tensors of one shape."""

    shift: np.ndarray | None = None  # int16, one a source

    def sums(self, *values: Tensor) -> Tensor:
        """Add int8 tensors; return float32, exact to 16 bits between the shifts."""
        scales = np.ldexp(1.0, -self.shift.astype(np.int64)).tolist()
        total = values[0].float().mul_(scales[0])
        for value, scale in zip(values[1:], scales[1:], strict=True):
            total.add_(value, alpha=scale)
        return total


@dataclass(frozen=True, kw_only=True)
class Product(_Rounded, Operation):
    """``clip(round(q_0 * q_1 * 2 ** -shift))``; a gate (n, c, 1, 1) is broadcast."""

    shift: np.ndarray | None = None  # int16, shape (1,)

    def sums(self, one: Tensor, other: Tensor) -> Tensor:
        """Multiply int8 tensors; return float32, exact, not yet rounded."""
        return one.float().mul(other).mul_(2.0 ** -int(self.shift[0]))


@dataclass(frozen=True, kw_only=True)
class MaxPool(Operation):
    """The largest value of each window; outside the map counts as smaller than all."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def __call__(self, value: Tensor) -> Tensor:
        """Pool int8 (n, c, h, w), in float32, which holds bytes exactly and has a kernel."""
        return F.max_pool2d(value.float(), self.kernel, self.stride, self.padding).to(torch.int8)


@dataclass(frozen=True, kw_only=True)
class Mean(Operation):
    """``clip(floor(sum * 2 ** shift / (h * w) + 1/2))`` over each map."""

    shift: int = 0

    def __call__(self, value: Tensor) -> Tensor:
        """Reduce int8 (n, c, h, w) to (n, c, 1, 1)."""
        count = value.shape[2] * value.shape[3]
        total = value.sum((2, 3), keepdim=True, dtype=torch.int64)
        # Whole-number division: a reciprocal, which optimisers put for a quotient, is not exact.
        doubled = total * 2 ** (self.shift + 1) + count
        mean = torch.div(doubled, 2 * count, rounding_mode="floor")
        return mean.clamp_(self.low, self.high).to(torch.int8)


@dataclass(frozen=True, kw_only=True)
class Table(Operation):
    """A function of one byte: entry ``q + 128`` of ``values``, 256 of int8."""

    values: np.ndarray

    def __call__(self, value: Tensor) -> Tensor:
        """Look int8 (n, c, h, w) up."""
        table = torch.from_numpy(self.values).to(value.device)
        rows = value.permute(0, 2, 3, 1)  # the result stays channels-last in memory
        found = table.index_select(0, rows.flatten().int().add_(128))
        return found.view(rows.shape).permute(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Concat(Operation):
    """Channels of several tensors, one behind the other."""

    def __call__(self, *values: Tensor) -> Tensor:
        """Join int8 (n, c_i, h, w)."""
        return torch.cat(values, 1)


@dataclass(frozen=True)
class Output:
    """A layer that is read: ``q * 2 ** -exponent`` of ``tensor`` is its value."""

    layer: str
    tensor: str
    exponent: int


@dataclass(frozen=True)
class IntegerNetwork:
    """Operations in order over named tensors; plain data.

    Raises
    ------
    ValueError
        When a partial sum could reach 2 ** 24; the message names the layer.
    """

    operations: tuple[
        Operation, ...
    ]  # each reads ``sources``, `PIXELS` or before it, to ``target``
    means: tuple[int, int, int]  # subtracted from the red, green and blue pixels
    outputs: tuple[Output, ...]  # whole numbers -127..127, or 0..127 after a ReLU

    def __post_init__(self) -> None:
        for conv, source in self.convolutions():
            share = largest_sums(conv, *source).max() / LIMIT
            if share >= 1:
                raise ValueError(
                    f"backbone.arithmetic: sums of layer {conv.name} can reach {share:.2f} x 2^24, "
                    f"beyond exact float32; set backbone.arithmetic: float32"
                )

    def ranges(self) -> dict[str, tuple[int, int]]:
        """Return the smallest and largest value that each tensor can hold."""
        found = {PIXELS: pixel_range(self.means)}
        return found | {each.target: (each.low, each.high) for each in self.operations}

    def convolutions(self) -> list[tuple[Conv, tuple[int, int]]]:
        """List the convolutions, each with the range of its input."""
        ranges = self.ranges()
        convs = [each for each in self.operations if isinstance(each, Conv)]
        return [(each, ranges[each.sources[0]]) for each in convs]


def pixel_range(means: Sequence[int]) -> tuple[int, int]:
    """Return the smallest and largest difference of a pixel from its channel's mean."""
    return -max(means), 255 - min(means)


def centred(images: Tensor, means: Sequence[int]) -> Tensor:
    """Subtract the means from pixels of uint8 (n, 3, h, w); int8 where it holds them, or int16."""
    pixels = images.to(torch.int16, memory_format=torch.channels_last)
    pixels -= torch.tensor(means, dtype=torch.int16, device=images.device)[:, None, None]
    low, high = pixel_range(means)
    return pixels.to(torch.int8) if low >= BYTE[0] and high <= BYTE[1] else pixels


def largest_sums(conv: Conv, low: int, high: int) -> np.ndarray:
    """Bound every partial sum of each output channel, whatever the order of the summands.

    For inputs ``low`` to ``high``: the sum of ``|w|`` times the largest, plus ``|bias|``; int64,
    shape (out,).
    """
    weights = np.abs(conv.weight.astype(np.int64)).sum(axis=(1, 2, 3))
    return weights * max(-low, high) + np.abs(conv.bias.astype(np.int64))


class Runner:
    """A network made ready for a device: an engine is chosen for each convolution by self-test.

    Parameters
    ----------
    network : IntegerNetwork
    device : str
    engines : sequence of engine classes, optional
        Candidates, best first, see `exact_engine`; which one runs changes no result.
    ready : mapping, optional
        Engines of this device that have been tried on these convolutions, by their targets.
    """

    def __init__(
        self,
        network: IntegerNetwork,
        *,
        device: str = "cpu",
        engines: Sequence[type] = ENGINES,
        ready: Mapping[str, object] | None = None,
    ) -> None:
        self.network = network
        self.device = device
        self._engines = dict(ready or {})
        for conv, source in network.convolutions():
            if conv.target not in self._engines:
                self._engines[conv.target] = exact_engine(conv, source, device, engines)
        self._last_use = {s: i for i, each in enumerate(network.operations) for s in each.sources}

    @property
    def engine(self) -> str:
        """Say which engine runs how many convolutions (``8-bit 30, float32 5``)."""
        names = [each.name for each in self._engines.values()]
        return ", ".join(f"{name} {names.count(name)}" for name in sorted(set(names)))

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Map images, uint8 (n, 3, h, w), to a map of int8 (n, c, h', w') a layer.

        `IntegerNetwork.outputs` has the maps' exponents.
        """
        values = {PIXELS: centred(images.to(self.device), self.network.means)}
        kept = {each.tensor for each in self.network.outputs}
        with torch.inference_mode(), exact_float32():
            for number, each in enumerate(self.network.operations):
                run = self._engines.get(each.target, each)
                values[each.target] = run(*(values[name] for name in each.sources))
                for name in {*each.sources} - kept:
                    if self._last_use[name] == number:
                        del values[name]
        return [values[each.tensor] for each in self.network.outputs]

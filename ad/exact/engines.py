"""Convolutions of whole numbers: by 8-bit instructions, or carried in float32.

An engine runs a convolution only after it has reproduced random and worst-case whole numbers of
that convolution on this machine, so every engine that runs gives the same bits.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BYTE = (-128, 127)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What makes one tensor of whole numbers, ``low`` to ``high``, of others."""

    name: str  # the layer, for messages
    sources: tuple[str, ...]
    target: str
    low: int = BYTE[0]
    high: int = BYTE[1]


@dataclass(frozen=True, kw_only=True)
class Conv(Operation):
    """``clip(round_half_even((sum of w * q + bias) * 2 ** -shift))``.

    ``padding`` counts rows and columns of zeros on either side; "same" is TensorFlow's rule, which
    may put one more behind than before; "even" is none, for maps of even sides only.
    """

    weight: np.ndarray  # int8, shape (out, in / groups, kh, kw), -127..127
    bias: np.ndarray  # int32, shape (out,), in units of the sum
    shift: np.ndarray | None = None  # int16, shape (out,)
    gain: np.ndarray | None = None  # (out,): a factor that a traced network's weights still lack
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] | str = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def real_weight(self) -> np.ndarray:
        """Return a traced network's weights, in float64."""
        weight = self.weight.astype(np.float64)
        return weight if self.gain is None else weight * self.gain[:, None, None, None]


def finish(values: Tensor, low: int, high: int) -> Tensor:
    """Round float32 half to even, in place, clip and return int8."""
    return values.round_().clamp_(low, high).to(torch.int8)


def same_padding(conv: Conv, size: Sequence[int]) -> tuple[int, int]:
    """Return how many rows and columns of zeros the "same" rule adds; half of them before."""
    high, wide = (
        max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
        for side, kernel, stride, dilation in zip(
            size, conv.weight.shape[2:], conv.stride, conv.dilation, strict=True
        )
    )
    return high, wide


def pad(conv: Conv, values: Tensor) -> tuple[Tensor, list[int]]:
    """Pad by the "same" rule; return the input and the padding left to the convolution."""
    if conv.padding == "even":
        if any(side % 2 for side in values.shape[2:]):
            raise ValueError(
                f"backbone.arithmetic: layer {conv.name} needs even sides, got {values.shape[2:]}; "
                f"choose another image.input_size, or set backbone.arithmetic: float32"
            )
        return values, [0, 0]
    if conv.padding != "same":
        return values, list(conv.padding)
    high, wide = same_padding(conv, values.shape[2:])
    if high or wide:
        before_and_behind = (0, 0, wide // 2, wide - wide // 2, high // 2, high - high // 2)
        # Seen as (n, h, w, c), the result stays channels-last in memory.
        values = F.pad(values.permute(0, 2, 3, 1), before_and_behind).permute(0, 3, 1, 2)
    return values, [0, 0]


class FloatConvolution:
    """Carry the whole numbers in float32: exact in any order while sums stay below 2 ** 24."""

    name = "float32"
    dtype = torch.float32

    def __init__(self, conv: Conv, _source: tuple[int, int], device: str) -> None:
        self.conv = conv
        # Times 2 ** -shift, which is exact: the sums come out shifted.
        scale = torch.from_numpy(np.ldexp(1.0, -conv.shift.astype(np.int64)))
        weight = torch.from_numpy(conv.weight) * scale[:, None, None, None]
        self.weight = weight.to(device, self.dtype, memory_format=torch.channels_last)
        self.bias = (torch.from_numpy(conv.bias) * scale).to(device, self.dtype)

    def sums(self, values: Tensor) -> Tensor:
        """Convolve whole numbers (n, in, h, w); return sums times ``2 ** -shift``, not rounded."""
        conv = self.conv
        values, padding = pad(conv, values)
        geometry = (conv.stride, padding, conv.dilation, conv.groups)
        return F.conv2d(values.to(self.dtype), self.weight, self.bias, *geometry)

    def __call__(self, values: Tensor) -> Tensor:
        """Convolve whole numbers (n, in, h, w); return int8 (n, out, h', w')."""
        return finish(self.sums(values), self.conv.low, self.conv.high)


class Reference(FloatConvolution):
    """The same in float64, where the sums of any layer are exact."""

    dtype = torch.float64


class ByteConvolution:
    """PyTorch's 8-bit convolution by oneDNN, on a CPU.

    It takes unsigned bytes: 0..127, or signed ones with 128 added.  Two products of the latter
    overflow the 16-bit sums of AVX2; the self-test finds that out.
    """

    name = "8-bit"

    def __init__(self, conv: Conv, source: tuple[int, int], device: str) -> None:
        if device != "cpu" or source[0] < BYTE[0] or source[1] > BYTE[1]:
            raise RuntimeError("it takes bytes on a CPU only")
        self.step = (1, 1)
        if conv.weight.shape[2:] == (1, 1) and conv.padding == (0, 0):
            # What a stride passes over is left out beforehand: much faster.
            self.step, conv = conv.stride, replace(conv, stride=(1, 1))
        self.conv = conv
        self.zero_point = 128 if source[0] < 0 else 0
        self.scales = torch.from_numpy(np.ldexp(np.float32(1), -conv.shift.astype(np.int64)))
        self.bias = torch.from_numpy(conv.bias) * self.scales
        self.weight_zeros = torch.zeros(len(conv.bias), dtype=torch.int32)
        padding = [0, 0] if isinstance(conv.padding, str) else conv.padding
        geometry = (conv.stride, padding, conv.dilation, conv.groups)
        weight = torch.from_numpy(conv.weight)
        # Without an example of an input's shape, some weights are packed anew at every call.
        example = (1, weight.shape[1] * conv.groups, 32, 32)
        prepack = torch.ops.onednn.qconv_prepack
        self.packed = prepack(weight, self.scales, 1.0, self.zero_point, *geometry, example)

    def __call__(self, values: Tensor) -> Tensor:
        """Convolve int8 (n, in, h, w); return int8 (n, out, h', w')."""
        low, high = self.conv.low, self.conv.high
        # Written as int8, which saturates at -128 and 127.
        result = self.sums(values, torch.int8, "relu" if low == 0 else "none")
        if high != BYTE[1] or low not in (BYTE[0], 0):
            result.clamp_(low, high)
        return result

    def sums(
        self, values: Tensor, dtype: torch.dtype = torch.float32, activation: str = "none"
    ) -> Tensor:
        """Convolve int8 (n, in, h, w); return sums times ``2 ** -shift``."""
        conv = self.conv
        values, padding = pad(conv, values[:, :, :: self.step[0], :: self.step[1]])
        if self.zero_point:
            values = values ^ BYTE[0]
        values = values.contiguous(memory_format=torch.channels_last).view(torch.uint8)
        weights = (self.packed, self.scales, self.weight_zeros, self.bias)
        geometry = (conv.stride, padding, conv.dilation, conv.groups)
        convolve = torch.ops.onednn.qconv2d_pointwise
        written = (1.0, 0, dtype, activation, [], "")
        return convolve(values, 1.0, self.zero_point, *weights, *geometry, *written)


ENGINES = (ByteConvolution, FloatConvolution)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Leave out float32 convolutions that do more than add products: Winograd, Fourier, TF32."""
    backends = torch.backends
    with backends.cudnn.flags(enabled=False, allow_tf32=False), backends.nnpack.flags(False):
        yield


# (in, out, kernel, stride, groups) of the convolutions that an engine is tried on.
TRIALS = (
    (3, 8, 3, 2, 1),
    (16, 24, 1, 1, 1),
    (832, 16, 1, 1, 1),
    (64, 33, 3, 1, 1),
    (32, 16, 1, 2, 1),
    (32, 32, 3, 1, 4),
    (24, 24, 3, 2, 24),
    (40, 40, 5, 1, 40),
)
LARGER = 48  # pixels a side: libraries choose an algorithm by a map's size


def _trial(spec: tuple[int, ...], source: tuple[int, int], *, worst: bool) -> Conv:
    """Make a convolution whose weights are random, or of one sign a channel and the largest."""
    n_in, n_out, kernel, stride, groups = spec
    rng = np.random.default_rng(n_in * n_out * kernel)
    fan_in, most = n_in // groups * kernel**2, max(map(abs, source))
    peak = min(127, (2**24 - 1) // (fan_in * most))  # the largest weight that keeps the bound
    weight = rng.integers(-peak, peak + 1, (n_out, n_in // groups, kernel, kernel))
    if worst:
        weight[::2], weight[1::2] = peak, -peak
    largest = int(np.abs(weight[0]).sum()) * most
    room = 2**24 - 1 - largest if worst else largest // 4
    return Conv(
        name="trial",
        sources=("x",),
        target="y",
        weight=weight.astype(np.int8),
        bias=rng.integers(-room, room + 1, n_out).astype(np.int32),
        shift=rng.integers(1, largest.bit_length() - 5, n_out).astype(np.int16),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        groups=groups,
        low=BYTE[0] * int(rng.integers(2)),
    )


def _trial_inputs(conv: Conv, source: tuple[int, int], larger: int) -> Tensor:
    """Make maps of both ends of the range, of random ends, and of random values."""
    rng = np.random.default_rng(0)
    low, high = source
    kernel = conv.weight.shape[2:]
    sides = [(kernel[i] - 1) * conv.dilation[i] + 1 + conv.stride[i] for i in (0, 1)]
    if kernel == (1, 1):  # for smaller maps the weights would be packed anew, at length
        sides = [8, 8]
    shape = (4, conv.weight.shape[1] * conv.groups, *(side + larger for side in sides))
    maps = rng.integers(low, high + 1, shape)
    maps[0], maps[1], maps[2] = high, low, rng.choice(source, shape[1:])
    dtype = torch.int8 if high <= BYTE[1] else torch.int16
    return torch.from_numpy(maps).to(dtype, memory_format=torch.channels_last)


def _ready(
    engine: type, conv: Conv, source: tuple[int, int], device: str, larger: int = 0
) -> object | None:
    """Return an engine made ready if its sums and results are exact on trial inputs."""
    inputs = _trial_inputs(conv, source, larger)
    sums = Reference(conv, source, "cpu").sums(inputs)
    try:
        ready, inputs = engine(conv, source, device), inputs.to(device)
        found, found_sums = ready(inputs).cpu(), ready.sums(inputs).cpu()
    except (AttributeError, RuntimeError, TypeError):
        return None  # such inputs are not for it, or this build of PyTorch has another operator
    exact = torch.equal(found_sums.to(sums), sums)
    exact = exact and torch.equal(found, finish(sums, conv.low, conv.high))
    return ready if exact else None


@cache
def passes_trials(engine: type, source: tuple[int, int], device: str) -> bool:
    """Tell whether an engine is exact for random and worst-case weights of `TRIALS`."""
    return all(
        _ready(engine, _trial(spec, source, worst=worst), source, device, larger)
        for spec in TRIALS
        for worst, larger in ((False, 0), (True, 0), (False, LARGER))
    )


def exact_engine(
    conv: Conv, source: tuple[int, int], device: str, candidates: Sequence[type] = ENGINES
) -> object:
    """Return the first engine, ready to run, that is exact in trials and on a convolution itself.

    ``source`` is the smallest and largest value of the input; of the candidates the best is first.

    Raises
    ------
    RuntimeError
        When none is exact.
    """
    with torch.inference_mode(), exact_float32():
        for engine in candidates:
            if not passes_trials(engine, source, device):
                continue
            if ready := _ready(engine, conv, source, device):
                return ready
    raise RuntimeError(
        f"no convolution on {device} reproduces the whole numbers of layer {conv.name} exactly; "
        f"set backbone.arithmetic: float32, or check this build of PyTorch {torch.__version__}"
    )

"""Engines reproduce whole numbers exactly, or are not used."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ad.exact.engines import (
    ENGINES,
    ByteConvolution,
    Conv,
    FloatConvolution,
    exact_engine,
    passes_trials,
)
from ad.exact.quantize import quantize_conv

UNSIGNED, SIGNED, PIXELS = (0, 127), (-128, 127), (-124, 151)


def int64_convolution(conv: Conv, values: np.ndarray) -> np.ndarray:
    """Convolve by the definition, in int64; return int8."""
    kernel, stride = conv.weight.shape[2:], conv.stride
    pads = []
    for i, size in enumerate(values.shape[2:]):
        reach = (kernel[i] - 1) * conv.dilation[i] + 1
        if conv.padding == "same":
            total = max((-(-size // stride[i]) - 1) * stride[i] + reach - size, 0)
            pads.append((total // 2, total - total // 2))
        else:
            pads.append((conv.padding[i], conv.padding[i]))
    padded = np.pad(values.astype(np.int64), ((0, 0), (0, 0), *pads))
    high, wide = (
        (padded.shape[2 + i] - (kernel[i] - 1) * conv.dilation[i] - 1) // stride[i] + 1
        for i in (0, 1)
    )
    out, of_group = conv.weight.shape[:2]
    grouped = padded.reshape(len(values), conv.groups, of_group, *padded.shape[2:])
    weight = conv.weight.astype(np.int64).reshape(conv.groups, out // conv.groups, of_group, -1)
    sums = np.zeros((len(values), conv.groups, out // conv.groups, high, wide), dtype=np.int64)
    for number in range(kernel[0] * kernel[1]):
        top, left = (d * k for d, k in zip(conv.dilation, divmod(number, kernel[1]), strict=True))
        part = grouped[..., top :: stride[0], left :: stride[1]][..., :high, :wide]
        sums += np.einsum("goi,ngihw->ngohw", weight[..., number], part)
    sums = sums.reshape(len(values), out, high, wide) + conv.bias.astype(np.int64)[:, None, None]
    return int64_rounded(sums, conv.shift[:, None, None]).clip(conv.low, conv.high).astype(np.int8)


def int64_rounded(sums: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """Shift whole numbers to the right, half to even; a negative shift is to the left."""
    left, right = np.maximum(-shift, 0).astype(np.int64), np.maximum(shift, 0).astype(np.int64)
    sums = sums << left
    floor = sums >> right
    rest = 2 * (sums - (floor << right)) - (np.int64(1) << right)
    return floor + ((rest > 0) | ((rest == 0) & (floor % 2 == 1)))


def drawn_convolution(rng: np.random.Generator, source: tuple[int, int]) -> Conv:
    """Draw a convolution that keeps the bound."""
    groups = int(rng.choice([1, 1, 2, 8]))
    of_group = 1 if groups == 8 else int(rng.integers(1, 40))
    out = groups * int(rng.integers(1, 12))
    kernel = tuple(int(rng.choice([1, 2, 3, 5])) for _ in range(2))
    weight = rng.integers(-127, 128, (out, of_group, *kernel)).astype(np.int8)
    weight[0] = np.where(rng.integers(2), 127, -127)
    largest = np.abs(weight.astype(int)).sum(axis=(1, 2, 3)).max() * max(map(abs, source))
    room = 2**24 - 1 - int(largest)
    assert room > 0
    return Conv(
        name="drawn",
        sources=("x",),
        target="y",
        weight=weight,
        bias=rng.integers(-room, room + 1, out).astype(np.int32) // int(rng.choice([1, 2**10])),
        shift=rng.integers(-2, 18, out).astype(np.int16),
        stride=tuple(int(rng.integers(1, 4)) for _ in range(2)),
        padding="same" if rng.integers(2) else (kernel[0] // 2, kernel[1] // 2),
        dilation=tuple(int(rng.integers(1, 3)) for _ in range(2)),
        groups=groups,
        low=int(rng.choice([0, -127, -128])),
        high=int(rng.choice([96, 127])),
    )


def drawn_maps(rng: np.random.Generator, conv: Conv, source: tuple[int, int]) -> torch.Tensor:
    """Draw maps, some of them of the ends of the range only."""
    sides = [
        (k - 1) * d + int(rng.integers(1, 9))
        for k, d in zip(conv.weight.shape[2:], conv.dilation, strict=True)
    ]
    shape = (3, conv.weight.shape[1] * conv.groups, *sides)
    maps = rng.integers(source[0], source[1] + 1, shape)
    maps[1], maps[2] = rng.choice(source, shape[1:]), source[1]
    return torch.from_numpy(maps.astype(np.int8 if source[1] < 128 else np.int16))


@pytest.mark.parametrize("source", [UNSIGNED, SIGNED, PIXELS])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_passes_its_trials_equals_int64(engine, source):
    """Shapes, strides, groups, padding and ranges are drawn."""
    if not passes_trials(engine, source, "cpu"):
        assert engine is not FloatConvolution, "float32 has to be exact everywhere"
        pytest.skip("not for such inputs, or no such instructions: the network uses none either")
    for seed in range(40):
        rng = np.random.default_rng(seed)
        conv = drawn_convolution(rng, source)
        maps = drawn_maps(rng, conv, source)
        with torch.inference_mode():
            found = engine(conv, source, "cpu")(maps)
        assert found.dtype == torch.int8
        np.testing.assert_array_equal(found.numpy(), int64_convolution(conv, maps.numpy()))


def test_halves_go_to_the_even_number():
    weight, shift = np.ones((1, 1, 1, 1), np.int8), np.ones(1, np.int16)
    names = {"name": "halves", "sources": ("x",), "target": "y"}
    conv = Conv(**names, weight=weight, bias=np.zeros(1, np.int32), shift=shift)
    maps = torch.tensor([-5, -3, -1, 1, 3, 5], dtype=torch.int8).view(6, 1, 1, 1)
    found = FloatConvolution(conv, SIGNED, "cpu")(maps).flatten().tolist()
    assert found == [-2, -2, 0, 0, 2, 2]


class OffByOne(FloatConvolution):
    """Be wrong in one value of thousands."""

    def __call__(self, values):
        result = super().__call__(values)
        result[-1, -1, -1, -1] ^= 1
        return result


class Saturating(FloatConvolution):
    """Lose what 16 bits cannot hold, as sums of pairs of unsigned bytes do on AVX2."""

    def sums(self, values):
        whole = replace(self.conv, shift=np.zeros_like(self.conv.shift))
        exact = FloatConvolution(whole, SIGNED, "cpu").sums(values)
        scale = torch.from_numpy(np.ldexp(np.float32(1), -self.conv.shift.astype(int)))
        return exact.clamp(-(2**15), 2**15 - 1) * scale[:, None, None]


class Coarse(FloatConvolution):
    """Sum in a shorter format than float32, as a fast setting of a library may."""

    def sums(self, values):
        return super().sums(values).bfloat16().float()


class CoarseSums(Coarse):
    """Be exact in bytes, and not in the sums that scales are measured on."""

    def __call__(self, values):
        return FloatConvolution(self.conv, UNSIGNED, "cpu")(values)


class ByShape(FloatConvolution):
    """Compute large maps in another way than small ones."""

    def sums(self, values):
        return super().sums(values) * (1 + 2.0**-12 * (values.shape[3] > 16))


class ByLayer(FloatConvolution):
    """Be exact in trials, and wrong in a network's layer."""

    def __call__(self, values):
        return super().__call__(values) ^ (self.conv.name != "trial")


class Missing(FloatConvolution):
    """Stand for an operator that a build of PyTorch has not."""

    def __init__(self, *_):
        raise AttributeError("no operator of that name")


PLANTED = [OffByOne, Saturating, Coarse, CoarseSums, ByShape, ByLayer, Missing]


@pytest.mark.parametrize("planted", PLANTED)
def test_an_inexact_engine_is_refused(planted, one_line):
    conv = drawn_convolution(np.random.default_rng(1), UNSIGNED)
    assert passes_trials(planted, UNSIGNED, "cpu") == (planted is ByLayer)
    found = exact_engine(conv, UNSIGNED, "cpu", (planted, FloatConvolution))
    assert type(found) is FloatConvolution
    with one_line(RuntimeError, "layer drawn", "backbone.arithmetic: float32"):
        exact_engine(conv, UNSIGNED, "cpu", (planted,))


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e-44, 1e-50, 0.0])
def test_a_channel_of_tiny_weights_has_an_exact_engine(size):
    conv = drawn_convolution(np.random.default_rng(3), UNSIGNED)
    out, n_in = len(conv.bias), conv.weight.shape[1] * conv.groups
    gain = np.where(np.arange(out) == 0, size, 1.0)
    traced = replace(conv, weight=conv.weight / 127.0, bias=np.zeros(out), gain=gain)
    whole = quantize_conv(traced, np.ones(n_in), np.full(out, 64.0), 127, np.zeros(n_in))
    assert exact_engine(whole, UNSIGNED, "cpu", (FloatConvolution,))


def test_pixels_beyond_a_byte_are_not_given_to_the_8_bit_engine():
    assert not passes_trials(ByteConvolution, PIXELS, "cpu")

"""Whole numbers for real ones: exponents, weights within the bound, tables of functions.

Sums enter as whole numbers or correctly rounded, so the choices are the same on every machine.
"""

import decimal
import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import numpy as np
import torch
from torch import Tensor

from ad.exact.engines import BYTE, Conv
from ad.exact.network import LIMIT

FINE_BITS = 4  # below a byte's, to which rounding and clipping are compared
SPARE_BITS = 3  # that a channel's weights may lose to keep the bound


def _sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def _hard_sigmoid(x: Decimal) -> Decimal:
    return min(max(x + 3, Decimal(0)), Decimal(6)) / 6


TABLES: dict[str, Callable[[Decimal], Decimal]] = {
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "hardswish": lambda x: x * _hard_sigmoid(x),
    "hardsigmoid": _hard_sigmoid,
}


def table_of(activation: str, exponent_in: int, exponent_out: int) -> np.ndarray:
    """Return a function of the 256 signed bytes in units of ``2 ** -exponent_out``, as int64.

    In decimal arithmetic, whose exponential is correctly rounded: the same everywhere.
    """
    function = TABLES[activation]
    with decimal.localcontext(prec=40, rounding=decimal.ROUND_HALF_EVEN):
        inputs = [Decimal(math.ldexp(q, -exponent_in)) for q in range(-128, 128)]
        scale = Decimal(2) ** exponent_out
        return np.array([int((function(x) * scale).to_integral_value()) for x in inputs])


def finest_exponent(largest: float) -> int:
    """Return the largest exponent at which a value does not exceed 127 units."""
    mantissa, power = math.frexp(largest or 1.0)  # largest = mantissa * 2 ** power
    return 7 - power - (mantissa > 127 / 128)


def choose_exponent(real: Tensor, low: int) -> int:
    """Choose the power of two at which rounding and clipping to a byte err least.

    Parameters
    ----------
    real : Tensor of float32, shape (n, ...)
    low : int
        Smallest whole number of the result.
    """
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
    conv: Conv,
    units_in: np.ndarray,
    units_out: np.ndarray,
    largest: int,
    mean_in: np.ndarray,
) -> Conv:
    """Write weights as whole numbers times a power of two a channel, within the bound.

    Parameters
    ----------
    conv : Conv
        Of a traced network.
    units_in, units_out : array of float64, shape (in,) and (out,)
        What a whole number of the input and of the result stands for.
    largest : int
        Largest absolute whole number of the input.
    mean_in : array of float64, shape (in,)
        Mean whole number of the input; what rounded weights add to it goes off the bias.

    Raises
    ------
    ValueError
        When a channel would have to lose more than `SPARE_BITS` bits.
    """
    out = len(conv.bias)

    def by_group(values: np.ndarray) -> np.ndarray:  # (in,) to (out, in / groups, 1, 1)
        return values.reshape(conv.groups, -1, 1, 1).repeat(out // conv.groups, 0)

    weight = conv.real_weight()
    weight *= by_group(units_in)
    weight /= units_out[:, None, None, None]
    bias = conv.bias / units_out
    # A bias far beyond its weights sets the unit in their place.
    sizes = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), np.ldexp(np.abs(bias), -16))
    # Beyond 2 ** -120 float32 has no units left; such a channel is as good as zero.
    finest = np.array([min(finest_exponent(size), 120) for size in sizes])
    shift = finest.copy()
    while (finest - shift).max() <= SPARE_BITS:
        # Powers of two: products are exact.
        scale, unit = (np.ldexp(1.0, each)[:, None, None, None] for each in (shift, -shift))
        whole = weight * scale
        np.rint(whole, out=whole)
        error = whole * unit
        error -= weight
        error *= by_group(mean_in * 2.0**24)
        # Whole numbers: their sum is the same in any order.
        drift = np.rint(error, out=error).astype(np.int64).sum(axis=(1, 2, 3))
        units = np.rint(np.ldexp(bias - np.ldexp(drift.astype(float), -24), shift))
        over = np.abs(whole).sum(axis=(1, 2, 3)) * largest + np.abs(units) >= LIMIT
        if not over.any():
            return replace(
                conv,
                weight=whole.astype(np.int8),
                bias=units.astype(np.int32),
                shift=shift.astype(np.int16),
                gain=None,
            )
        shift -= over
    raise ValueError(
        f"backbone.arithmetic: sums of layer {conv.name}, channel {int(np.argmin(shift - finest))},"
        f" reach 2^24 even with {8 - SPARE_BITS}-bit weights; set backbone.arithmetic: float32"
    )

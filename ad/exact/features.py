"""Patch features as whole numbers of one byte, from the maps of a network of whole numbers.

Sums are of whole numbers in float64, exact in any order; what is not a sum is one correctly rounded
operation.  So features are the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ad.exact.network import Runner
from ad.exact.products import LARGEST
from ad.exact.quantize import choose_exponent, to_integer
from ad.exact.resizing import bilinear_weights
from ad.params import Patch


def bins(length: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return first and last-plus-one entries of adaptive average pooling's bins, int64 (dim,)."""
    number = torch.arange(dim)
    return number * length // dim, ((number + 1) * length + dim - 1) // dim


def _bin_sums(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Sum the last axis in bins, one entry after the other; return float64 sums and counts."""
    length = values.shape[-1]
    starts, ends = (each.to(values.device) for each in bins(length, dim))
    total = values[..., starts]
    for step in range(1, int((ends - starts).max())):
        inside = starts + step < ends
        total = total + values[..., (starts + step).clamp(max=length - 1)] * inside
    return total, ends - starts


def _neighbourhood_sums(maps: Tensor, patch: Patch) -> tuple[Tensor, Tensor]:
    """Sum what adaptive average pooling of flattened neighbourhoods averages.

    Return whole numbers in float64, shape (n, dim, h, w), and how many each sums, (dim,).
    """
    n, channels, height, width = maps.shape
    dim, size = patch.pretrain_dim or channels, patch.patch_size
    values = maps.float()  # sums over a neighbourhood stay below 2 ** 24
    if channels % dim == 0:  # whole channels fall into each bin
        sums = F.avg_pool2d(values, size, stride=1, padding=size // 2, divisor_override=1)
        sums = sums.double().reshape(n, dim, channels // dim, height, width).sum(dim=2)
        return sums, torch.full((dim,), size**2 * channels // dim, device=maps.device)
    unfolded = F.unfold(values, size, padding=size // 2).double().transpose(1, 2)
    sums, counts = _bin_sums(unfolded, dim)
    return sums.transpose(1, 2).reshape(n, dim, height, width), counts


def join_maps(maps: Sequence[Tensor], exponents: Sequence[int], patch: Patch) -> Tensor:
    """Join maps of whole numbers and bring neighbourhoods to one feature a position.

    Parameters
    ----------
    maps : sequence of Tensor of int8, each (n, channels, h, w)
        Shallow before deep; the first has the finest grid.
    exponents : sequence of int
        A whole number q of a map stands for ``q * 2 ** -exponent``.

    Returns
    -------
    Tensor of float64, shape (n, h, w, dim)
        ``patch_size ** 2`` times the feature: a sum over a neighbourhood, which is a whole number
        of a power of two where every bin holds a power of two of neighbourhoods.
    """
    size = maps[0].shape[2:]
    layers = []
    for values, exponent in zip(maps, exponents, strict=True):
        sums, counts = _neighbourhood_sums(values, patch)
        totals = 1
        if sums.shape[2:] != size:
            for side in size:  # rows, then columns
                weights, total = bilinear_weights(sums.shape[2], side)
                matrix = torch.from_numpy(weights).to(sums.device, torch.float64)
                sums, totals = (matrix @ sums).transpose(2, 3), totals * total
        # Elementwise, so rounded correctly, the same everywhere; exact for a power of two.
        unit = counts.double() / patch.patch_size**2 * totals * 2.0**exponent
        layers.append(sums.permute(0, 2, 3, 1) / unit)
    joined = torch.cat(layers, dim=-1)
    if patch.target_dim is None or patch.target_dim == joined.shape[-1]:
        return joined
    sums, counts = _bin_sums(joined, patch.target_dim)
    return sums / counts


@dataclass(frozen=True)
class WholeForm:
    """A network of whole numbers and the unit of the features made of its maps."""

    runner: Runner
    pooling: Patch  # how maps become features
    exponent: int  # see `unit`

    @property
    def unit(self) -> float:
        """Return what a feature's whole number 1 stands for."""
        return 2.0**-self.exponent / self.pooling.patch_size**2

    @property
    def signed(self) -> bool:
        """Tell features of int8 (-127..127) from those of uint8 (0..127): whether a layer is."""
        ranges = self.runner.network.ranges()
        return any(ranges[output.tensor][0] < 0 for output in self.runner.network.outputs)

    @property
    def exponents(self) -> list[int]:
        """Return those of the layers' maps."""
        return [output.exponent for output in self.runner.network.outputs]

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        """Turn the network's maps into features (n, h, w, dim) of one byte."""
        values = join_maps(maps, self.exponents, self.pooling)
        return to_bytes(values, self.exponent, signed=self.signed)


def to_bytes(values: Tensor, exponent: int, *, signed: bool) -> Tensor:
    """Round `join_maps` to whole numbers of one byte, halves to even."""
    whole = (values * 2.0**exponent).round_().clamp_(-LARGEST if signed else 0, LARGEST)
    return whole.to(torch.int8 if signed else torch.uint8)


def make_whole(
    model: nn.Module,
    layers: Sequence[str],
    images: np.ndarray,
    patch: Patch,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: str = "cpu",
) -> WholeForm:
    """Make a network's whole-number form; choose every scale on normal images.

    See `ad.exact.quantize.to_integer`; the features' exponent, too, is chosen on these images: the
    one at which `to_bytes` errs least.
    """
    network, engines, maps = to_integer(model, layers, images, mean=mean, std=std)
    runner = Runner(network, device=device, ready=engines if device == "cpu" else None)
    whole = WholeForm(runner, patch, 0)
    values = torch.cat(
        [  # one image at a time, as float64 takes much memory
            join_maps([each[number : number + 1] for each in maps], whole.exponents, patch)
            for number in range(len(images))
        ]
    )
    return replace(whole, exponent=choose_exponent(values, -LARGEST if whole.signed else 0))

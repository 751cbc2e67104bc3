"""Locally aware patch features (Roth et al., 2022, section 3.1), in float32: the method to read.

By default `ad.exact.features.join_maps` computes the same in whole numbers.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ad.params import Patch


def feature_dim(patch: Patch, channels: Sequence[int]) -> int:
    """Return the dimension of a patch feature from layers of so many channels."""
    if patch.target_dim is not None:
        return patch.target_dim
    return sum(patch.pretrain_dim or each for each in channels)


def pool_neighbourhoods(maps: Tensor, *, size: int, dim: int) -> Tensor:
    """Describe each position by its ``size`` x ``size`` neighbourhood, pooled to ``dim`` values.

    The neighbourhood is flattened channel by channel and brought to ``dim`` by adaptive average
    pooling, as the ``MeanMapper`` of the authors' implementation does; positions outside the map
    count as zeros.

    Parameters
    ----------
    maps : Tensor, shape (n, channels, h, w), float32

    Returns
    -------
    Tensor, shape (n, dim, h, w), float32
    """
    n, channels, height, width = maps.shape
    if channels % dim == 0:
        # Whole channels fall into each bin: a box filter, then a mean over channels.
        means = F.avg_pool2d(maps, size, stride=1, padding=size // 2, count_include_pad=True)
        return means.reshape(n, dim, channels // dim, height, width).mean(dim=2)
    patches = F.unfold(maps, size, padding=size // 2)  # (n, channels * size**2, h * w)
    flat = patches.transpose(1, 2).reshape(n * height * width, 1, -1)
    pooled = F.adaptive_avg_pool1d(flat, dim)  # (n * h * w, 1, dim)
    return pooled.reshape(n, height, width, dim).permute(0, 3, 1, 2)


def patch_features(maps: Sequence[Tensor], patch: Patch) -> Tensor:
    """Join the maps of several layers into one feature a patch (Roth et al., eq. 1 to 3).

    Each layer is pooled over neighbourhoods to ``pretrain_dim`` and resized (bilinear) to the
    finest grid; the layers, one behind the other, are pooled to ``target_dim``.  Pooling
    comes before resizing here: both are linear, on different axes, so the result is the authors'
    to rounding, and the coarse grid is smaller.

    Parameters
    ----------
    maps : sequence of Tensor, each (n, channels, h, w), float32
        Shallow before deep; the first has the finest grid.

    Returns
    -------
    Tensor, shape (n, h, w, dim), float32
        ``dim`` is `feature_dim` of the layers' channels.
    """
    n, _, height, width = maps[0].shape
    layers = []
    for values in maps:
        dim = patch.pretrain_dim or values.shape[1]
        pooled = pool_neighbourhoods(values, size=patch.patch_size, dim=dim)
        if pooled.shape[-2:] != (height, width):
            pooled = F.interpolate(
                pooled, size=(height, width), mode="bilinear", align_corners=False
            )
        layers.append(pooled.permute(0, 2, 3, 1))
    joined = torch.cat(layers, dim=-1) if len(layers) > 1 else layers[0]
    dim = feature_dim(patch, [values.shape[1] for values in maps])
    if joined.shape[-1] == dim:
        return joined.contiguous()
    flat = joined.reshape(n * height * width, 1, -1)
    return F.adaptive_avg_pool1d(flat, dim).reshape(n, height, width, dim)

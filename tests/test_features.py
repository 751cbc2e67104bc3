"""Patch features equal the authors' steps."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import draw_normal
from small_data import network as load

from ad.features import feature_dim, patch_features
from ad.params import Patch


def reference_patch_features(maps, *, patch_size, pretrain_dim, target_dim):
    """Follow amazon-science/patchcore-inspection step by step, in float64, one patch at a time.

    Unfold each map; resize each (channel, row, column) of the deeper ones to the first grid; pool
    the flattened neighbourhood of a layer; stack layers; pool again.
    """
    padding = (patch_size - 1) // 2
    height, width = maps[0].shape[-2:]
    layers = []
    for values in maps:
        values = values.double()
        n, channels, h, w = values.shape
        unfolded = F.unfold(values, patch_size, padding=padding)
        grid = unfolded.reshape(n, channels * patch_size**2, h, w)
        if (h, w) != (height, width):
            grid = F.interpolate(grid, (height, width), mode="bilinear", align_corners=False)
        flat = grid.permute(0, 2, 3, 1).reshape(n * height * width, 1, -1)
        layers.append(F.adaptive_avg_pool1d(flat, pretrain_dim)[:, 0])
    stacked = torch.stack(layers, dim=1)  # (patches, layers, pretrain_dim)
    joined = F.adaptive_avg_pool1d(stacked.reshape(len(stacked), 1, -1), target_dim)[:, 0]
    return joined.reshape(-1, height, width, target_dim)


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw seeded maps."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("channels", "sizes", "patch_size", "pretrain_dim", "target_dim"),
    [
        ((16,), ((14, 14),), 3, 16, 16),  # the team's case: dimensions as the channels
        ((16,), ((14, 10),), 3, 8, 8),  # whole channels in each bin
        ((12, 24), ((12, 16), (6, 8)), 3, 32, 40),  # bins cut neighbourhoods; two oblong layers
        ((12, 24), ((12, 12), (6, 6)), 3, 24, 24),
        ((8, 10, 14), ((9, 11), (5, 6), (3, 3)), 5, 33, 17),  # odd grids, wider patches
        ((4, 6), ((8, 8), (4, 4)), 1, 16, 64),  # bins smaller than a value
    ],
)
def test_equals_the_public_implementation(channels, sizes, patch_size, pretrain_dim, target_dim):
    maps = [
        seeded(2, count, *size, seed=number)
        for number, (count, size) in enumerate(zip(channels, sizes, strict=True))
    ]
    dims = {"patch_size": patch_size, "pretrain_dim": pretrain_dim, "target_dim": target_dim}
    expected, found = reference_patch_features(maps, **dims), patch_features(maps, Patch(**dims))
    assert found.dtype == torch.float32
    assert feature_dim(Patch(**dims), channels) == found.shape[-1]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_equals_it_on_a_network_and_images():
    network, rng = load("resnet18"), np.random.default_rng(0)
    batch = np.stack([draw_normal(rng, 96) for _ in range(2)]).astype(np.float32) / 64 - 2
    with torch.inference_mode():
        maps = network(torch.from_numpy(batch).permute(0, 3, 1, 2))
        found = patch_features(maps, Patch(pretrain_dim=1024, target_dim=1024))
    expected = reference_patch_features(maps, patch_size=3, pretrain_dim=1024, target_dim=1024)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6 * scale)


def test_without_dimensions_layers_are_joined_as_they_are():
    maps = [seeded(2, 6, 8, 12), seeded(2, 10, 4, 6, seed=1)]
    found = patch_features(maps, Patch())
    fine, coarse = (F.avg_pool2d(m.double(), 3, 1, 1) for m in maps)
    coarse = F.interpolate(coarse, (8, 12), mode="bilinear", align_corners=False)
    expected = torch.cat([fine, coarse], dim=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_zero_padding_is_counted():
    ones = torch.ones(1, 4, 5, 5)
    corner = patch_features([ones], Patch(pretrain_dim=4, target_dim=4))[0, 0, 0]
    torch.testing.assert_close(corner, torch.full((4,), 4 / 9))

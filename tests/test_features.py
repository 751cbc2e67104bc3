"""Patch features equal the authors' steps; a pass does not depend on threads or batches."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from small_data import extractor as make
from small_data import network as load

from ad.backbone import Backbone
from ad.extraction import FeatureExtractor, extract_features, features_of, plan_extraction
from ad.features import patch_features
from ad.images import InputRule, network_input, read_rgb
from ad.params import Patch, Runtime


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
        ((16,), (14,), 3, 16, 16),  # the team's case: dimensions as the channels
        ((16,), (14,), 3, 8, 8),  # whole channels in each bin
        ((12, 24), (12, 6), 3, 32, 40),  # bins cut neighbourhoods; two layers
        ((12, 24), (12, 6), 3, 24, 24),
        ((8, 10, 14), (9, 5, 3), 5, 33, 17),  # odd grids, three layers, wider patches
        ((4, 6), (8, 4), 1, 16, 64),  # bins smaller than a value
    ],
)
def test_equals_the_public_implementation(channels, sizes, patch_size, pretrain_dim, target_dim):
    maps = [
        seeded(2, c, s, s, seed=number)
        for number, (c, s) in enumerate(zip(channels, sizes, strict=True))
    ]
    expected = reference_patch_features(
        maps, patch_size=patch_size, pretrain_dim=pretrain_dim, target_dim=target_dim
    )
    found = patch_features(
        maps, Patch(size=patch_size, pretrain_dim=pretrain_dim, target_dim=target_dim)
    )
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_equals_it_on_a_network_and_images(image_paths):
    network = load("resnet18")
    batch = torch.from_numpy(np.stack([network_input(p, InputRule(96, None)) for p in image_paths]))
    with torch.inference_mode():
        maps = network(batch)
        found = patch_features(maps, Patch(size=3, pretrain_dim=1024, target_dim=1024))
    expected = reference_patch_features(maps, patch_size=3, pretrain_dim=1024, target_dim=1024)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6 * scale)


def test_without_dimensions_layers_are_joined_as_they_are():
    maps = [seeded(2, 6, 8, 8), seeded(2, 10, 4, 4, seed=1)]
    found = patch_features(maps, Patch(size=3))
    fine, coarse = (F.avg_pool2d(m.double(), 3, 1, 1) for m in maps)
    coarse = F.interpolate(coarse, (8, 8), mode="bilinear", align_corners=False)
    expected = torch.cat([fine, coarse], dim=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_zero_padding_is_counted():
    ones = torch.ones(1, 4, 5, 5)
    corner = patch_features([ones], Patch(size=3, pretrain_dim=4, target_dim=4))[0, 0, 0]
    torch.testing.assert_close(corner, torch.full((4,), 4 / 9))


@pytest.fixture
def image_paths(tmp_path: Path) -> list[Path]:
    """Write seven small noise images."""
    generator = np.random.default_rng(5)
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return paths


SETTINGS = Patch(size=3, pretrain_dim=32, target_dim=32)
RULE = InputRule(64, None)


def extract(
    extractor: FeatureExtractor, pictures: list, output: Path, batch_size: int = 3
) -> np.ndarray:
    """Extract small features."""
    shape = extract_features(extractor, pictures, output, Runtime(), batch_size)
    result = np.load(output)
    assert result.shape == shape
    return result


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Give a small random network."""
    return load()


@pytest.fixture(params=["integer", "float32"])
def extractor(backbone, image_paths, request) -> FeatureExtractor:
    """Give its features in either arithmetic."""
    return make(image_paths, SETTINGS, size=64, arithmetic=request.param, backbone=backbone)


def test_threads_do_not_change_a_bit(extractor, image_paths, tmp_path):
    torch.set_num_threads(1)
    one = extract(extractor, image_paths, tmp_path / "one.npy")
    torch.set_num_threads(3)
    two = extract(extractor, image_paths, tmp_path / "two.npy")
    assert one.tobytes() == two.tobytes()


def test_an_image_does_not_depend_on_its_neighbours(extractor, image_paths, tmp_path):
    forward = extract(extractor, image_paths, tmp_path / "forward.npy")
    backward = extract(extractor, image_paths[::-1], tmp_path / "backward.npy")
    assert np.array_equal(forward, backward[::-1])


def test_batch_size_changes_rounding_at_most_and_no_whole_number(extractor, image_paths, tmp_path):
    small = extract(extractor, image_paths, tmp_path / "small.npy", batch_size=1)
    large = extract(extractor, image_paths, tmp_path / "large.npy", batch_size=4)
    if extractor.whole:
        np.testing.assert_array_equal(small, large)
    np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-5 * np.abs(large).max())


def test_rows_belong_to_their_paths(extractor, image_paths, tmp_path):
    together = extract(extractor, image_paths, tmp_path / "together.npy")
    alone = extract(extractor, image_paths[4:5], tmp_path / "alone.npy")
    assert np.array_equal(together[4], alone[0])


def test_nothing_half_written_stays(extractor, image_paths, tmp_path):
    image_paths[5].write_bytes(b"no image")
    output = tmp_path / "broken.npy"
    with pytest.raises(ValueError, match=r"5\.png: cannot be decoded"):
        extract(extractor, image_paths, output)
    assert not output.exists()
    assert not [p.name for p in sorted(tmp_path.iterdir()) if p.suffix == ".part"]


def test_pictures_in_memory_are_those_of_the_files(extractor, image_paths, tmp_path):
    on_disk = extract(extractor, image_paths, tmp_path / "disk.npy")
    pixels = [extractor.rule.pixels(read_rgb(path)) for path in image_paths]
    assert pixels[0].shape == (64, 64, 3) and pixels[0].dtype == np.uint8
    np.testing.assert_array_equal(features_of(extractor, pixels, Runtime()), on_disk)


def test_too_small_a_budget_says_what_would_do(backbone):
    torch.set_num_threads(2)
    rule = InputRule(64, None)
    with pytest.raises(
        MemoryError, match=r"runtime\.memory_gb=0\.1 is too small: an image of size 64 needs"
    ) as caught:
        plan_extraction(backbone, SETTINGS, rule, Runtime(memory_gb=0.1), batch_size=8)
    needed = float(str(caught.value).partition("needs ")[2].partition(";")[0])
    plan = plan_extraction(backbone, SETTINGS, rule, Runtime(memory_gb=needed + 0.01), batch_size=8)
    assert plan.threads * plan.chunk * plan.bytes_per_image + plan.fixed_bytes <= 1e9 * needed + 1e7


def test_more_cores_than_fit_the_memory_stop_nothing(backbone, image_paths, tmp_path, monkeypatch):
    extractor = make(image_paths, SETTINGS, size=64, backbone=backbone)
    runtime = Runtime(memory_gb=0.9)
    torch.set_num_threads(2)
    extract_features(extractor, image_paths, tmp_path / "two.npy", runtime)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    plan = plan_extraction(backbone, SETTINGS, extractor.rule, runtime, batch_size=8)
    assert 1 < plan.threads < 10_000
    assert plan.threads * plan.chunk * plan.bytes_per_image + plan.fixed_bytes <= 0.9e9
    extract_features(extractor, image_paths, tmp_path / "many.npy", runtime)
    assert (tmp_path / "many.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()


def test_other_architectures_give_maps():
    assert timm.is_model("efficientnet_b0")
    network = load("efficientnet_b0", layers=["blocks.2", "blocks.4"])
    with torch.inference_mode():
        maps = network(torch.zeros(1, 3, 64, 64))
    assert [tuple(m.shape) for m in maps] == [
        (1, layer.channels, 64 // layer.reduction, 64 // layer.reduction)
        for layer in network.layers
    ]

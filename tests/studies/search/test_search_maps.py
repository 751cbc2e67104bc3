"""The cache gives what extraction gives, and sends each image through the network once a size."""

from pathlib import Path

import numpy as np
import pytest

from ad.backbone import Backbone, load_backbone
from ad.features import features_of
from ad.params import BackboneSettings, Image, Patch, Runtime
from studies.search.maps import MapCache


def network(layers: list) -> Backbone:
    return load_backbone(BackboneSettings(name="resnet10t", weights="random", layers=layers))


def cache_of(root: Path, folder: Path, *, resize: int | None, dims: tuple) -> MapCache:
    backbone = network(["layer2", "layer3"])
    rule = backbone.input_rule(Image(size=64, resize=resize))
    patch = Patch(size=3, pretrain_dim=dims[0], target_dim=dims[1])
    paths = sorted(root.rglob("train/good/*.png"))
    return MapCache(backbone, paths, folder, rule, patch, progress=False)


@pytest.mark.parametrize(
    ("size", "layers", "patch_size", "resize", "dims"),
    [
        (64, ["layer2", "layer3"], 3, None, (None, None)),
        (96, ["layer3"], 1, None, (None, None)),
        (32, ["layer2"], 5, 80, (None, None)),
        (64, ["layer3", "layer2"], 3, 72, (50, 60)),
    ],
)
def test_features_are_those_of_extraction(
    size: int,
    layers: list,
    patch_size: int,
    resize: int | None,
    dims: tuple,
    small_mvtec: Path,
    tmp_path: Path,
):
    cache = cache_of(small_mvtec, tmp_path, resize=resize, dims=dims)
    rows = np.array([3, 0, 2])
    found = cache.features(rows, size=size, layers=layers, patch_size=patch_size)
    backbone = network(layers)
    rule = backbone.input_rule(
        Image(size=size, resize=None if resize is None else round(resize * size / 64))
    )
    patch = Patch(size=patch_size, pretrain_dim=dims[0], target_dim=dims[1])
    paths = [cache.paths[row] for row in rows]
    expected = features_of(backbone, paths, patch, rule, Runtime(threads=1))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_each_image_passes_the_network_once_a_size(small_mvtec: Path, tmp_path: Path):
    cache = cache_of(small_mvtec, tmp_path, resize=None, dims=(None, None))
    seen = []
    cache.backbone.model.conv1.register_forward_pre_hook(
        lambda _module, inputs: seen.append(tuple(inputs[0].shape))
    )
    for patch_size in (1, 3, 1):
        for layers in (["layer2"], ["layer2", "layer3"]):
            cache.features(np.arange(2), size=64, layers=layers, patch_size=patch_size)
    assert [shape for shape in seen if shape[0] > 1] == [(4, 3, 64, 64)]
    cache.features(np.arange(1), size=32, layers=["layer3"], patch_size=1)
    assert [shape[-1] for shape in seen if shape[0] > 1] == [64, 32]

"""The cache gives what extraction gives, and sends each image through the network once a size."""

from pathlib import Path

import numpy as np
import pytest

from ad.backbone import Backbone, load_backbone
from ad.extraction import features_of, make_extractor
from ad.params import BackboneSettings, Image, Patch, Runtime
from studies.search.maps import MapCache


def network(layers: list) -> Backbone:
    return load_backbone(BackboneSettings(name="resnet10t", weights="random", layers=layers))


def cache_of(
    root: Path, folder: Path, *, resize: int | None, dims: tuple, arithmetic: str
) -> MapCache:
    backbone, image = network(["layer2", "layer3"]), Image(size=64, resize=resize)
    patch = Patch(size=3, pretrain_dim=dims[0], target_dim=dims[1])
    paths = sorted(root.rglob("train/good/*.png"))
    how = {"n_normals": len(paths), "arithmetic": arithmetic}
    return MapCache(backbone, paths, folder, image, patch, **how)


@pytest.mark.parametrize(
    ("arithmetic", "size", "layers", "patch_size", "resize", "dims"),
    [
        ("float32", 64, ["layer2", "layer3"], 3, None, (None, None)),
        ("float32", 96, ["layer3"], 1, None, (None, None)),
        ("float32", 32, ["layer2"], 5, 80, (None, None)),
        ("float32", 64, ["layer3", "layer2"], 3, 72, (50, 60)),
        ("integer", 64, ["layer2", "layer3"], 3, None, (None, None)),
        ("integer", 96, ["layer3", "layer2"], 1, 72, (50, 60)),
    ],
)
def test_features_are_those_of_extraction(
    arithmetic: str,
    size: int,
    layers: list,
    patch_size: int,
    resize: int | None,
    dims: tuple,
    small_mvtec: Path,
    tmp_path: Path,
):
    cache = cache_of(small_mvtec, tmp_path, resize=resize, dims=dims, arithmetic=arithmetic)
    rows = np.array([3, 0, 2])
    found, unit = cache.features(rows, size=size, layers=layers, patch_size=patch_size)
    image = Image(size=size, resize=None if resize is None else round(resize * size / 64))
    patch = Patch(size=patch_size, pretrain_dim=dims[0], target_dim=dims[1])
    extractor = make_extractor(network(layers), image, patch, cache.paths, arithmetic=arithmetic)
    paths = [cache.paths[row] for row in rows]
    expected = features_of(extractor, paths, Runtime(threads=1))
    assert (found.dtype, unit) == (expected.dtype, extractor.unit)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_each_image_passes_the_network_once_a_size(small_mvtec: Path, tmp_path: Path):
    none = (None, None)
    cache = cache_of(small_mvtec, tmp_path, resize=None, dims=none, arithmetic="float32")
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

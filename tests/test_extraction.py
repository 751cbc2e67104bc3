"""A pass over the images depends on neither threads nor batches nor neighbours in the list."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import extractor as make
from small_data import network as load
from small_data import save_png

from ad.backbone import Backbone
from ad.extraction import (
    FeatureExtractor,
    extract_features,
    features_of,
    make_extractor,
    plan_extraction,
)
from ad.features import patch_features
from ad.params import Image, Patch, Runtime

SETTINGS = Patch(pretrain_dim=32, target_dim=32)


@pytest.fixture
def image_paths(tmp_path: Path) -> list[Path]:
    """Write seven small noise images."""
    generator = np.random.default_rng(5)
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path in paths:
        save_png(path, generator.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    return paths


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Give a small random network."""
    return load()


@pytest.fixture(params=["integer", "float32"])
def extractor(backbone, image_paths, request) -> FeatureExtractor:
    """Give its features in either arithmetic."""
    return make(image_paths, SETTINGS, size=64, arithmetic=request.param, backbone=backbone)


def extract(extractor, pictures: list, output: Path, batch_size: int = 3) -> np.ndarray:
    """Extract small features."""
    shape = extract_features(extractor, pictures, output, Runtime(), batch_size)
    result = np.load(output)
    assert result.shape == shape == (len(pictures), *extractor.shape)
    return result


def test_threads_do_not_change_a_bit(extractor, image_paths, tmp_path):
    torch.set_num_threads(1)
    one = extract(extractor, image_paths, tmp_path / "one.npy")
    torch.set_num_threads(3)
    assert extract(extractor, image_paths, tmp_path / "three.npy").tobytes() == one.tobytes()


def test_rows_belong_to_their_paths_whatever_their_neighbours(extractor, image_paths, tmp_path):
    forward = extract(extractor, image_paths, tmp_path / "forward.npy")
    backward = extract(extractor, image_paths[::-1], tmp_path / "backward.npy")
    alone = extract(extractor, image_paths[4:5], tmp_path / "alone.npy")
    np.testing.assert_array_equal(forward, backward[::-1])
    np.testing.assert_array_equal(forward[4], alone[0])


def test_batch_size_changes_rounding_at_most_and_no_whole_number(extractor, image_paths, tmp_path):
    small = extract(extractor, image_paths, tmp_path / "small.npy", batch_size=1)
    large = extract(extractor, image_paths, tmp_path / "large.npy", batch_size=4)
    if extractor.whole:
        np.testing.assert_array_equal(small, large)
    np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-5 * np.abs(large).max())


def test_nothing_half_written_stays(extractor, image_paths, tmp_path):
    image_paths[5].write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"5\.png: cannot be decoded"):
        extract(extractor, image_paths, tmp_path / "broken.npy")
    assert {path.suffix for path in sorted(tmp_path.iterdir())} == {".png"}


def test_pictures_in_memory_are_those_of_the_files(extractor, image_paths, tmp_path):
    pixels = [extractor.rule.read(path) for path in image_paths]
    assert pixels[0].shape == (64, 64, 3) and pixels[0].dtype == np.uint8
    on_disk = extract(extractor, image_paths, tmp_path / "disk.npy")
    np.testing.assert_array_equal(features_of(extractor, pixels, Runtime()), on_disk)


@pytest.mark.parametrize("arithmetic", ["integer", "float32"])
def test_an_oblong_picture_is_what_its_maps_are(backbone, image_paths, arithmetic):
    image = Image(input_size=[64, 96])
    own = make_extractor(backbone, image, SETTINGS, image_paths, arithmetic=arithmetic)
    found = features_of(own, image_paths, Runtime())
    assert found.shape == (7, 8, 12, 32) and own.rule.shape == (64, 96)
    pixels = np.stack([own.rule.read(path) for path in image_paths])
    exponents = own.whole.exponents if own.whole else (0, 0)
    with torch.inference_mode():
        maps = [m.float() * 2.0**-e for m, e in zip(own.maps(pixels), exponents, strict=True)]
        expected = (patch_features(maps, SETTINGS) / own.unit).numpy()
    if own.whole:
        expected = np.rint(expected).clip(0, 127)
    assert np.abs(found - expected).max() <= (1 if own.whole else 1e-3)  # halves may fall apart
    assert np.mean(np.abs(found - expected) > 1e-3) < 0.01


def test_too_small_a_budget_says_what_would_do(extractor):
    torch.set_num_threads(2)
    with pytest.raises(
        MemoryError, match=r"runtime\.memory_gb=0\.1 is too small: an image of 64 x 64 pixels needs"
    ) as caught:
        plan_extraction(extractor, Runtime(memory_gb=0.1), 8)
    needed = float(str(caught.value).partition("needs ")[2].partition(";")[0])
    assert plan_extraction(extractor, Runtime(memory_gb=needed + 0.01), 8)[0] >= 1
    with pytest.raises(MemoryError):
        plan_extraction(extractor, Runtime(memory_gb=needed - 0.01), 8)


def test_more_cores_than_fit_the_memory_stop_nothing(extractor, image_paths, tmp_path, monkeypatch):
    two = extract(extractor, image_paths, tmp_path / "two.npy")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    assert 1 < plan_extraction(extractor, Runtime(memory_gb=1.0), 8)[0] < 100
    extract_features(extractor, image_paths, tmp_path / "many.npy", Runtime(memory_gb=1.0))
    np.testing.assert_allclose(np.load(tmp_path / "many.npy"), two, rtol=1e-4, atol=1e-4)


def test_scales_of_large_pictures_are_chosen_on_fewer(backbone, monkeypatch):
    sizes = []

    def note(_model, _layers, images, *_patch, **_how):
        sizes.append(images.shape)

    monkeypatch.setattr("ad.extraction.make_whole", note)
    for side in (64, 1024):
        pictures = [np.zeros((side, side, 3), dtype=np.uint8)] * 40
        make(pictures, SETTINGS, size=side, backbone=backbone)
    assert sizes == [(14, 3, 64, 64), (4, 3, 1024, 1024)]

"""Tiles give what the whole picture would, and a region is cut before all else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from small_data import draw_anomalous, draw_normal, network

from ad.extraction import features_of, make_extractor, plan_extraction
from ad.images import InputRule, read_mask
from ad.params import Image, Patch, Runtime
from ad.tiles import MARGIN, corners, cut, grid_of, join, side_of
from ad.sections import validate


@pytest.mark.parametrize(("size", "tiles"), [(128, 1), (128, 2), (160, 3), (256, 4)])
def test_tiles_cover_the_picture_and_their_kept_parts_make_it_again(size: int, tiles: int):
    side = side_of(size, tiles)
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    parts = list(cut(pixels, size, tiles))
    assert [part.shape for part in parts] == [(2, size, size, 3)] * tiles**2
    assert max(corners(size, tiles)) == (side - size, side - size)
    assert grid_of(size, size, tiles) == side  # a network of stride 1 that changes nothing
    np.testing.assert_array_equal(join(parts, size, tiles), pixels)
    for stride in (2, 8, 32):
        coarse = [part[:, ::stride, ::stride] for part in parts]
        np.testing.assert_array_equal(join(coarse, size, tiles), pixels[:, ::stride, ::stride])


def test_a_grid_that_margins_do_not_fall_on_is_refused():
    with pytest.raises(ValueError, match=r"image\.tiles=2: 17 positions in image\.size=132"):
        grid_of(17, 132, 2)


@pytest.mark.parametrize("arithmetic", ["integer", "float32"])
def test_tiled_features_are_those_of_the_whole_picture(arithmetic: str):
    """A shallow layer sees less than a margin far, so nothing of the cut may be left in it."""
    rng, size, tiles = np.random.default_rng(1), 128, 2
    side = side_of(size, tiles)
    pictures = [draw_normal(rng, side) for _ in range(3)]
    own = network(layers=["layer1"])
    how = Patch(size=3), pictures
    tiled = make_extractor(own, Image(size=size, tiles=tiles), *how, arithmetic=arithmetic)
    # The same network and scales over the whole picture in one pass.
    whole = replace(tiled, rule=replace(tiled.rule, size=side, tiles=1))
    found, expected = (features_of(each, pictures, Runtime()) for each in (tiled, whole))
    assert found.shape == expected.shape == (3, side // 4, side // 4, 64)
    if arithmetic == "integer":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_plan_counts_the_whole_picture():
    own = network(layers=["layer2"])
    plans = [
        plan_extraction(own, Patch(size=3), InputRule(128, None, tiles=n), Runtime(), batch_size=4)
        for n in (1, 3)
    ]
    assert plans[0].grid == (16, 16) and plans[1].grid == (side_of(128, 3) // 8,) * 2
    extra = 3 * side_of(128, 3) ** 2 + 8 * plans[1].grid[0] ** 2 * plans[1].feature_dim
    assert plans[1].bytes_per_image == plans[0].bytes_per_image + extra


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ([0.25, 0.0, 0.75, 0.5], (25, 0, 75, 30)),
        ([0.0, 0.0, 1.0, 1.0], (0, 0, 100, 60)),
        ([0.999, 0.999, 1.0, 1.0], (99, 59, 100, 60)),  # at least one pixel
    ],
)
def test_a_region_is_cut_by_shares_of_the_picture(region: list, box: tuple, tmp_path: Path):
    pixels = np.random.default_rng(2).integers(0, 256, (60, 100, 3)).astype(np.uint8)
    picture = Picture.fromarray(pixels)
    rule = InputRule(32, None, region=tuple(region))
    plain = InputRule(32, None)
    np.testing.assert_array_equal(rule.pixels(picture), plain.pixels(picture.crop(box)))
    mask, _ = draw_anomalous(np.random.default_rng(3), 64, "blob")
    Picture.fromarray(mask).save(tmp_path / "mask.png")
    Picture.fromarray(mask).crop((0, 0, 32, 64)).save(tmp_path / "half.png")
    half = InputRule(32, None, region=(0.0, 0.0, 0.5, 1.0))
    np.testing.assert_array_equal(
        read_mask(tmp_path / "mask.png", half), read_mask(tmp_path / "half.png", plain)
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tiles": 2, "size": 96}, f"at least {4 * MARGIN}"),
        ({"tiles": 2, "size": 200}, f"a multiple of {MARGIN}"),
        ({"tiles": 2, "size": 128, "resize": 128}, "2 x 2 tiles; it must be null or at least 192"),
        ({"region": [0.5, 0.0, 0.5, 1.0]}, "region=[0.5, 0.0, 0.5, 1.0]"),
        ({"region": [0.0, 0.0, 1.5, 1.0]}, "region=[0.0, 0.0, 1.5, 1.0]"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(wrong: dict, words: str):
    settings = {
        key: None if field.default is None else field.default
        for key, field in Image.model_fields.items()
    }
    with pytest.raises(ValueError) as caught:
        validate(settings | {"size": 224} | wrong, Image)
    assert words in str(caught.value) and "\n" not in str(caught.value)

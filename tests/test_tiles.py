"""Tiles give what the whole picture would, and a region is cut before all else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from small_data import draw_normal, network, save_png

from ad.extraction import features_of, make_extractor
from ad.images import InputRule, read_mask
from ad.params import Image, Patch, Runtime
from ad.tiles import corners, cut, grid_of, join, side_of


@pytest.mark.parametrize(
    ("size", "tiles"), [((128, 128), 1), ((128, 192), 2), ((160, 128), 3), ((256, 256), 4)]
)
def test_tiles_cover_the_picture_and_their_kept_parts_make_it_again(size: tuple, tiles: int):
    shape = InputRule(size, None, tiles=tiles).shape
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3)).astype(np.uint8)
    parts = list(cut(pixels, size, tiles))
    assert [part.shape for part in parts] == [(2, *size, 3)] * tiles**2
    assert max(corners(size, tiles)) == (shape[0] - size[0], shape[1] - size[1])
    # A network of stride 1 that changes nothing.
    assert tuple(grid_of(side, side, tiles) for side in size) == shape
    np.testing.assert_array_equal(join(parts, size, tiles), pixels)
    for stride in (2, 8, 32):
        coarse = [part[:, ::stride, ::stride] for part in parts]
        np.testing.assert_array_equal(join(coarse, size, tiles), pixels[:, ::stride, ::stride])


def test_a_grid_that_margins_do_not_fall_on_is_refused():
    with pytest.raises(ValueError, match=r"image\.tiles=2: 17 positions in 132 pixels"):
        grid_of(17, 132, 2)


@pytest.mark.parametrize("arithmetic", ["integer", "float32"])
def test_tiled_features_are_those_of_the_whole_picture(arithmetic: str):
    """A shallow layer sees less than a margin far, so nothing of the cut may be left in it."""
    rng, size, tiles = np.random.default_rng(1), (128, 192), 2
    shape = side_of(128, tiles), side_of(192, tiles)
    pictures = [draw_normal(rng, max(shape))[: shape[0], : shape[1]] for _ in range(3)]
    own = network(layers=["layer1"])
    how = Patch(), pictures
    tiled = make_extractor(
        own, Image(input_size=list(size), tiles=tiles), *how, arithmetic=arithmetic
    )
    # The same network and scales over the whole picture in one pass.
    cells = shape[0] // 4, shape[1] // 4
    whole = replace(tiled, rule=replace(tiled.rule, size=shape, tiles=1), cells=cells)
    found, expected = (features_of(each, pictures, Runtime()) for each in (tiled, whole))
    assert found.shape == expected.shape == (3, *cells, 64) == (3, *tiled.shape)
    if arithmetic == "integer":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ((0.25, 0.0, 0.75, 0.5), (25, 0, 75, 30)),
        ((0.0, 0.0, 1.0, 1.0), (0, 0, 100, 60)),
        ((0.999, 0.999, 1.0, 1.0), (99, 59, 100, 60)),  # at least one pixel
    ],
)
def test_a_region_is_cut_by_shares_of_the_picture(region: tuple, box: tuple, tmp_path: Path):
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (60, 100, 3), dtype=np.uint8)
    picture, plain = Picture.fromarray(pixels), InputRule((24, 32), None)
    rule = replace(plain, region=region)
    np.testing.assert_array_equal(rule.pixels(picture), plain.pixels(picture.crop(box)))
    mask = np.zeros((60, 100), dtype=bool)
    mask[10:40, 30:] = True
    save_png(tmp_path / "mask.png", mask)
    cropped = Picture.fromarray(mask).crop(box).resize((32, 24), Picture.Resampling.NEAREST)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", rule), np.asarray(cropped))

"""Squares keep their geometry; normals are split; every image stands in the list once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ad.dataset import of_split
from ad.images import read_rgb, resize_and_crop
from studies.search import images as study
from studies.shared.synthetic_anomalies import KINDS, paste
from tools.scan import scan


@pytest.mark.parametrize("resize", [None, 72])
@pytest.mark.parametrize("shape", [(90, 90), (120, 90), (90, 140)])
def test_squares_have_the_geometry_that_they_had(resize: int | None, shape: tuple):
    height, width = shape
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 200 / width, y * 200 / height, (x + y) * 0.8], axis=-1)
    image = Image.fromarray(smooth.astype(np.uint8))
    square = study.square_pixels(image, resize=resize)
    assert square.shape == (90, 90, 3)
    before = np.asarray(resize_and_crop(image, size=64, resize=resize)).astype(int)
    after = np.asarray(resize_and_crop(Image.fromarray(square), size=64, resize=resize))
    assert np.abs(before - after).max() <= 3
    if height == width:
        np.testing.assert_array_equal(before, after)


def test_every_third_of_the_drawn_is_held_out():
    fit, held_out = study.split_normals(100, 30, seed=1)
    assert len(fit) == 20 and len(held_out) == 10
    assert not set(fit) & set(held_out)
    assert (np.diff(fit) > 0).all() and (np.diff(held_out) > 0).all()
    again = study.split_normals(100, 30, seed=1)
    np.testing.assert_array_equal(again[0], fit)
    assert len(np.concatenate(study.split_normals(13, 96, seed=0))) == 13


def test_every_image_is_listed_once_and_pasted_ones_pair_with_the_held_out(
    small_mvtec: Path, tmp_path: Path
):
    records = scan(small_mvtec)
    found = study.list_images(records, small_mvtec, tmp_path, n_normals=4, resize=None, seed=0)
    rows = np.concatenate([found.fit, found.held_out, *found.pasted.values(), found.test])
    assert sorted(rows) == list(range(len(found.paths)))
    assert (len(found.fit), len(found.held_out), len(found.test)) == (3, 1, 4)
    assert list(found.pasted) == list(KINDS) and set(study.DECIDING) <= set(KINDS)
    train, test = of_split(records, "train"), of_split(records, "test")
    assert [found.paths[row] for row in found.test] == [small_mvtec / r.path for r in test]
    _, (number,) = study.split_normals(len(train), 4, seed=0)
    before = found.paths[found.held_out[0]]
    assert before == small_mvtec / train[number].path
    for kind, (row,) in found.pasted.items():
        expected, _ = paste(np.asarray(read_rgb(before)), kind, seed=0, number=int(number))
        np.testing.assert_array_equal(np.asarray(read_rgb(found.paths[row])), expected)
    assert "3 normals for the bank, 1 held out" in found.words()

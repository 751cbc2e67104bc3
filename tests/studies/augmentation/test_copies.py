"""Copies are made of the right images, and their features are the network's."""

import numpy as np
from PIL import Image as Picture
from small_data import extractor

from ad.extraction import features_of
from ad.params import Patch, Runtime
from studies.augmentation.changes import Limits, change
from studies.augmentation.copies import Copies


def test_features_are_those_of_the_changed_pixels(tmp_path):
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        Picture.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    tiny, runtime = extractor(paths, Patch(size=3), size=32), Runtime(threads=1)
    limits = Limits(5.0, 0.1, 0.1)
    copies = Copies(paths, limits, tiny, runtime)
    assert copies.pixels(1).shape == (32, 32, 3)
    expected = [change(copies.pixels(n), "rotation", limits, seed=7, number=n) for n in (2, 0)]
    np.testing.assert_array_equal(copies.image(2, "rotation", 7), expected[0])
    found = copies.features(np.array([2, 0]), "rotation", 7)
    np.testing.assert_array_equal(found, features_of(tiny, expected, runtime))

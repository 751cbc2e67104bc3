"""Each kind changes what its mask marks, and little else, the same way every time."""

import numpy as np
import pytest
from small_data import draw_normal

from studies.shared.synthetic_anomalies import KINDS, paste


def picture(size: int = 96, seed: int = 0) -> np.ndarray:
    return draw_normal(np.random.default_rng(seed), size)


@pytest.mark.parametrize("kind", KINDS)
def test_changes_only_around_the_mask(kind):
    for number in range(20):
        image = picture(seed=number)
        changed, mask = paste(image, kind, seed=0, number=number)
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
        assert 0 < mask.sum() < 0.25 * mask.size
        padded = np.pad(mask, 1)
        size = len(mask)
        near = np.zeros_like(mask)
        for dy in range(3):
            for dx in range(3):
                near |= padded[dy : dy + size, dx : dx + size]
        np.testing.assert_array_equal(changed[~near], image[~near])
        assert (changed[mask] != image[mask]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_number_decide(kind):
    image = picture()
    first = paste(image, kind, seed=3, number=5)
    np.testing.assert_array_equal(paste(image, kind, seed=3, number=5)[0], first[0])
    assert not np.array_equal(paste(image, kind, seed=3, number=6)[0], first[0])
    assert not np.array_equal(paste(image, kind, seed=4, number=5)[0], first[0])


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_its_input_alone_and_takes_flat_images(kind):
    image = picture()
    before = image.copy()
    paste(image, kind, seed=0, number=0)
    np.testing.assert_array_equal(image, before)
    flat = np.full((32, 32, 3), 128, np.uint8)
    assert paste(flat, kind, seed=0, number=0)[1].any()


def test_bad_arguments(one_line):
    with pytest.raises(ValueError) as caught:
        paste(picture(), "scratch", seed=0, number=0)
    one_line(caught, "kind='scratch'", "cut_paste")
    with pytest.raises(ValueError) as caught:
        paste(picture(16), "texture", seed=0, number=0)
    one_line(caught, "(16, 16, 3)")

"""Changes of images: exact where they are exact, within their limits elsewhere."""

import numpy as np
import pytest

from studies.augmentation.changes import CONTROL, KINDS, TOGETHER, Limits, change

LIMITS = Limits(rotation=5.0, illumination=0.15, crop=0.1)


def picture(seed: int = 0, height: int = 48, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", [*KINDS, TOGETHER, CONTROL])
def test_form_stays_and_nothing_is_changed_in_place(kind: str):
    image = picture()
    before = image.copy()
    changed = change(image, kind, LIMITS, seed=1, number=2)
    np.testing.assert_array_equal(image, before)
    assert changed.shape == image.shape and changed.dtype == np.uint8
    assert any((change(image, kind, LIMITS, seed=1, number=n) != image).any() for n in range(4))
    np.testing.assert_array_equal(changed, change(image, kind, LIMITS, seed=1, number=2))


@pytest.mark.parametrize("kind", ["rotation", "illumination", "crop", TOGETHER])
def test_each_image_gets_its_own_change(kind: str):
    image = picture()
    found = [change(image, kind, LIMITS, seed=s, number=n) for s, n in ((0, 0), (0, 1), (1, 0))]
    assert (found[0] != found[1]).any() and (found[0] != found[2]).any()


def test_the_control_is_the_mean_of_four_neighbours():
    image = picture()
    plain = image.astype(float)
    expected = (plain[1:, 1:] + plain[:-1, 1:] + plain[1:, :-1] + plain[:-1, :-1]) / 4
    for seed in (0, 1):  # nothing in it is drawn
        found = change(image, CONTROL, LIMITS, seed=seed, number=seed).astype(float)
        assert np.abs(found[1:, 1:] - expected).max() <= 1.0  # rounded


@pytest.mark.parametrize(("kind", "axis"), [("flip_vertical", 0), ("flip_horizontal", 1)])
def test_flips_are_exact_and_undo_themselves(kind: str, axis: int):
    image = picture()
    flipped = change(image, kind, LIMITS, seed=0, number=0)
    np.testing.assert_array_equal(flipped, np.flip(image, axis))
    np.testing.assert_array_equal(change(flipped, kind, LIMITS, seed=0, number=0), image)


def test_rotation_moves_a_point_by_at_most_its_angle():
    size, radius = 101, 40
    y, x = np.mgrid[:size, :size]
    dot = np.exp(-((y - 50) ** 2 + (x - 50 - radius) ** 2) / 8)[..., None] * 200
    image = np.repeat(dot, 3, axis=2).astype(np.uint8)
    angles = []
    for number in range(40):
        turned = change(image, "rotation", LIMITS, seed=0, number=number)[..., 0].astype(float)
        row, column = (y * turned).sum() / turned.sum(), (x * turned).sum() / turned.sum()
        assert np.hypot(row - 50, column - 50) == pytest.approx(radius, abs=0.3)
        angles.append(np.degrees(np.arctan2(50 - row, column - 50)))
    assert np.abs(angles).max() <= 5.05
    assert min(angles) < -3 and max(angles) > 3


def test_illumination_is_one_line_from_old_to_new_value():
    image = picture()
    for number in range(20):
        new = change(image, "illumination", LIMITS, seed=0, number=number).astype(float)
        inside = (new > 0) & (new < 255)
        slope, start = np.polyfit(image[inside].astype(float), new[inside], 1)
        assert (
            np.abs(new - (slope * image + start))[inside].max() <= 0.6
        )  # rounding, and the line's own error
        assert 0.849 <= slope <= 1.151
        middle = slope * image.mean() + start - image.mean()  # brightness alone moves the mean
        assert abs(middle) <= 0.15 * 255 + 0.5


def test_a_crop_keeps_at_least_its_share_of_a_ramp():
    size = 100
    ramp = np.tile(np.arange(size, dtype=np.uint8)[:, None, None], (1, size, 3))
    heights = []
    for number in range(30):
        cropped = change(ramp, "crop", LIMITS, seed=0, number=number).astype(int)
        assert (np.diff(cropped[:, 0, 0]) >= 0).all()
        heights.append(cropped[-1, 0, 0] - cropped[0, 0, 0] + 1)
    assert 90 <= min(heights) < 93 and max(heights) > 97


def test_no_change_within_no_limits():
    image = picture()
    none = Limits(0.0, 0.0, 0.0)
    for kind in ("rotation", "illumination", "crop"):
        np.testing.assert_array_equal(change(image, kind, none, seed=0, number=0), image)


@pytest.mark.parametrize("image", [picture()[..., 0], picture().astype(np.float32)])
def test_other_pixels_are_refused(image: np.ndarray, one_line):
    with pytest.raises(ValueError) as caught:
        change(image, "crop", LIMITS, seed=0, number=0)
    one_line(caught, str(image.shape), "uint8")


def test_an_unknown_kind_is_named(one_line):
    with pytest.raises(ValueError) as caught:
        change(picture(), "mirror", LIMITS, seed=0, number=0)
    one_line(caught, "mirror", "flip_horizontal", TOGETHER)

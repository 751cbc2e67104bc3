"""Each kind changes what its mask marks, and little else, the same way every time."""

import numpy as np
import pytest
from PIL import Image
from small_data import draw_normal

from studies.shared.synthetic_anomalies import (
    DECIDING,
    KINDS,
    RELATED,
    paste,
    save_pasted,
    shares_changed,
)


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


def board(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw bright grey leads on copper with dark holes; return the picture and where leads are."""
    generator = np.random.default_rng(seed)
    picture = (
        np.full((160, 160, 3), (190, 120, 90), np.float64)
        + generator.normal(0, 3, (160,) * 2)[..., None]
    )
    y, x = np.mgrid[:160, :160]
    for row in (20, 70, 120):
        for column in (10, 60, 110, 150):
            picture[np.hypot(y - row, x - column) < 7] = (30, 25, 20)
    picture[20:70, 40:120] = (35, 35, 38)
    leads = np.zeros((160, 160), bool)
    for column in generator.integers(45, 55) + np.array([0, 28, 56]):
        leads[70:120, column : column + 6] = True
    picture[leads] = (200, 200, 205)
    return np.clip(picture, 0, 255).astype(np.uint8), leads


@pytest.mark.parametrize("seed", range(25))
def test_every_lead_cut_erases_a_piece_of_a_lead(seed):
    picture, leads = board(seed)
    changed, mask = paste(picture, "lead_cut", seed=0, number=seed)
    assert (mask & leads).sum() > 0.3 * mask.sum()
    assert mask.sum() < 0.05 * mask.size
    inside = mask & leads
    # Copper has far less blue than a lead: what was erased looks like the board.
    before, after = (image[inside][:, 2].astype(float) for image in (picture, changed))
    assert (before - after).mean() > 40


def test_related_kinds_never_decide():
    assert set(DECIDING) | set(RELATED) == set(KINDS)
    assert not set(DECIDING) & set(RELATED)
    assert list(KINDS)[:3] == ["cut_paste", "texture", "lead_cut"]  # numbers in their seeds


def test_pasted_images_come_back_and_their_shares_are_said(tmp_path):
    pasted = {kind: [paste(picture(), kind, seed=0, number=n) for n in (2, 5)] for kind in KINDS}
    paths = save_pasted(tmp_path / "images", [2, 5], pasted)
    assert [path.name for path in paths[: len(KINDS)]] == [f"2_{kind}.png" for kind in KINDS]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[-1])), pasted["scar"][1][0])
    share = pasted["scar"][0][1].mean() / 2 + pasted["scar"][1][1].mean() / 2
    assert f"scar {share:.1%}" in shares_changed(pasted)


def test_bad_arguments(one_line):
    with pytest.raises(ValueError) as caught:
        paste(picture(), "blob", seed=0, number=0)
    one_line(caught, "kind='blob'", "cut_paste")
    with pytest.raises(ValueError) as caught:
        paste(picture(16), "texture", seed=0, number=0)
    one_line(caught, "(16, 16, 3)")

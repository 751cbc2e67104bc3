"""Synthetic anomalies pasted into normal images, for choices that may not look at real ones.

Every kind takes the pixels of a normal image and a generator and returns changed pixels and the
mask of the change.  Those of `DECIDING` are published ones, made without a look at the data set's
defects: choices go by them alone.  Those of `RELATED` imitate a defect of the embedded test images;
a choice by them would look at the answer, so they are only shown beside.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ad.files import atomic_path

Pasted = tuple[np.ndarray, np.ndarray]


def _blend(image: np.ndarray, other: np.ndarray, mask: np.ndarray, opacity: float) -> Pasted:
    """Put ``other`` over ``image`` inside the mask; the border is softened by a pixel."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0)[..., None] * opacity
    mixed = image * (1 - soft) + other * soft
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8), mask


def _move_piece(
    image: np.ndarray, height: int, width: int, generator: np.random.Generator
) -> Pasted:
    """Copy a rectangle of the image, turned by up to 45 degrees, to another place."""
    size = image.shape[0]
    y, x = generator.integers(0, size - height), generator.integers(0, size - width)
    row, column = generator.uniform(0.25 * size, 0.75 * size, 2)
    turn = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), generator.uniform(-45, 45), 1.0)
    turn[:, 2] += (column - x - width / 2, row - y - height / 2)
    source = np.zeros((size, size), np.uint8)
    source[y : y + height, x : x + width] = 1
    moved = cv2.warpAffine(image, turn, (size, size), flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(source, turn, (size, size), flags=cv2.INTER_NEAREST) > 0
    return _blend(image, moved, mask, 1.0)


def cut_paste(image: np.ndarray, generator: np.random.Generator) -> Pasted:
    """Copy a rectangle of the image, turned, to another place (CutPaste, Li et al., CVPR 2021).

    As the paper's, the rectangle has 2 % of the image at least and an aspect ratio of 0.3 to 3.3;
    it has 10 % at most here (smaller than there).  The turn is that of the scar variant.
    """
    size = image.shape[0]
    area, ratio = generator.uniform(0.02, 0.10) * size**2, np.exp(generator.uniform(-1.2, 1.2))
    height = int(np.clip(np.sqrt(area * ratio), 4, size // 2))
    width = int(np.clip(np.sqrt(area / ratio), 4, size // 2))
    return _move_piece(image, height, width, generator)


def scar(image: np.ndarray, generator: np.random.Generator) -> Pasted:
    """Copy a small, thin rectangle of the image, turned, to another place (the same paper's scar).

    As there, it is 2 to 16 pixels wide and 10 to 25 long in an image of 256.
    """
    unit = image.shape[0] / 256
    width, height = generator.uniform(2, 16), generator.uniform(10, 25)
    return _move_piece(image, max(2, round(height * unit)), max(2, round(width * unit)), generator)


def _smooth_noise(size: int, cells: int, generator: np.random.Generator) -> np.ndarray:
    """Noise that changes over ``size / cells`` pixels, 0 to 1 (Perlin noise in its cheap form)."""
    coarse = generator.random((cells + 1, cells + 1)).astype(np.float32)
    noise = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return (noise - noise.min()) / max(float(np.ptp(noise)), 1e-6)


def texture(image: np.ndarray, generator: np.random.Generator) -> Pasted:
    """Blend a foreign texture into blobs of noise (DRAEM, Zavrtanik et al., ICCV 2021).

    DRAEM takes textures from a photograph collection; here they are drawn (coloured noise at a
    random grain), so that no download is needed.  Opacity 0.2 to 0.9, our choice.
    """
    size = image.shape[0]
    cells = int(generator.integers(4, 24))
    pattern = np.stack([_smooth_noise(size, cells, generator) for _ in range(3)], axis=-1) * 255
    field = _smooth_noise(size, int(generator.integers(3, 7)), generator)
    row, column = generator.uniform(0.3 * size, 0.7 * size, 2)
    y, x = np.mgrid[:size, :size]
    near = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * (0.18 * size) ** 2))
    values = field * near
    mask = values > np.quantile(values, 1 - generator.uniform(0.01, 0.06))
    return _blend(image, pattern, mask, generator.uniform(0.2, 0.9))


def _thin_metal(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find thin, bright and colourless structures (leads, pins, wires).

    Returns
    -------
    strength : array of float32, shape (size, size)
        How far the darkest channel stands out of its surroundings (white top-hat).
    sure : array of bool, shape (size, size)
        Strong and long: at least a tenth of the image.
    """
    size = image.shape[0]
    darkest = cv2.GaussianBlur(np.ascontiguousarray(image.min(axis=2)), (3, 3), 0)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size // 11 | 1,) * 2)
    strength = cv2.morphologyEx(darkest, cv2.MORPH_TOPHAT, kernel).astype(np.float32)
    strong = strength > max(0.6 * float(np.quantile(strength, 0.998)), 1.0)
    _, numbers, boxes, _ = cv2.connectedComponentsWithStats(strong.astype(np.uint8))
    long = boxes[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1) >= size / 10
    return strength, strong & long[numbers]


def lead_cut(image: np.ndarray, generator: np.random.Generator) -> Pasted:
    """Erase a piece of a lead: of a thin, bright and colourless structure.

    The piece is filled from its border inwards (Telea's inpainting), as if it were not there.
    Where no structure is long enough, the strongest thin one is taken, or any place.
    """
    size = image.shape[0]
    strength, sure = _thin_metal(image)
    chance = np.where(sure, strength, 0) if sure.any() else np.square(strength)
    chance = chance.ravel().astype(np.float64)
    if chance.sum() == 0:
        chance[:] = 1.0
    row, column = divmod(int(generator.choice(size**2, p=chance / chance.sum())), size)
    y, x = np.mgrid[:size, :size]
    near = np.hypot(y - row, x - column) <= size * generator.uniform(0.05, 0.08)
    piece = near & (strength >= 0.4 * strength[row, column])
    wide = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size // 32 | 1,) * 2)
    mask = cv2.dilate(piece.astype(np.uint8), wide)
    filled = cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA)
    return _blend(image, filled, mask > 0, 1.0)


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], Pasted]] = {
    "cut_paste": cut_paste,
    "texture": texture,
    "lead_cut": lead_cut,
    "scar": scar,
}
RELATED = ("lead_cut",)  # drawn after a defect of the embedded test set: shown, never decides
DECIDING = tuple(kind for kind in KINDS if kind not in RELATED)


def paste(image: np.ndarray, kind: str, *, seed: int, number: int) -> Pasted:
    """Paste one synthetic anomaly.

    Parameters
    ----------
    image : array of uint8, shape (size, size, 3)
        A normal image, RGB; at least 32 pixels a side.
    kind : str
        One of `KINDS`.
    seed : int
        Seed of the set of anomalies.
    number : int
        The image's number; each gets its own anomaly whatever the order.

    Returns
    -------
    image : array of uint8, shape (size, size, 3)
    mask : array of bool, shape (size, size)

    Raises
    ------
    ValueError
        For an unknown kind, or an image that is not square RGB of 32 pixels or more.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}")
    square = image.ndim == 3 and image.shape[0] == image.shape[1] and image.shape[2] == 3
    if not square or image.shape[0] < 32 or image.dtype != np.uint8:
        raise ValueError(
            f"image has shape {image.shape} and type {image.dtype}; "
            f"expected (size, size, 3) of uint8 with size of at least 32"
        )
    generator = np.random.default_rng([seed, number, list(KINDS).index(kind)])
    return KINDS[kind](image, generator)


def save_pasted(
    folder: Path, numbers: Sequence[int], pasted: Mapping[str, Sequence[Pasted]]
) -> list[Path]:
    """Write pasted images as PNG, all kinds of the first image before the second; list the paths.

    Parameters
    ----------
    folder : path
    numbers : sequence of int
        Of the images; with the kind they name the files.
    pasted : mapping of str to sequence of (image, mask)
        By kind, in the order of ``numbers``.
    """
    paths = []
    for place, number in enumerate(numbers):
        for kind, images in pasted.items():
            paths.append(folder / f"{number}_{kind}.png")
            with atomic_path(paths[-1]) as partial:
                Image.fromarray(images[place][0]).save(partial, format="PNG")
    return paths


def shares_changed(pasted: Mapping[str, Sequence[Pasted]]) -> str:
    """Say how much of an image each kind changes, from the smallest to the largest share."""
    parts = []
    for kind, images in pasted.items():
        shares = np.array([mask.mean() for _, mask in images])
        parts.append(f"{kind} {shares.mean():.1%} (from {shares.min():.1%} to {shares.max():.1%})")
    return f"Share of the image that is changed, on average: {', '.join(parts)}."

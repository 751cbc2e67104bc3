"""Synthetic anomalies pasted into normal images, for choices that may not look at real ones.

Every kind takes the pixels of a normal image and a generator and returns changed pixels and the
mask of the change.  They stand for defects that nobody has seen yet, not for the data set's own.
"""

from collections.abc import Callable

import cv2
import numpy as np

Pasted = tuple[np.ndarray, np.ndarray]


def _blend(image: np.ndarray, other: np.ndarray, mask: np.ndarray, opacity: float) -> Pasted:
    """Put ``other`` over ``image`` inside the mask; the border is softened by a pixel."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0)[..., None] * opacity
    mixed = image * (1 - soft) + other * soft
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8), mask


def cut_paste(image: np.ndarray, generator: np.random.Generator) -> Pasted:
    """Copy a rectangle of the image, turned, to another place (CutPaste, Li et al., CVPR 2021).

    As the paper's, the rectangle has 2 % of the image at least and an aspect ratio of 0.3 to 3.3;
    it has 10 % at most here (smaller than there).  The turn is that of the scar variant.
    """
    size = image.shape[0]
    area, ratio = generator.uniform(0.02, 0.10) * size**2, np.exp(generator.uniform(-1.2, 1.2))
    height = int(np.clip(np.sqrt(area * ratio), 4, size // 2))
    width = int(np.clip(np.sqrt(area / ratio), 4, size // 2))
    y, x = generator.integers(0, size - height), generator.integers(0, size - width)
    row, column = generator.uniform(0.25 * size, 0.75 * size, 2)
    turn = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), generator.uniform(-45, 45), 1.0)
    turn[:, 2] += (column - x - width / 2, row - y - height / 2)
    source = np.zeros((size, size), np.uint8)
    source[y : y + height, x : x + width] = 1
    moved = cv2.warpAffine(image, turn, (size, size), flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(source, turn, (size, size), flags=cv2.INTER_NEAREST) > 0
    return _blend(image, moved, mask, 1.0)


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


def lead_cut(image: np.ndarray, generator: np.random.Generator) -> Pasted:
    """Erase a short piece of a thin, strongly edged structure with its surroundings' colour.

    The piece lies where the image has vertical or horizontal edges (a lead, a trace, a hole's
    rim); it is filled from its border inwards (Telea's inpainting), as if it were not there.
    """
    size = image.shape[0]
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5), 0).astype(np.float32)
    slope = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    border = size // 6
    inside = np.zeros_like(slope)
    inside[border:-border, border:-border] = cv2.blur(slope, (9, 9))[border:-border, border:-border]
    chance = inside.ravel().astype(np.float64) ** 2
    if chance.sum() == 0:
        chance[:] = 1.0
    row, column = divmod(int(generator.choice(size**2, p=chance / chance.sum())), size)
    half_height = max(3, int(size * generator.uniform(0.03, 0.06)))
    half_width = max(3, int(size * generator.uniform(0.03, 0.06)))
    mask = np.zeros((size, size), bool)
    mask[
        max(0, row - half_height) : row + half_height,
        max(0, column - half_width) : column + half_width,
    ] = True
    filled = cv2.inpaint(image, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return _blend(image, filled, mask, 1.0)


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], Pasted]] = {
    "cut_paste": cut_paste,
    "texture": texture,
    "lead_cut": lead_cut,
}


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

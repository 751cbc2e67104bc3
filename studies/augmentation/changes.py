"""Changed copies of normal images for the memory bank: flips, rotations, illumination, crops.

Every kind takes pixels, the largest change and a generator, and returns changed pixels of the
same shape.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Limits:
    """How far an image may be changed.

    Parameters
    ----------
    rotation : float
        Degrees, to either side.
    illumination : float
        Largest change of contrast, as a share, and of brightness, as a share of 255.
    crop : float
        Largest share of a side that is cut off.
    """

    rotation: float
    illumination: float
    crop: float


def flip_horizontal(image: np.ndarray, _limits: Limits, _draw: np.random.Generator) -> np.ndarray:
    """Mirror left and right."""
    return np.ascontiguousarray(image[:, ::-1])


def flip_vertical(image: np.ndarray, _limits: Limits, _draw: np.random.Generator) -> np.ndarray:
    """Mirror up and down."""
    return np.ascontiguousarray(image[::-1])


def rotate(image: np.ndarray, limits: Limits, draw: np.random.Generator) -> np.ndarray:
    """Turn about the centre by a uniform angle; what comes in from outside is mirrored."""
    height, width = image.shape[:2]
    angle = draw.uniform(-limits.rotation, limits.rotation)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    return cv2.warpAffine(
        image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def illuminate(image: np.ndarray, limits: Limits, draw: np.random.Generator) -> np.ndarray:
    """Change contrast about the image's mean, and brightness, each by a uniform share."""
    contrast, brightness = draw.uniform(-limits.illumination, limits.illumination, 2)
    mean = image.mean()
    changed = (image - mean) * (1 + contrast) + mean + 255 * brightness
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def crop(image: np.ndarray, limits: Limits, draw: np.random.Generator) -> np.ndarray:
    """Keep a part of uniform size at a uniform place, and bring it to the image's size."""
    height, width = image.shape[:2]
    share = 1 - draw.uniform(0, limits.crop)
    rows, columns = max(1, round(share * height)), max(1, round(share * width))
    top = int(draw.integers(height - rows + 1))
    left = int(draw.integers(width - columns + 1))
    part = image[top : top + rows, left : left + columns]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)


Change = Callable[[np.ndarray, Limits, np.random.Generator], np.ndarray]
KINDS: dict[str, Change] = {
    "flip_horizontal": flip_horizontal,
    "flip_vertical": flip_vertical,
    "rotation": rotate,
    "illumination": illuminate,
    "crop": crop,
}
TOGETHER = "all together"
CONTROL = "resampling"


def resample(image: np.ndarray) -> np.ndarray:
    """Shift by half a pixel to the right and down: the blur of interpolation and nothing else."""
    height, width = image.shape[:2]
    shift = np.float32([[1, 0, 0.5], [0, 1, 0.5]])
    return cv2.warpAffine(
        image, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def together(image: np.ndarray, limits: Limits, draw: np.random.Generator) -> np.ndarray:
    """Apply every kind in turn; each flip with a chance of one half."""
    for name, change in KINDS.items():
        if name.startswith("flip") and draw.random() < 0.5:
            continue
        image = change(image, limits, draw)
    return image


def change(image: np.ndarray, kind: str, limits: Limits, *, seed: int, number: int) -> np.ndarray:
    """Make one changed copy.

    Parameters
    ----------
    image : array of uint8, shape (height, width, 3)
    kind : str
        One of `KINDS`, `TOGETHER`, or `CONTROL`.
    limits : Limits
    seed : int
    number : int
        The image's number; each gets its own change whatever the order.

    Returns
    -------
    array of uint8, shape (height, width, 3)

    Raises
    ------
    ValueError
        For an unknown kind or pixels of another form.
    """
    names = [*KINDS, TOGETHER, CONTROL]
    if kind not in names:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(names)}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image has shape {image.shape} and type {image.dtype}; "
            f"expected (height, width, 3) of uint8"
        )
    if kind == CONTROL:
        return resample(image)
    draw = np.random.default_rng([seed, number, names.index(kind)])
    return KINDS.get(kind, together)(image, limits, draw)

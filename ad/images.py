"""Decode one image by a stated rule and turn it into the network's input."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ad.determinism import silence_warnings
from ad.tiles import side_of

if TYPE_CHECKING:  # a line has neither PyTorch nor pydantic
    from ad import params

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
# What Pillow raises on damaged files.
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError)


# Pillow's warnings name no file, and none of them means that pixels are wrong: what cannot be
# decoded is an error, and too many pixels are counted below.
silence_warnings(r"PIL\.")
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)  # where Pillow sees an attack
REDUCED_ABOVE = 16_000_000  # pixels; a JPEG of more is decoded at a half, a quarter or an eighth


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a file without decoding it; say in one line what is wrong with it."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: the image is missing; restore it or remove its row"
        ) from None
    except PermissionError:
        raise PermissionError(f"{path}: you may not read it; change its permissions") from None
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: cannot be decoded as an image ({reason}); replace the file or remove it"
        ) from None


def reduction(image: Image.Image) -> int:
    """Return the factor by which a JPEG's sides are reduced in decoding."""
    pixels = image.width * image.height
    if image.format not in ("JPEG", "MPO") or pixels <= REDUCED_ABOVE:
        return 1
    return next(
        factor for factor in (2, 4, 8) if factor == 8 or pixels <= factor**2 * REDUCED_ABOVE
    )


def _open(path: Path) -> Image.Image:
    """Open and decode the whole file, so that damage shows here."""
    with opened(path) as image:
        factor = reduction(image)
        if factor > 1:
            image.draft(None, (image.width // factor, image.height // factor))
        image.load()
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit RGB by a stated rule.

    16-bit grey is divided by 257 (65535 to 255); of 16-bit colour the high byte is kept, as Pillow
    decodes it; grey is repeated over the channels; a palette is looked up; an alpha channel is
    dropped, the colours below it kept; CMYK is converted by its plain formula; the orientation
    that a camera noted is applied; of several pages the first is taken.  A JPEG of more than
    16 million pixels is decoded at a half, a quarter or an eighth of its sides.

    Raises
    ------
    ValueError
        When the values have no stated range: floating point, or integers beyond 16 bits.
    """
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)  # it copies an upright image too
    if image.mode in SIXTEEN_BIT:
        grey = np.asarray(image).astype(np.int32)
        low, high = grey.min(), grey.max()
        if low < 0 or high > 65535:
            raise ValueError(
                f"values {low} to {high} are beyond 16 bits (0 to 65535); "
                f"save the image as 8 or 16 bit"
            )
        grey += 128  # so that the division rounds to the nearest: 257 is odd, there are no ties
        grey //= 257
        image = Image.fromarray(grey.astype(np.uint8))
    elif image.mode == "F":
        raise ValueError(
            "mode F (floating point) has no stated range; save the image as 8 or 16 bit"
        )
    if image.mode == "P":
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def read_rgb(path: str | Path) -> Image.Image:
    """Read an image file as 8-bit RGB (see `to_rgb`).

    Raises
    ------
    FileNotFoundError, ValueError
        When the file is missing, truncated or no image; the message names the path.
    """
    path = Path(path)
    image = _open(path)
    try:
        return to_rgb(image)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def resized(width: int, height: int, resize: int) -> tuple[int, int]:
    # Multiplied first: (224 / 55) * 55 is below 224 in floating point.
    longer = int(resize * max(width, height) / min(width, height))
    return (resize, longer) if width <= height else (longer, resize)


def resize_and_crop(
    image: Image.Image,
    *,
    size: int,
    resize: int | None,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """Bring an image to ``size`` x ``size`` pixels.

    Parameters
    ----------
    image : PIL image
    size : int
        Side of the result, in pixels.
    resize : int or None
        ``None`` resizes straight to ``size`` x ``size``.  A number resizes the shorter side to it
        and keeps the centre, as torchvision's ``Resize`` and ``CenterCrop`` do (256 and 224 in the
        public PatchCore implementation).
    resample : PIL filter
        Bilinear, with antialiasing; masks take the nearest pixel.
    """
    if resize is None:
        return image.resize((size, size), resample)
    wide, high = resized(*image.size, resize)
    left, top = round((wide - size) / 2.0), round((high - size) / 2.0)
    return image.resize((wide, high), resample).crop((left, top, left + size, top + size))


@dataclass(frozen=True)
class InputRule:
    """How a picture becomes a network's input.

    Parameters
    ----------
    size : int
        Side of what the network takes at a time, pixels.
    resize : int or None
        See `resize_and_crop`; pixels.
    mean, std : tuple of float
        Of each channel, for values from 0 to 1: what the network was trained with.
    resample : PIL filter
        Of the resizing.
    tiles : int
        A picture becomes so many tiles a side; see `ad.tiles`.
    region : tuple of four floats, optional
        Left, top, right and bottom of the part of the picture that is looked at, as shares of its
        width and height; by default all of it.
    """

    size: int
    resize: int | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resample: Image.Resampling = Image.Resampling.BILINEAR
    tiles: int = 1
    region: tuple[float, ...] | None = None

    @property
    def side(self) -> int:
        """Return the side of the whole picture after resizing, pixels."""
        return side_of(self.size, self.tiles)

    def looked_at(self, image: Image.Image) -> Image.Image:
        """Return the region of a picture that is looked at; at least one pixel."""
        return image if self.region is None else image.crop(self._box(*image.size))

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        shares = zip(self.region or (0, 0, 1, 1), (width, height) * 2, strict=True)
        left, top, right, bottom = (math.floor(share * full + 0.5) for share, full in shares)
        left, top = min(left, width - 1), min(top, height - 1)
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def looked_at_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of `looked_at` of a picture of a size."""
        left, top, right, bottom = self._box(width, height)
        return right - left, bottom - top

    def brought(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        """Bring a picture, or its mask, to ``side`` x ``side`` pixels."""
        part = self.looked_at(image)
        return resize_and_crop(part, size=self.side, resize=self.resize, resample=resample)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Bring a picture to the input's geometry, shape (side, side, 3), uint8."""
        return np.asarray(self.brought(image, self.resample))

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """Scale pixels (h, w, 3) of 0 to 255; return float32, shape (3, h, w)."""
        scaled = pixels.astype(np.float32) / np.float32(255)
        mean, std = np.float32(self.mean), np.float32(self.std)
        return np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1))


def input_rule(settings: "params.Image", config: Mapping[str, object]) -> InputRule:
    """Take what is set, and the rest from what timm says of the weights.

    Parameters
    ----------
    settings : Image
    config : mapping
        timm's ``pretrained_cfg``: ``mean``, ``std``, ``interpolation``.
    """
    name = settings.interpolation or str(config.get("interpolation") or "bilinear")
    return InputRule(
        settings.input_size,
        settings.resize,
        tuple(settings.mean or config.get("mean") or IMAGENET_MEAN),
        tuple(settings.std or config.get("std") or IMAGENET_STD),
        Image.Resampling[name.upper()],
        settings.tiles,
        settings.region and tuple(settings.region),
    )


def network_input(path: str | Path, rule: InputRule) -> np.ndarray:
    """Read one image as the network's input.

    Returns
    -------
    array of float32, shape (3, side, side)
        RGB in 0 to 1, minus the mean, over the standard deviation.
    """
    return rule.normalised(rule.pixels(read_rgb(path)))


def mask_image(path: str | Path) -> Image.Image:
    """Read a defect mask, 255 where it marks a defect: a grey value above 127.

    Where no value is that high, each above 0 does: numbers of defect classes, or 1 for True.
    """
    grey = read_rgb(path).convert("L")
    low = 127 if grey.getextrema()[1] > 127 else 0
    return grey.point(lambda value: 255 * (value > low))


def read_mask(path: str | Path, rule: InputRule) -> np.ndarray:
    """Read a defect mask in the geometry of the network's input.

    Returns
    -------
    array of bool, shape (side, side)
        True where the defect is.
    """
    return np.asarray(rule.brought(mask_image(path), Image.Resampling.NEAREST)) > 0

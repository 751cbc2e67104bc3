"""Decode one image by a stated rule and turn it into the network's input."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ad import params

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
# What Pillow raises on damaged files.
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError)


# Pillow's warnings name no file, and none of them means that pixels are wrong: what cannot be
# decoded is an error, and too many pixels are counted below.
warnings.filterwarnings("ignore", module=r"PIL\.")
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)  # where Pillow sees an attack
REDUCED_ABOVE = 16_000_000  # pixels; a JPEG of more is decoded at a half, a quarter or an eighth
# Bytes a pixel in Pillow's memory (RGB takes 4 too), and what `to_rgb` adds at its peak, beside a
# copy for an image that is turned.
STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
MOST_RESIZED = 8  # times the crop's side
CONVERTED_BYTES = {"RGB": 0, "P": 8, **dict.fromkeys(SIXTEEN_BIT, 10)}


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its image before it is decoded.

    Parameters
    ----------
    mode : str
        Pillow's name of the pixel format (``RGB``, ``L``, ...).
    width, height : int
        Pixels; of the upright image, but for a PNG, which may note its orientation at its end.
    reduction : int
        Factor by which decoding reduces the sides.
    decoding_bytes : int
        What `read_rgb` takes at most.
    """

    mode: str
    width: int
    height: int
    reduction: int
    decoding_bytes: int


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
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


def _reduction(image: Image.Image) -> int:
    """Return the factor by which a JPEG's sides are reduced in decoding."""
    pixels = image.width * image.height
    if image.format not in ("JPEG", "MPO") or pixels <= REDUCED_ABOVE:
        return 1
    return next(
        factor for factor in (2, 4, 8) if factor == 8 or pixels <= factor**2 * REDUCED_ABOVE
    )


def read_header(path: str | Path) -> ImageHeader:
    """Read an image's format and size, and count what decoding it takes.

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
        As `read_rgb`.
    """
    with _opened(Path(path)) as image:
        width, height, factor = *image.size, _reduction(image)
        each = 2 * STORED_BYTES.get(image.mode, 4) + CONVERTED_BYTES.get(image.mode, 4)
        held = width * height * each // factor**2
        if image.info.get("progressive"):  # a JPEG's coefficients, all of them
            held += 6 * width * height
        # A PNG would be decoded for it.
        if image.format != "PNG" and image.getexif().get(ExifTags.Base.Orientation, 1) > 4:
            width, height = height, width
        return ImageHeader(image.mode, width, height, factor, held)


def _open(path: Path) -> Image.Image:
    """Open and decode the whole file, so that damage shows here."""
    with _opened(path) as image:
        factor = _reduction(image)
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


def check_resizing(width: int, height: int, *, size: int, resize: int | None, room: float) -> None:
    """Refuse an image that takes more than ``room`` bytes to resize (see `resize_and_crop`).

    Raises
    ------
    ValueError, MemoryError
        When ``resize`` is over `MOST_RESIZED` times ``size``; when there is no room.
    """
    if resize is None:
        return
    if resize > MOST_RESIZED * size:
        raise ValueError(
            f"image.resize={resize} leaves a crop of 1/{(resize // size) ** 2} of the picture; it "
            f"must be null or at most {MOST_RESIZED} times image.size={size}"
        )
    wide, high = _resized(width, height, resize)
    # Pillow keeps 4 bytes a pixel: the picture, its rows at the new width, and the result.
    needed = 4 * (width * height + wide * height + wide * high)
    if needed > room:
        raise MemoryError(
            f"image.resize={resize} makes an image of {width} x {height} pixels one of {wide} x "
            f"{high}, which takes {needed / 1e9:.2f} GB of the {max(room, 0) / 1e9:.2f} that "
            f"runtime.memory_gb leaves each thread; set image.resize to null, or remove the image"
        )


def _resized(width: int, height: int, resize: int) -> tuple[int, int]:
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
    wide, high = _resized(*image.size, resize)
    left, top = round((wide - size) / 2.0), round((high - size) / 2.0)
    return image.resize((wide, high), resample).crop((left, top, left + size, top + size))


@dataclass(frozen=True)
class InputRule:
    """How a picture becomes a network's input.

    Parameters
    ----------
    size, resize
        See `resize_and_crop`; pixels.
    mean, std : tuple of float
        Of each channel, for values from 0 to 1: what the network was trained with.
    resample : PIL filter
        Of the resizing.
    """

    size: int
    resize: int | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resample: Image.Resampling = Image.Resampling.BILINEAR

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Bring a picture to the input's geometry, shape (size, size, 3), uint8."""
        return np.asarray(
            resize_and_crop(image, size=self.size, resize=self.resize, resample=self.resample)
        )

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """Scale pixels (h, w, 3) of 0 to 255; return float32, shape (3, h, w)."""
        scaled = pixels.astype(np.float32) / np.float32(255)
        mean, std = np.float32(self.mean), np.float32(self.std)
        return np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1))


def input_rule(settings: params.Image, config: Mapping[str, object]) -> InputRule:
    """Take what is set, and the rest from what timm says of the weights.

    Parameters
    ----------
    settings : Image
    config : mapping
        timm's ``pretrained_cfg``: ``mean``, ``std``, ``interpolation``.
    """
    name = settings.interpolation or str(config.get("interpolation") or "bilinear")
    return InputRule(
        settings.size,
        settings.resize,
        tuple(settings.mean or config.get("mean") or IMAGENET_MEAN),
        tuple(settings.std or config.get("std") or IMAGENET_STD),
        Image.Resampling[name.upper()],
    )


def network_input(path: str | Path, rule: InputRule) -> np.ndarray:
    """Read one image as the network's input.

    Returns
    -------
    array of float32, shape (3, size, size)
        RGB in 0 to 1, minus the mean, over the standard deviation.
    """
    return rule.normalised(rule.pixels(read_rgb(path)))


def is_defect(mask: Image.Image) -> np.ndarray:
    """Tell for each pixel of a mask whether it marks a defect: a grey value above 127.

    Returns
    -------
    array of bool, shape (height, width)
    """
    return np.asarray(mask.convert("L")) > 127


def read_mask(path: str | Path, rule: InputRule) -> np.ndarray:
    """Read a defect mask in the geometry of the network's input.

    Returns
    -------
    array of bool, shape (size, size)
        True where the defect is (any value above 127).
    """
    return is_defect(
        resize_and_crop(
            read_rgb(path), size=rule.size, resize=rule.resize, resample=Image.Resampling.NEAREST
        )
    )

"""Decode one picture by a stated rule and turn it into the network's input."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image

from ad.determinism import silence_warnings
from ad.tiles import side_of

if TYPE_CHECKING:  # a line has neither PyTorch nor pydantic
    from ad import params

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# Of all that Pillow reads: others start programs (EPS), or are named .png by mistake.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")  # a camera's MPO is opened as JPEG
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
REDUCED_ABOVE = 16_000_000  # pixels; a JPEG of more is decoded at a half, a quarter or an eighth
TURNS = {  # from the number that a camera notes to what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's warnings name no file, and none of them means that pixels are wrong: what cannot be
# decoded is an error, as are more than 179 million pixels, by Pillow's own limit.
silence_warnings(r"PIL\.")


class RefusedError(ValueError):
    """A picture that is whole but has no stated reading; the message says what to do."""


def shown(text: object) -> str:
    """Return a text, or a path, on one line: what a terminal cannot show is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def reason_of(error: BaseException) -> str:
    """Return what an error says, on one line; its kind where it says nothing."""
    return shown(" ".join(str(error).split()) or type(error).__name__)


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """Open a file without decoding it; what fails in the block is one line that names the file.

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
    """
    try:
        if not Path(path).is_file() and Path(path).exists():  # a pipe would be waited for
            raise RefusedError("a folder or a device, not a file; name a picture")
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{shown(path)}: the image is missing; restore it or remove its row"
        ) from None
    except PermissionError:
        raise PermissionError(
            f"{shown(path)}: you may not read it; change its permissions"
        ) from None
    except RefusedError as error:
        raise RefusedError(f"{shown(path)}: {error}") from None
    except Exception as error:  # decoders of damaged files end in any exception
        raise ValueError(
            f"{shown(path)}: cannot be decoded as an image ({reason_of(error)[:200]}); replace the "
            f"file or remove it; read are {', '.join(FORMATS)}"
        ) from None


def reduction(image: Image.Image) -> int:
    """Return the factor by which a JPEG's sides are reduced in decoding."""
    pixels = image.width * image.height
    if image.format not in ("JPEG", "MPO") or pixels <= REDUCED_ABOVE:
        return 1
    return next(
        factor for factor in (2, 4, 8) if factor == 8 or pixels <= factor**2 * REDUCED_ABOVE
    )


def decode(image: Image.Image) -> None:
    """Decode all of an opened file, so that damage shows here."""
    factor = reduction(image)
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
    image.load()


def orientation(image: Image.Image) -> int:
    """Return what a camera noted, a whole number from 1 (upright) to 8; 1 if it noted nothing."""
    try:
        noted = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged notes end in any exception, and turn nothing
        return 1
    return noted if isinstance(noted, int) and noted in TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its camera noted."""
    turn = TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """Bring 16-bit grey to 8 bits: divided by 2 ** bits - 1, rounded to the nearest."""
    grey, most = np.asarray(image).astype(np.int32), 2**bits - 1
    low, high = grey.min(), grey.max()
    if low < 0 or high > most:
        raise RefusedError(
            f"values {low} to {high} are beyond {bits} bits (0 to {most}); "
            + ("save the image as 8 or 16 bit" if bits == 16 else "image.bits says how many")
        )
    grey *= 255
    grey += most // 2  # so that the division rounds to the nearest: by an odd number, without ties
    grey //= most
    return Image.fromarray(grey.astype(np.uint8))


def to_rgb(image: Image.Image, bits: int | None = None) -> Image.Image:
    """Convert any mode to 8-bit RGB by a stated rule.

    16-bit grey is divided by its largest value, 2 ** ``bits`` - 1 (by default 65535), and
    multiplied by 255; of 16-bit colour the high byte is kept, as Pillow decodes it; grey is
    repeated over the channels; a palette is looked up; an alpha channel is dropped, the colours
    below it kept; CMYK is converted by its plain formula; the orientation that a camera noted is
    applied; of several pages the first is taken.  A JPEG of more than 16 million pixels is decoded
    at a half, a quarter or an eighth of its sides.

    Raises
    ------
    ValueError
        When the values have no stated range: floating point, or integers beyond the bits.
    """
    image = upright(image)
    if image.mode in SIXTEEN_BIT:
        image = _eight_bits(image, bits or 16)
    elif image.mode == "F":
        raise RefusedError(
            "mode F (floating point) has no stated range; save the image as 8 or 16 bit"
        )
    if image.mode == "P":
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def read_rgb(path: str | Path, bits: int | None = None) -> Image.Image:
    """Read an image file as 8-bit RGB (see `to_rgb`).

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
        When the file is missing, damaged or no image; one line that names it.
    """
    with opened(path) as image:
        if bits not in (None, 16) and image.mode not in SIXTEEN_BIT and ";16" in str(image.tile):
            raise RefusedError(
                f"16-bit colour is read by its high byte, so image.bits={bits} has no meaning; "
                f"save it as 16-bit grey or as 8-bit colour"
            )
        decode(image)
        return to_rgb(image, bits)


def resized(width: int, height: int, resize: int) -> tuple[int, int]:
    """Return width and height of a picture whose shorter side is brought to ``resize``."""
    # Multiplied first: (224 / 55) * 55 is below 224 in floating point.
    longer = int(resize * max(width, height) / min(width, height))
    return (resize, longer) if width <= height else (longer, resize)


def resize_and_crop(
    image: Image.Image,
    *,
    size: tuple[int, int],
    resize: int | None,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """Bring an image to a height and a width in pixels.

    Parameters
    ----------
    image : PIL image
    size : tuple of int
        Height and width of the result.
    resize : int or None
        ``None`` resizes straight to ``size``.  A number resizes the shorter side to it and keeps
        the centre, as torchvision's ``Resize`` and ``CenterCrop`` do (256 and 224 in the public
        PatchCore implementation).
    resample : PIL filter
        Bilinear, with antialiasing; masks take the nearest pixel.

    Raises
    ------
    ValueError
        When the resized picture is smaller than the crop.
    """
    height, width = size
    if resize is None:
        return image.resize((width, height), resample)
    wide, high = resized(*image.size, resize)
    if wide < width or high < height:
        raise RefusedError(
            f"image.resize={resize} makes the picture {wide} x {high} pixels, which does not cover "
            f"{width} x {height}; raise it, or choose another image.input_size"
        )
    left, top = round((wide - width) / 2.0), round((high - height) / 2.0)
    return image.resize((wide, high), resample).crop((left, top, left + width, top + height))


def to_brightness(pixels: np.ndarray, mean: float) -> np.ndarray:
    """Scale pixels (uint8) so that their mean is ``mean``, rounded; what exceeds 255 becomes 255.

    The sum is a whole number, and each further operation is rounded correctly: the same everywhere.
    """
    now = pixels.mean()
    return np.clip(np.rint(pixels * (mean / now)), 0, 255).astype(np.uint8) if now else pixels


@dataclass(frozen=True)
class InputRule:
    """How a picture becomes a network's input.

    Parameters
    ----------
    size : tuple of int
        Height and width of what the network takes at a time, pixels.
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
    bits : int, optional
        Of 16-bit grey files, those that hold values; by default 16.
    brightness : float, optional
        Mean that each picture's pixels are scaled to, after resizing; by default they stay.
    """

    size: tuple[int, int]
    resize: int | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resample: Image.Resampling = Image.Resampling.BILINEAR
    tiles: int = 1
    region: tuple[float, ...] | None = None
    bits: int | None = None
    brightness: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Return height and width of the whole picture after resizing, pixels."""
        return side_of(self.size[0], self.tiles), side_of(self.size[1], self.tiles)

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the region of a picture of a size, at least one pixel; right and bottom behind."""
        shares = zip(self.region or (0, 0, 1, 1), (width, height) * 2, strict=True)
        left, top, right, bottom = (math.floor(share * full + 0.5) for share, full in shares)
        left, top = min(left, width - 1), min(top, height - 1)
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def brought(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        """Bring a picture, or its mask, to the input's `shape`."""
        part = image if self.region is None else image.crop(self.box(*image.size))
        return resize_and_crop(part, size=self.shape, resize=self.resize, resample=resample)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Bring a picture to the input's geometry: uint8, shape (height, width, 3)."""
        pixels = np.asarray(self.brought(image, self.resample))
        return pixels if self.brightness is None else to_brightness(pixels, self.brightness)

    def read(self, path: str | Path) -> np.ndarray:
        """Read a file as `pixels`; raises as `read_rgb`."""
        image = read_rgb(path, self.bits)
        try:
            return self.pixels(image)
        except RefusedError as error:
            raise RefusedError(f"{shown(path)}: {error}") from None

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
        size=settings.shape,
        resize=settings.resize,
        mean=tuple(settings.mean or config.get("mean") or IMAGENET_MEAN),
        std=tuple(settings.std or config.get("std") or IMAGENET_STD),
        resample=Image.Resampling[name.upper()],
        tiles=settings.tiles,
        region=settings.region and tuple(settings.region),
        bits=settings.bits,
        brightness=settings.brightness,
    )


def _mask_values(path: str | Path) -> np.ndarray:
    """Read a mask as one whole number a pixel: grey, alpha, or a colour as 0xRRGGBB."""
    with opened(path) as image:
        decode(image)
        if image.format in ("JPEG", "MPO"):  # its compression leaves traces around every edge
            image = image.convert("L").point(lambda value: 255 * (value > 127))
        image = upright(image)
        if image.mode in (*SIXTEEN_BIT, "1", "L", "F"):
            return np.asarray(image.convert("L") if image.mode == "1" else image)
        red, green, blue, alpha = np.moveaxis(np.asarray(image.convert("RGBA")), 2, 0)
    grey = (red == green).all() and (green == blue).all()
    values = red if grey else (red.astype(np.int64) << 16) + (green.astype(np.int64) << 8) + blue
    return alpha if (values == values[0, 0]).all() and alpha.min() < alpha.max() else values


def mask_image(
    path: str | Path, background: int | None = None
) -> tuple[Image.Image, tuple[int, ...]]:
    """Read a mask: whatever differs from its background is marked.

    The background is the most frequent value of the border, so an inverted mask is read right.
    A palette is looked up; alpha counts where only it varies; of a JPEG, values above 127 count as
    255 and others as 0.

    Parameters
    ----------
    path : path
    background : int, optional
        The value that is not marked, where it is known.

    Returns
    -------
    mask : PIL image of mode L
        255 where it is marked, else 0.
    levels : tuple of int
        Each value of the file once, the background first: more than two are classes or a soft
        edge, one alone marks nothing, and a first other than 0 is an inverted mask.  Colours are
        0xRRGGBB.
    """
    values = _mask_values(path)
    if background is None:
        border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
        found, counts = np.unique(border, return_counts=True)
        background = found[counts.argmax()].item()
    others = np.unique(values)
    levels = (background, *others[others != background].tolist())
    return Image.fromarray(np.uint8(255) * (values != background)), levels


def read_mask(path: str | Path, rule: InputRule) -> np.ndarray:
    """Read a defect mask in the geometry of the network's input.

    Returns
    -------
    array of bool, shape (height, width)
        True where the defect is.
    """
    return np.asarray(rule.brought(mask_image(path)[0], Image.Resampling.NEAREST)) > 0


def ignored_patches(
    path: str | None, rule: InputRule, grid: tuple[int, int], root: Path = Path()
) -> np.ndarray:
    """Read ``image.ignore``: a picture that is black where patches count.

    A patch is ignored where any pixel of its cell is marked, so that no marked part ever counts.

    Parameters
    ----------
    path : str or None
        Of a picture of the images' aspect, which is cut and resized as they are; None marks none.
    rule : InputRule
    grid : tuple of int
        Rows and columns of the patches.
    root : path
        Folder that ``path`` is relative to.

    Returns
    -------
    array of bool, shape (rows, columns)

    Raises
    ------
    ValueError
        When the picture marks no patch, or every one.
    """
    if path is None:
        return np.zeros(grid, dtype=bool)
    if not (root / path).is_file():
        raise FileNotFoundError(f"image.ignore={path}: no such file")
    marked = np.asarray(rule.brought(mask_image(root / path, 0)[0], Image.Resampling.BOX)) > 0
    for axis, cells in enumerate(grid):
        starts = -(-np.arange(cells) * marked.shape[axis] // cells)
        marked = np.logical_or.reduceat(marked, starts, axis=axis)
    if marked.all() or not marked.any():
        raise ValueError(
            f"image.ignore: {shown(path)} marks {'every patch' if marked.all() else 'nothing'}; "
            f"paint what is to be ignored white on black"
        )
    return marked

"""What a file says of its image before it is decoded, and what decoding and resizing take."""

from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags

from ad.images import SIXTEEN_BIT, opened, reduction, resized

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


def read_header(path: str | Path) -> ImageHeader:
    """Read an image's format and size, and count what decoding it takes.

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
        As `read_rgb`.
    """
    with opened(Path(path)) as image:
        width, height, factor = *image.size, reduction(image)
        each = 2 * STORED_BYTES.get(image.mode, 4) + CONVERTED_BYTES.get(image.mode, 4)
        held = width * height * each // factor**2
        if image.info.get("progressive"):  # a JPEG's coefficients, all of them
            held += 6 * width * height
        # A PNG would be decoded for it.
        if image.format != "PNG" and image.getexif().get(ExifTags.Base.Orientation, 1) > 4:
            width, height = height, width
        return ImageHeader(image.mode, width, height, factor, held)


def check_resizing(width: int, height: int, *, size: int, resize: int | None, room: float) -> None:
    """Refuse an image that takes more than ``room`` bytes to resize (see `resize_and_crop`).

    Raises
    ------
    ValueError, MemoryError
        When ``resize`` is over `MOST_RESIZED` times ``size``; when there is no room.
    """
    if resize is None:
        wide = high = size
    elif resize > MOST_RESIZED * size:
        raise ValueError(
            f"image.resize={resize} leaves a crop of 1/{(resize // size) ** 2} of the picture; it "
            f"must be null or at most {MOST_RESIZED} times image.size={size}"
        )
    else:
        wide, high = resized(width, height, resize)
    # Pillow keeps 4 bytes a pixel: the picture, its rows at the new width, and the result.
    needed = 4 * (width * height + wide * height + wide * high)
    if needed > room:
        raise MemoryError(
            f"image.resize={resize} makes an image of {width} x {height} pixels one of {wide} x "
            f"{high}, which takes {needed / 1e9:.2f} GB of the {max(room, 0) / 1e9:.2f} that "
            f"runtime.memory_gb leaves each thread; lower image.resize, image.size or image.tiles, "
            f"or remove the image"
        )

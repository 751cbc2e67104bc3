"""Decode every file of a data set once, and say in one line what is wrong with it."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from PIL import Image

from ad.data import ImageRecord, of_split
from ad.determinism import available_cores, sha256_file
from ad.images import SIXTEEN_BIT, mask_image, opened, read_rgb
from ad.layouts import read_layout

MIN_SIDE = 8  # pixels; a smaller picture shows a network nothing but one colour
LARGE = 30_000_000  # pixels; such a picture takes gigabytes, so they are decoded one at a time
_one_large = Lock()


@dataclass(frozen=True)
class _Found:
    """What decoding an image shows, beside its record."""

    record: ImageRecord
    pixels: str  # hash
    flat: bool  # of one colour
    highest: int | None  # value of a 16-bit file
    mask_levels: int = 0
    mask_on_border: bool = False


def scan(
    root: str | Path,
    *,
    bits: int | None = None,
    locked: bool = False,
    threads: int | None = None,
    say: Callable[[str], None] = print,
) -> list[ImageRecord]:
    """Validate a data set and describe every image in it.

    Every file is decoded once, so that a damaged one stops here and not in the middle of a run.

    Parameters
    ----------
    root : path
        The data set's folder, in one of the layouts of `ad.layouts`.
    bits : int, optional
        Significant bits of 16-bit files, as in ``image.bits``.
    locked : bool
        Whether the set has test images only; others need training images.
    threads : int, optional
        Number of decoding threads; by default as many as cores.
    say : callable
        Takes each line about what is odd and no fault.

    Returns
    -------
    list of ImageRecord
        Train before test, each sorted by id; the order never depends on the file system.

    Raises
    ------
    OSError, ValueError
        One line: what is wrong, where, and what to do.
    """
    root = Path(root)
    records, passed = read_layout(root)
    # repr: a name may hold what no terminal prints.
    names = ", ".join(f"{repr(name)[1:-1]} ({passed[name]})" for name in sorted(passed)[:8])
    needed = "test" if locked else "train"
    if not of_split(records, needed):
        raise ValueError(
            f"{root}: the {needed} split has no images"
            + f"; endings that are not read, or hidden: {names}" * bool(passed)
        )
    if passed:
        say(f"{root}: passed over, since hidden or of an ending that is not read: {names}")
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        found = list(pool.map(lambda record: _describe(root, record, bits), records))
    _check_bits(root, found, bits)
    _check_masks(root, found, say)
    _check_copies(root, found)
    return [one.record for one in found]


def _describe(root: Path, record: ImageRecord, bits: int | None) -> _Found:
    path = root / record.path
    with opened(path) as image:
        wide, high, mode = *image.size, image.mode
        large = wide * high > LARGE
    if min(wide, high) < MIN_SIDE:
        raise ValueError(
            f"{path}: {wide} x {high} pixels show nothing; give images of {MIN_SIDE} x {MIN_SIDE} "
            f"or more"
        )
    if large:
        _one_large.acquire()
    try:
        highest = _highest(path) if mode in SIXTEEN_BIT else None
        image = read_rgb(path) if bits is None else read_rgb(path, bits=bits)
        if (image.width > image.height) != (wide > high):  # upright, and large JPEGs are reduced
            wide, high = high, wide
        flat = all(low == high for low, high in image.getextrema())
        found = _Found(record, _pixel_hash(image), flat, highest)
        del image  # before its mask is decoded
        if record.mask:
            found = _with_mask(root / record.mask, found, (wide, high))
    finally:
        if large:
            _one_large.release()
    described = replace(found.record, width=wide, height=high, mode=mode, sha256=sha256_file(path))
    return replace(found, record=described)


def _highest(path: Path) -> int:
    with opened(path) as image:
        return int(image.getextrema()[1])


def _pixel_hash(image: Image.Image) -> str:
    """Hash the pixels, some rows at a time: the whole would be copied twice."""
    digest = hashlib.sha256(str(image.size).encode())
    for top in range(0, image.height, 256):
        digest.update(image.crop((0, top, image.width, min(top + 256, image.height))).tobytes())
    return digest.hexdigest()


def _with_mask(path: Path, found: _Found, size: tuple[int, int]) -> _Found:
    """Refuse a mask of another size than its image's, or that marks nothing or everything."""
    mask = mask_image(path)
    if mask.size != size:
        raise ValueError(
            f"{path}: the mask is {mask.width} x {mask.height} pixels, its image {size[0]} x "
            f"{size[1]}; make them the same"
        )
    low, high = mask.getextrema()
    if low == high:
        raise ValueError(
            f"{path}: the mask is all {'white' if low else 'black'}; draw the defect in white "
            f"(255) on black (0)"
        )
    wide, high = mask.size
    sides = [(0, 0, wide, 1), (0, high - 1, wide, high), (0, 0, 1, high), (wide - 1, 0, wide, high)]
    marked = sum(mask.crop(side).histogram()[255] for side in sides)
    return replace(
        found,
        record=replace(found.record, mask_sha256=sha256_file(path)),
        mask_levels=len(read_rgb(path).getcolors(1 << 24) or ()),
        mask_on_border=marked > wide + high,  # half of the four sides
    )


def _check_bits(root: Path, found: Sequence[_Found], bits: int | None) -> None:
    """Refuse 16-bit files that look like those of a camera of fewer bits."""
    values = [one.highest for one in found if one.highest is not None]
    if not values or bits is not None:
        return
    fewer = next((n for n in (8, 10, 12) if max(values) < 1 << n), None)
    if fewer:
        raise ValueError(
            f"{root}: no value of its {len(values)} 16-bit images is above {max(values)}, as from "
            f"a camera of {fewer} bits, and they would be read as nearly black; set image.bits to "
            f"{fewer} (or to 16, if all 65,536 values are meant)"
        )


def _check_masks(root: Path, found: Sequence[_Found], say: Callable[[str], None]) -> None:
    masked = [one for one in found if one.record.mask]
    on_border = [one.record.mask for one in masked if one.mask_on_border]
    if len(on_border) > len(masked) / 2:
        raise ValueError(
            f"{root}: {len(on_border)} of {len(masked)} masks mark most of the picture's border, "
            f"first {on_border[0]}; if they are inverted, draw defects in white (255) on black (0)"
        )
    if on_border:
        say(f"{root}: {len(on_border)} of {len(masked)} masks mark most of the picture's border, "
            f"first {on_border[0]}; is it inverted?")  # fmt: skip
    levels = [one for one in masked if one.mask_levels > 2]
    if levels:
        say(f"{root}: {len(levels)} masks have more than two levels, first {levels[0].record.mask} "
            f"({levels[0].mask_levels}); all but the background count as defects")  # fmt: skip


def _check_copies(root: Path, found: Sequence[_Found]) -> None:
    """Refuse training images that are all alike, and a picture in two roles."""
    train = [one for one in found if one.record.split == "train"]
    flat = all(one.flat for one in train)
    if train and (flat or (len(train) > 1 and len({one.pixels for one in train}) == 1)):
        raise ValueError(
            f"{root}: all {len(train)} training images are "
            f"{'of one colour' if flat else 'the same picture'}, so every other one would be "
            f"flagged; give normal images that differ as real ones do"
        )
    first: dict[str, ImageRecord] = {}
    for one in found:
        record, other = one.record, first.setdefault(one.pixels, one.record)
        if record.split != other.split:
            raise ValueError(
                f"{root}: {other.path} and {record.path} are the same picture, in train and in "
                f"test; a test on training images says nothing, so remove one of them"
            )
        if record.label != other.label:
            raise ValueError(
                f"{root}: {other.path} and {record.path} are the same picture under two labels; "
                f"remove the wrong one"
            )

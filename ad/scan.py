"""Decode every file of a data set once, and say in one line what is wrong with it."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import pandas as pd
from PIL import Image

from ad.data import ImageRecord, of_split
from ad.determinism import available_cores, sha256_file
from ad.images import SIXTEEN_BIT, mask_image, opened, orientation, read_rgb, shown
from ad.layouts import read_layout

MIN_SIDE = 8  # pixels; a smaller picture shows a network nothing but one colour
DECODING_BYTES = 14  # a pixel, at most: 16-bit grey on its way to RGB, and progressive JPEG


@dataclass(frozen=True)
class _Found:
    """What decoding an image shows, beside its record."""

    record: ImageRecord
    pixels: str  # hash
    flat: bool  # of one colour
    highest: int | None  # value of a 16-bit file
    mask_levels: tuple[int, ...] = ()  # the background's first


def scan(
    root: str | Path,
    *,
    bits: int | None = None,
    locked: bool = False,
    threads: int | None = None,
    memory_bytes: float = float("inf"),
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
    memory_bytes : float
        What decoding may take; pictures too large for a thread's share are decoded one at a time.
    say : callable
        Takes each line about what is odd and no fault.

    Returns
    -------
    list of ImageRecord
        Train before test, each sorted by id; the order never depends on the file system.

    Raises
    ------
    OSError, ValueError, MemoryError
        One line: what is wrong, where, and what to do.
    """
    root = Path(root)
    records, passed = read_layout(root)
    names = ", ".join(f"{shown(name)} ({passed[name]})" for name in sorted(passed)[:8])
    needed = "test" if locked else "train"
    if not of_split(records, needed):
        raise ValueError(
            f"{root}: the {needed} split has no images"
            + f"; endings that are not read, or hidden: {names}" * bool(passed)
        )
    if passed:
        say(f"{root}: passed over, since hidden or of an ending that is not read: {names}")
    threads, alone = threads or available_cores(), Lock()

    def describe(record: ImageRecord) -> _Found:
        needed = _decoding_bytes(root / record.path, memory_bytes)
        with alone if needed > memory_bytes / (2 * threads) else nullcontext():
            return _describe(root, record, bits)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(describe, records))
    _check_bits(root, found, bits)
    _check_masks(root, found, say)
    _check_copies(root, found)
    return [one.record for one in found]


def _decoding_bytes(path: Path, memory_bytes: float) -> int:
    with opened(path) as image:
        wide, high = image.size
    needed = DECODING_BYTES * wide * high
    if needed > memory_bytes / 2:  # the other threads have the other half
        raise MemoryError(
            f"{path}: to decode {wide} x {high} pixels may take {needed / 1e9:.3g} GB; raise "
            f"runtime.memory_gb, or make the image smaller"
        )
    return needed


def _describe(root: Path, record: ImageRecord, bits: int | None) -> _Found:
    path = root / record.path
    with opened(path) as image:
        wide, high, mode = *image.size, image.mode
        if min(wide, high) < MIN_SIDE:
            raise ValueError(
                f"{path}: {wide} x {high} pixels show nothing; give images of {MIN_SIDE} x "
                f"{MIN_SIDE} or more"
            )
        highest = int(image.getextrema()[1]) if mode in SIXTEEN_BIT else None
        if orientation(image) > 4:  # noted as lying on a side
            wide, high = high, wide
    image = read_rgb(path, bits)
    flat = all(low == high for low, high in image.getextrema())
    described = replace(record, width=wide, height=high, mode=mode, sha256=sha256_file(path))
    found = _Found(described, _pixel_hash(image), flat, highest)
    del image  # before its mask is decoded
    return _with_mask(root / record.mask, found) if record.mask else found


def _pixel_hash(image: Image.Image) -> str:
    """Hash the pixels, some rows at a time: the whole would be copied twice."""
    digest = hashlib.sha256(str(image.size).encode())
    for top in range(0, image.height, 256):
        digest.update(image.crop((0, top, image.width, min(top + 256, image.height))).tobytes())
    return digest.hexdigest()


def _with_mask(path: Path, found: _Found) -> _Found:
    """Refuse a mask of another size than its image's, or that marks nothing."""
    record = found.record
    mask, levels = mask_image(path)
    if mask.size != (record.width, record.height):
        raise ValueError(
            f"{path}: the mask is {mask.width} x {mask.height} pixels, its image {record.width} x "
            f"{record.height}; make them the same"
        )
    if len(levels) == 1:
        colour = {0: "black", 255: "white"}.get(levels[0], f"of the value {levels[0]}")
        raise ValueError(f"{path}: the mask is all {colour}; draw the defect white on black")
    described = replace(record, mask_sha256=sha256_file(path))
    return replace(found, record=described, mask_levels=levels)


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
    """Question masks that mark most of their border, which then looks like the background."""
    backgrounds = {one.mask_levels[0]: one.record.mask for one in found if one.mask_levels}
    if len(backgrounds) > 1:
        raise ValueError(
            f"{root}: the border of {backgrounds[min(backgrounds)]} is mostly {min(backgrounds)}, "
            f"that of {backgrounds[max(backgrounds)]} mostly {max(backgrounds)}, so one of them is "
            f"inverted, or marks most of its border; draw all defects white on black"
        )
    if any(backgrounds):
        say(f"{root}: the masks' background is {max(backgrounds)}, not 0; read as inverted")
    many = [one for one in found if len(one.mask_levels) > 2]
    if many:
        some = ", ".join(map(str, many[0].mask_levels[:6]))
        say(f"{root}: {len(many)} masks have more than two levels, first {many[0].record.mask} "
            f"({some}); all but the first, the background, count as defects")  # fmt: skip


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


def images_table(records: Sequence[ImageRecord]) -> pd.DataFrame:
    """Count images and masks by split and defect, with their sizes and modes."""
    rows = [
        {
            "split": r.split,
            "folder": r.defect or {None: "no label", 0: "normal", 1: "anomalous"}[r.label],
            "label": {None: "unknown", 0: "normal", 1: "anomalous"}[r.label],
            "size": f"{r.width} x {r.height}",
            "mode": r.mode,
            "mask": bool(r.mask),
        }
        for r in records
    ]
    listed = {
        name: (name, lambda values: ", ".join(sorted(set(values)))) for name in ("size", "mode")
    }
    groups = pd.DataFrame(rows).groupby(["split", "folder", "label"], sort=False)
    return groups.agg(images=("mask", "size"), masks=("mask", "sum"), **listed).reset_index()

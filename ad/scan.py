"""Recognise and validate a data set, and describe every image in it.

Known layouts:

MVTec AD
    ``train/good/*``, ``test/<defect>/*`` and, optionally, ``ground_truth/<defect>/*_mask.png``.
competition
    ``train.csv`` (``id,img_path,label``), ``test.csv`` (``id,img_path``),
    ``sample_submission.csv`` (``id,label``), ``train/``, ``test/`` and, optionally,
    ``test_labels.csv`` (``id,label[,defect]``).
VisA, BTAD, MVTec AD 2
    A category as it is distributed; see `tools.published_layouts`.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from PIL import Image

from ad.data import ImageRecord, of_split
from ad.determinism import available_cores, sha256_file
from ad.images import mask_image, read_rgb
from ad.parallel import chunk_map
from tools.headers import ImageHeader, read_header
from ad.layouts import (
    detect_layout,
    list_files,
    read_competition,
    read_mvtec,
    refuse_duplicates,
)
from tools.published_layouts import read_published

MIN_SIDE = 8  # pixels; a smaller picture shows a network nothing but one colour


def _check_mask(path: Path, image_size: tuple[int, int]) -> str:
    """Refuse a mask of another size than its image's or without a defect; return its hash."""
    mask = mask_image(path)
    if mask.size != image_size:
        raise ValueError(
            f"{path}: the mask is {mask.width} x {mask.height} pixels, its image "
            f"{image_size[0]} x {image_size[1]}; make them the same"
        )
    if mask.getbbox() is None:
        raise ValueError(f"{path}: all black; draw the defect in white (255) on black (0)")
    return sha256_file(path)


def _header_within(path: Path, memory_bytes: float) -> ImageHeader:
    """Read a header; refuse an image that takes more memory to decode, before it is decoded."""
    header = read_header(path)
    if header.decoding_bytes > memory_bytes:
        raise MemoryError(
            f"{path}: to decode {header.width} x {header.height} pixels (mode {header.mode}) takes "
            f"{header.decoding_bytes / 1e9:.2f} GB, and runtime.memory_gb leaves each thread "
            f"{max(memory_bytes, 0) / 1e9:.2f}; raise it, lower runtime.threads, or make the "
            f"image smaller"
        )
    return header


def _pixel_hash(image: Image.Image) -> str:
    """Hash the pixels, some rows at a time: the whole would be copied twice."""
    digest = hashlib.sha256(str(image.size).encode())
    for top in range(0, image.height, 256):
        digest.update(image.crop((0, top, image.width, min(top + 256, image.height))).tobytes())
    return digest.hexdigest()


def _describe(
    root: Path, record: ImageRecord, memory_bytes: float
) -> tuple[ImageRecord, str, bool]:
    """Complete a record; return it with its pixels' hash, and whether they are of one colour."""
    path = root / record.path
    header = _header_within(path, memory_bytes)
    if min(header.width, header.height) < MIN_SIDE:
        raise ValueError(
            f"{path}: {header.width} x {header.height} pixels show nothing; give images of "
            f"{MIN_SIDE} x {MIN_SIDE} or more"
        )
    image = read_rgb(path)
    size = image.size if header.reduction == 1 else (header.width, header.height)
    pixels, flat = _pixel_hash(image), all(low == high for low, high in image.getextrema())
    del image  # before its mask is decoded
    mask_sha256 = ""
    if record.mask:
        _header_within(root / record.mask, memory_bytes)
        mask_sha256 = _check_mask(root / record.mask, size)
    described = replace(
        record,
        width=size[0],
        height=size[1],
        mode=header.mode,
        sha256=sha256_file(path),
        mask_sha256=mask_sha256,
    )
    return described, pixels, flat


def scan(
    root: str | Path, *, threads: int | None = None, memory_bytes: float = float("inf")
) -> list[ImageRecord]:
    """Validate a data set and describe every image in it.

    Every file is decoded once, so that a damaged one stops here and not in the middle of a run.

    Parameters
    ----------
    root : path
        The data set's folder, in one of the layouts.
    threads : int, optional
        Number of decoding threads; by default as many as cores.
    memory_bytes : float
        What decoding may take, all threads together.

    Returns
    -------
    list of ImageRecord
        Train before test, each sorted by id; the order never depends on the file system.

    Raises
    ------
    OSError, ValueError, MemoryError
        One line: what is wrong, where, and what to do.
    """
    root, threads = Path(root), threads or available_cores()
    layout = detect_layout(root)
    files = list_files(root)
    if layout == "competition":
        records = read_competition(root, files)
    else:
        records = read_mvtec(files) if layout == "mvtec" else read_published(layout, root, files)
    for split in ("train", "test"):
        if not any(r.split == split for r in records):
            raise ValueError(f"{root}: the {split} split has no images")
    refuse_duplicates((r.id for r in records), str(root))
    # Python sorts strings by code point: the same order for every locale and system.
    records.sort(key=lambda r: (r.split != "train", r.id))
    with chunk_map(threads) as run:
        found = list(run(lambda record: _describe(root, record, memory_bytes / threads), records))
    n_train = len(of_split(records, "train"))
    pictures, flat = {digest for _, digest, _ in found[:n_train]}, [f for *_, f in found[:n_train]]
    if all(flat) or (n_train > 1 and len(pictures) == 1):
        raise ValueError(
            f"{root}: all {n_train} training images are "
            f"{'of one colour' if all(flat) else 'the same picture'}, so every other one would be "
            f"flagged; give normal images that differ as real ones do"
        )
    return [record for record, *_ in found]

"""What the writer of a detector file and its readers agree on; NumPy and Pillow alone."""

import hashlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

from ad.images import InputRule

FORMAT = 4  # of the metadata
METADATA = "detector"  # their one key; a JSON text
OUTPUTS = ("patch_sums", "fold_sums", "image_sums", "flagged")
ZEROS = "0" * 64  # stands for the digest while it is taken


def image_section(rule: InputRule) -> dict[str, object]:
    """Return how a picture becomes pixels, as the metadata's ``image`` says it."""
    return {
        "size": list(rule.size),  # height and width of what the network takes at a time
        "tiles": rule.tiles,
        "resize": rule.resize,
        "region": rule.region and list(rule.region),
        "interpolation": rule.resample.name.lower(),
        "bits": rule.bits,
        "brightness": rule.brightness,
    }


def rule_of(image: Mapping[str, object]) -> InputRule:
    """Return what `image_section` was made of; mean and standard deviation are in the network."""
    return InputRule(
        tuple(image["size"]),
        image["resize"],
        resample=Image.Resampling[image["interpolation"].upper()],
        tiles=image["tiles"],
        region=image["region"] and tuple(image["region"]),
        bits=image["bits"],
        brightness=image["brightness"],
    )


def file_digest(data: bytes, digest: str) -> str:
    """Hash a detector file: SHA-256 of its bytes, the digest's own 64 characters as zeros."""
    return hashlib.sha256(data.replace(digest.encode(), ZEROS.encode())).hexdigest()


def sealed(data: bytes) -> bytes:
    """Put a file's digest where its metadata hold `ZEROS`."""
    return data.replace(ZEROS.encode(), file_digest(data, ZEROS).encode())


def probe_picture(height: int, width: int) -> np.ndarray:
    """Return the picture of the self-test: a pattern with noise, by 32-bit whole numbers alone.

    Returns
    -------
    array of uint8, shape (height, width, 3)
    """
    index = np.arange(height * width * 3, dtype=np.uint32)
    noise = index * np.uint32(2654435761)  # wraps; Knuth's multiplicative hash, mixed once more
    noise = (noise ^ (noise >> np.uint32(15))) * np.uint32(2246822519)
    noise = ((noise ^ (noise >> np.uint32(13))) & np.uint32(127)).reshape(height, width, 3)
    row, column = np.arange(height) * 128 // height, np.arange(width) * 128 // width
    return ((row[:, None, None] ^ column[None, :, None]) + noise).astype(np.uint8)


def sums_digest(patch_sums: np.ndarray, fold_sums: np.ndarray, image_sums: np.ndarray) -> str:
    """Hash a picture's outputs: SHA-256 of their int32 values, little-endian, one by one."""
    digest = hashlib.sha256()
    for sums in (patch_sums, fold_sums, image_sums):
        digest.update(np.ascontiguousarray(sums, dtype="<i4").tobytes())
    return digest.hexdigest()

"""Describe a run of any implementation in one small JSON file; needs NumPy and nothing else.

Copy this file beside your code and write what you have; leave out what you have not::

    record = {
        "parameters": {"backbone": "wide_resnet50_2", "image_size": 256},
        "ids": ids,                       # of all images, in the order in which the run took them
        "data": {i: file_hash(path) for i, path in zip(ids, paths)},
        "listing": {"test": listing("data/test")},
        "decoding": {i: decoding(rgb, tensor) for i, rgb, tensor in ...},
        "features": features(ids, array),             # (n_images, height, width, dim)
        "coresets": {"bank": coreset(rows)},          # rows of the patches, in greedy order
        "threshold": {"threshold": 0.5},
        "scores": dict(zip(test_ids, scores)),
        "submission": list(zip(test_ids, flags)),     # the rows as they were written
    }
    write_record("run.json", record)

``record.schema.json`` says what each field means.  ``python -m studies.gap compare a.json b.json``
says where two runs part first.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

FORMAT = "anomaly-detection run record 2"
HASH_DIGITS = 16  # 64 bits tell a few hundred images apart; whole hashes would fill the file
PICKS_KEPT = 200  # first picks of a coreset that are written out
FEATURES_SAMPLED = 16  # values of an image's features that are written out


def array_hash(array: np.ndarray) -> str:
    """Hash an array's dtype, shape and values."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()[:HASH_DIGITS]


def file_hash(path: str | Path) -> str:
    """Hash a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:HASH_DIGITS]


def listing(folder: str | Path) -> list[int]:
    """Return the system's own order of a folder, as positions in the sorted order."""
    names = [entry.name for entry in os.scandir(folder)]  # any order: it is the question
    rank = {name: position for position, name in enumerate(sorted(names))}
    return [rank[name] for name in names]


def decoding(pixels: np.ndarray, network_input: np.ndarray | None = None) -> dict[str, object]:
    """Describe one decoded image, and what the network was given of it.

    Parameters
    ----------
    pixels : array of uint8, shape (height, width, 3)
        Red, green, blue, before any resizing.
    network_input : array of float, shape (3, size, size)
    """
    found: dict[str, object] = {
        "pixels": array_hash(pixels),
        "channel_means": np.mean(pixels, axis=(0, 1), dtype=np.float64).tolist(),
    }
    if network_input is not None:
        means = np.mean(network_input, axis=(1, 2), dtype=np.float64)
        found |= {"input": array_hash(network_input), "input_means": means.tolist()}
    return found


def image_features(values: np.ndarray) -> dict[str, object]:
    """Hash one image's features and keep a few numbers that tell rounding from gross changes."""
    flat = np.ascontiguousarray(values).reshape(-1)
    where = np.linspace(0, flat.size - 1, FEATURES_SAMPLED).astype(int)
    return {
        "hash": array_hash(flat),
        "mean": float(flat.mean(dtype=np.float64)),
        "sd": float(flat.std(dtype=np.float64)),
        "max": float(flat.max()),
        "sample": [float(value) for value in flat[where]],
    }


def features(ids: Sequence[str], arrays: Sequence[np.ndarray]) -> dict[str, object]:
    """Describe the features of all images, in the order of ``ids``."""
    described = {name: image_features(a) for name, a in zip(ids, arrays, strict=True)}
    return {"shape": list(np.shape(arrays[0])), "images": described}


def coreset(picks: np.ndarray) -> dict[str, object]:
    """Describe a memory bank by the rows of patches that were picked, in their order."""
    picks = np.asarray(picks, dtype=np.int64)
    return {
        "hash": array_hash(picks), "size": len(picks), "first": picks[:PICKS_KEPT].tolist()
    }  # fmt: skip


def write_record(path: str | Path, record: Mapping[str, object]) -> None:
    """Write a record; NumPy's numbers become plain ones, NaN and infinity are refused."""

    def plain(value: object) -> object:
        return value.tolist()  # a NumPy number or array

    text = json.dumps({"format": FORMAT, **record}, indent=1, allow_nan=False, default=plain)
    Path(path).write_text(text + "\n", encoding="utf-8", newline="\n")

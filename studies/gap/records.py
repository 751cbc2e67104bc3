"""Describe a run in one small file of hashes and numbers, without images and without paths.

To record another implementation's run, copy this file, which needs Python and NumPy alone, beside
its code and write what there is; what a run does not know is left out::

    from records import *
    write_record("run.json", {
        "parameters": {"backbone": "wide_resnet50_2", "image_size": 256},
        "ids": ids,                          # in the order in which the run took the images
        "files": {i: file_hash(path) for i, path in zip(ids, paths)},
        "inputs": {i: summary(x) for i, x in zip(ids, inputs)},      # what the network was given
        "features": {i: summary(x) for i, x in zip(ids, features)},
        "banks": {"bank": bank(array)},      # (n_bank, dim), in the order of selection
        "threshold": 0.5,
        "scores": dict(zip(test_ids, scores)),
        "submission": list(zip(test_ids, flags)),    # the rows as they were written
    })

`studies.gap.compare.Record` lists all that a record may hold.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

FORMAT = "anomaly-detection run record 3"
ROWS_KEPT = 100  # first rows of a bank whose hashes are written out, to tell where banks part
SAMPLED = 16  # values of an array that are written out, to tell rounding from gross changes


def array_hash(array: np.ndarray) -> str:
    """Hash an array's dtype, shape and values; 64 bits tell a few hundred images apart."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def file_hash(path: str | Path) -> str:
    """Hash a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def listing(folder: str | Path) -> list[int]:
    """Return the system's own order of a folder, as positions in the sorted order."""
    names = [entry.name for entry in os.scandir(folder)]  # any order: it is the question
    rank = {name: position for position, name in enumerate(sorted(names))}
    return [rank[name] for name in names]


def summary(array: np.ndarray) -> dict[str, object]:
    """Hash one image's array; keep its mean, deviation and some values at evenly spread places."""
    array = np.asarray(array)
    where = np.linspace(0, array.size - 1, SAMPLED).astype(int)
    return {
        "hash": array_hash(array),
        "mean": float(array.mean(dtype=np.float64)),
        "sd": float(array.std(dtype=np.float64)),
        "sample": [float(value) for value in array.reshape(-1)[where]],
    }


def bank(array: np.ndarray) -> dict[str, object]:
    """Describe a memory bank, shape (n_bank, dim), rows in the order of selection."""
    rows = [array_hash(row)[:8] for row in array[:ROWS_KEPT]]
    return {"hash": array_hash(array), "size": len(array), "rows": rows}


def write_record(path: str | Path, record: Mapping[str, object]) -> None:
    """Write a record; NumPy's numbers become plain ones, NaN and infinity are refused."""
    text = json.dumps(
        {"format": FORMAT, **record}, indent=1, allow_nan=False, default=lambda own: own.tolist()
    )
    Path(path).write_text(text + "\n", encoding="utf-8", newline="\n")


def record_run(root: Path, images: Path) -> dict[str, object]:
    """Describe the finished run of this repository.

    Parameters
    ----------
    root : path
        The folder that holds ``artifacts/`` and ``dvc.lock``.
    images : path
        The images' folder; without it the record lacks what only images tell.

    Raises
    ------
    FileNotFoundError
        When an artifact is missing; the message names it.
    """
    import yaml  # here, so that a copy of this file needs NumPy alone

    from ad.data import of_split, read_manifest
    from ad.files import load_array, read_csv, read_json
    from ad.images import read_rgb

    artifacts = root / "artifacts"
    try:
        manifest = read_manifest(artifacts / "manifest.csv")
        stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
        weights = read_json(artifacts / "features.json")["weights"]
        features = [load_array(artifacts / f"features/{split}.npy") for split in ("train", "test")]
        validation, tests, submission = (
            read_csv(artifacts / f"{name}.csv")
            for name in ("validation_scores", "test_scores", "submission")
        )
        ids = [each.id for split in ("train", "test") for each in of_split(manifest, split)]
        banks = sorted((artifacts / "banks").glob("fold_*[0-9].npy"))
        record = {
            "parameters": _flat(stage.get("params", {}).get("params.yaml", {}) for stage in stages),
            "ids": ids,
            "files": {each.id: each.sha256[:16] for each in manifest},
            "weights": {key: weights[key] for key in ("backbone", "source", "sha256")},
            "features": dict(zip(ids, (summary(x) for own in features for x in own), strict=True)),
            "folds": file_hash(artifacts / "folds.csv"),
            "banks": {path.stem: bank(load_array(path)) for path in banks},
            "validation": {row["id"]: float(row["score"]) for row in validation},
            "threshold": read_json(artifacts / "threshold.json")["threshold"],
            "scores": {row["id"]: float(row["score"]) for row in tests},
            "submission": [(row["id"], int(row["label"])) for row in submission],
            "quality": read_json(root / "metrics" / "evaluate.json"),
        }
    except FileNotFoundError as error:
        path = error.filename
        raise FileNotFoundError(f"{path}: no finished run here; run 'dvc repro'") from None
    if (artifacts / "environment.json").is_file():  # it is no output of DVC's: a pull lacks it
        record["environment"] = read_json(artifacts / "environment.json")
    if images.is_dir():
        folders = sorted({each.path.rpartition("/")[0] for each in manifest})
        record["listing"] = {folder: listing(images / folder) for folder in folders}
        record["pixels"] = {
            each.id: summary(np.asarray(read_rgb(images / each.path))) for each in manifest
        }
    return record


def _flat(stages: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Bring the stages' sections to one dictionary by ``section.key``."""
    found: dict[str, object] = {}
    for name, value in (item for stage in stages for item in stage.items()):
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        found |= {f"{name}.{key}".rstrip("."): each for key, each in inner}
    return found

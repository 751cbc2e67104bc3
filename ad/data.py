"""The list of a data set's images, in one order on every machine."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ad.files import read_csv, read_json, write_csv

NORMAL, ANOMALOUS = 0, 1


@dataclass(frozen=True)
class ImageRecord:
    """One image of the data set; ``path`` and ``mask`` are relative to it, with forward slashes.

    ``width`` and ``height`` are those of the upright image, in pixels.
    """

    id: str
    path: str
    split: str  # "train" or "test"
    label: int | None  # 0 normal, 1 anomalous, None unknown: scored, but never counted
    defect: str | None
    mask: str | None
    width: int = 0
    height: int = 0
    mode: str = ""
    sha256: str = ""
    mask_sha256: str = ""


def write_manifest(path: str | Path, records: Sequence[ImageRecord]) -> None:
    """Write the records as CSV; an unknown label, defect or mask is an empty cell."""
    write_csv(path, [f.name for f in fields(ImageRecord)], (astuple(r) for r in records))


def read_manifest(path: str | Path) -> list[ImageRecord]:
    """Read what `write_manifest` wrote."""
    records = []
    for row in read_csv(path):
        optional = {key: row[key] or None for key in ("defect", "mask")}
        numbers = {key: int(row[key]) for key in ("width", "height")}
        label = int(row["label"]) if row["label"] else None
        records.append(ImageRecord(**{**row, **optional, **numbers, "label": label}))
    return records


def of_split(records: Sequence[ImageRecord], split: str) -> list[ImageRecord]:
    """Return the records of ``"train"`` or ``"test"``, in order."""
    return [r for r in records if r.split == split]


def submission_order(root: str | Path, records: Sequence[ImageRecord]) -> list[str]:
    """Return the test ids in the order of ``sample_submission.csv``; sorted where there is none."""
    sample = Path(root) / "sample_submission.csv"
    if sample.is_file():
        return [row["id"] for row in read_csv(sample)]
    return [r.id for r in of_split(records, "test")]


def directory_hash(folder: str | Path) -> str:
    """Return the hash that DVC gives a folder, as it stands in a ``.dvc`` file or in ``dvc.lock``.

    It is the MD5 of a JSON list of every file's MD5 and path, sorted by path.
    """
    folder, listed = Path(folder), []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                md5 = hashlib.file_digest(stream, "md5").hexdigest()
            listed.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
    listed.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def read_about(folder: str | Path) -> dict[str, str]:
    """Return a data set's name, source, licence and attribution; empty where it says none."""
    path = Path(folder) / "about.json"
    found = read_json(path) if path.is_file() else {}
    unsaid = {"name": "Your own images", "source": "", "licence": "", "attribution": ""}
    return unsaid | {key: str(found[key]) for key in unsaid if key in found}

"""List a data set's files and read either layout (see `ad.scan`); nothing is decoded here."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

from ad.data import ANOMALOUS, NORMAL, ImageRecord
from ad.files import read_csv
from ad.images import SUFFIXES

MARKS = {
    "competition": "train.csv",
    "mvtec_ad_2": "test_public",
    "mvtec": "train/good",
    "btad": "train/ok",
    "visa": "Data/Images/Normal",
}
# As a defect's name these say that there is none.
NORMAL_WORDS = ("good", "normal", "none", "ok")
# Line breaks and the like would break every table and message that names the image.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def list_files(root: str | Path) -> list[str]:
    """List every file below a folder, in one order on every system.

    Links are followed, each folder once.  Nothing is opened: reading a pipe would wait forever.

    Returns
    -------
    list of str
        Paths relative to ``root``, with forward slashes, sorted.

    Raises
    ------
    OSError, ValueError
        At a folder that cannot be read, a name that is not UTF-8 or has control characters, and
        at what is neither file nor folder.
    """
    root = Path(root)
    files, folders, seen = [], [""], {}
    while folders:
        folder = folders.pop()
        whole = (root / folder).resolve()
        if whole in seen:
            raise ValueError(
                f"{root / folder}: by a link the same folder as {seen[whole]}; remove one of them"
            )
        seen[whole] = root / folder
        try:
            with os.scandir(root / folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)  # any order: sorted here
        except OSError as error:
            raise OSError(
                f"{root / folder}: cannot be listed ({error.strerror}); make it readable, "
                f"or take it out of the data set"
            ) from None
        for entry in listed:
            name = f"{folder}/{entry.name}".lstrip("/")
            _refuse_odd_name(root / folder, entry.name)
            path = root / name  # asked instead of the entry, which raises at a link to itself
            if path.is_dir():
                folders.append(name)
            elif path.is_file():
                files.append(name)
            else:
                raise ValueError(
                    f"{path}: neither a file nor a folder (a pipe, a device or a broken "
                    f"link); remove it"
                )
    return sorted(files)


def _refuse_odd_name(folder: Path, name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{folder}: the name {name!a} is not UTF-8; rename it") from None
    if CONTROL.search(name):
        raise ValueError(f"{folder}: the name {name!a} has a control character; rename it")


def _images_below(files: Iterable[str], folder: str) -> list[PurePosixPath]:
    """Pick the images below a folder of the data set; what is no image is passed over.

    An image in a format that is not read is an error.
    """
    known = Image.registered_extensions()
    below = (PurePosixPath(name) for name in files if name.startswith(f"{folder}/"))
    images = [p for p in below if p.suffix.lower() in known and p.name[0] != "."]
    for path in images:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"{path}: images of this format are not read; convert it to one of "
                f"{', '.join(SUFFIXES)}, or remove it"
            )
    return images


def detect_layout(root: str | Path) -> str:
    """Tell the layouts apart: the names of `MARKS`.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is no such folder, or it has neither layout.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root}: no data here; 'dvc pull data.dvc' brings the embedded set, "
            f"'make data FROM=<folder>' your own"
        )
    found = next((name for name, mark in MARKS.items() if (root / mark).exists()), None)
    if found is None:
        raise ValueError(
            f"{root}: neither MVTec AD (no train/good/) nor competition layout (no train.csv); "
            f"the README shows these and the others"
        )
    return found


def _refuse_contradiction(label: int, defect: str | None, where: str) -> None:
    if defect and (label == ANOMALOUS) == (defect.lower() in NORMAL_WORDS):
        raise ValueError(
            f"{where}: label {label} contradicts the defect {defect!r}; write 'good' or nothing "
            f"for a normal image (label 0), the defect's name for an anomalous one (label 1)"
        )


def _mvtec_record(path: PurePosixPath, split: str, files: set[str]) -> ImageRecord:
    if len(path.parts) != 3:
        raise ValueError(f"{path}: expected {split}/<good or defect>/<file>; move it")
    defect = path.parts[1]
    label = NORMAL if defect == "good" else ANOMALOUS
    if split == "train" and label == ANOMALOUS:
        raise ValueError(
            f"{path}: an anomalous training image; training takes normal ones only (train/good)"
        )
    _refuse_contradiction(label, defect, str(path))
    names = [f"ground_truth/{defect}/{path.stem}{ending}" for ending in ("_mask.png", ".png")]
    masks = [name for name in names if label == ANOMALOUS and name in files]
    return ImageRecord(
        id=str(path.with_suffix("")),
        path=str(path),
        split=split,
        label=label,
        defect=defect,
        mask=masks[0] if masks else None,
    )


def read_mvtec(files: Sequence[str]) -> list[ImageRecord]:
    """Read the MVTec AD layout from the list of its files."""
    present = set(files)
    records = [
        _mvtec_record(path, split, present)
        for split in ("train", "test")
        for path in _images_below(files, split)
    ]
    anomalous = [r for r in records if r.label == ANOMALOUS]
    unmasked = [r.id for r in anomalous if r.mask is None]
    if unmasked and len(unmasked) < len(anomalous):
        raise ValueError(
            f"ground_truth/: {len(unmasked)} of {len(anomalous)} anomalous images have no mask, "
            f"first {unmasked[0]}; give all of them masks or none"
        )
    masks = _images_below(files, "ground_truth")
    _refuse_differences(
        (str(mask) for mask in masks if mask.parts[1] != "good"),
        [r.mask for r in anomalous],
        "ground_truth/: a mask without its image, test/<defect>/<name> for "
        "ground_truth/<defect>/<name>_mask.png; rename or remove it",
    )
    return records


def _label(value: str, where: str) -> int:
    if value.strip() not in ("0", "1"):
        raise ValueError(f"{where}: label {value!r} is neither 0 (normal) nor 1 (anomalous)")
    return int(value)


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV whose first column is a unique id."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.name}: missing from {path.parent}; the layout needs it")
    rows = read_csv(path)
    for number, row in enumerate(rows, start=1):
        where = f"{path.name}, row {number} below the header"
        without = [name for name in columns if name not in row]
        if without:
            raise ValueError(
                f"{path.name}: no column {', '.join(without)} in its header "
                f"{','.join(map(str, row))!r}; write {','.join(columns)}, separated by commas"
            )
        absent = [name for name in columns if not (row[name] or "").strip()]
        if absent:
            raise ValueError(
                f"{where}: no value for {', '.join(absent)}; fill it in or drop the row"
            )
        if None in row:
            raise ValueError(
                f"{where}: more cells than columns, {','.join(row[None])!r}; put a text that has "
                f"a comma in quotes"
            )
        odd = [name for name in row if CONTROL.search(row[name] or "")]
        if odd:
            raise ValueError(
                f"{where}: a control character in {odd[0]}, {row[odd[0]]!r}; remove it"
            )
    refuse_duplicates((row["id"] for row in rows), path.name)
    return rows


def refuse_duplicates(values: Iterable[str], where: str, what: str = "id") -> None:
    """Refuse a value that stands twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{where}: {what} {value!r} stands there twice; keep one of them")
        seen.add(value)


def _refuse_differences(found: Iterable[str], expected: Iterable[str], words: str) -> None:
    extra = sorted(set(found) - set(expected))
    if extra:
        raise ValueError(
            f"{words}: {extra[0]!r}" + (f" and {len(extra) - 1} more" * (len(extra) > 1))
        )


def _competition_record(
    row: dict[str, str], split: str, files: set[str], answer: dict[str, str] | None
) -> ImageRecord:
    where = f"{split}.csv, id {row['id']!r}"
    path = PurePosixPath(row["img_path"].replace("\\", "/"))
    if PureWindowsPath(path).anchor or ".." in path.parts:  # C:/, //server/ and / alike
        raise ValueError(f"{where}: img_path {row['img_path']!r} leads out of the data set")
    if str(path) not in files:
        raise FileNotFoundError(f"{where}: {path} does not exist; restore it or drop the row")
    label, defect = None, None
    if split == "train":
        label = _label(row["label"], where)
        if label == ANOMALOUS:
            raise ValueError(f"{where}: label 1; training takes normal images (label 0) only")
    elif answer is not None:
        where = f"test_labels.csv, id {row['id']!r}"
        label = _label(answer["label"], where)
        defect = (answer.get("defect") or "").strip() or None
        _refuse_contradiction(label, defect, where)
    return ImageRecord(row["id"], str(path), split, label, defect, None)


def read_competition(root: Path, files: Sequence[str]) -> list[ImageRecord]:
    """Read the competition layout: its tables, and the list of its files."""
    present, records = set(files), []
    answers: dict[str, dict[str, str]] | None = None
    if "test_labels.csv" in present:
        answers = {row["id"]: row for row in _rows(root / "test_labels.csv", ("id", "label"))}
    for split in ("train", "test"):
        columns = ("id", "img_path", "label") if split == "train" else ("id", "img_path")
        own = [
            _competition_record(row, split, present, (answers or {}).get(row["id"]))
            for row in _rows(root / f"{split}.csv", columns)
        ]
        _refuse_differences(
            map(str, _images_below(files, split)),
            [r.path for r in own],
            f"{split}/: an image without a row in {split}.csv; add the row or remove the file",
        )
        records += own
    refuse_duplicates((r.path for r in records), "train.csv and test.csv", "img_path")
    test_ids = [r.id for r in records if r.split == "test"]
    sample_ids = [row["id"] for row in _rows(root / "sample_submission.csv", ("id",))]
    tables = {"sample_submission.csv": sample_ids}
    if answers is not None:
        tables["test_labels.csv"] = list(answers)
    for name, ids in tables.items():
        _refuse_differences(ids, test_ids, f"{name}: remove the id that test.csv lacks")
        _refuse_differences(test_ids, ids, f"{name}: add the id of test.csv that it lacks")
    return records

"""Recognise and validate a data set, and list its images in one order on every machine.

Two layouts are known:

MVTec AD
    ``train/good/*``, ``test/<defect>/*`` and, optionally, ``ground_truth/<defect>/*_mask.png``.
competition
    ``train.csv`` (``id,img_path,label``), ``test.csv`` (``id,img_path``),
    ``sample_submission.csv`` (``id,label``), ``train/``, ``test/`` and, optionally,
    ``test_labels.csv`` (``id,label[,defect]``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

from ad.determinism import sha256_file
from ad.files import read_csv, write_csv
from ad.images import SUFFIXES, image_mode, is_defect, read_rgb
from ad.parallel import chunk_map

NORMAL, ANOMALOUS = 0, 1


@dataclass(frozen=True)
class ImageRecord:
    """One image of the data set; ``path`` and ``mask`` are relative to it, with forward slashes.

    ``width`` and ``height`` are those of the upright image, in pixels.
    """

    id: str
    path: str
    split: str  # "train" or "test"
    label: int | None  # 0 normal, 1 anomalous, None unknown
    defect: str | None
    mask: str | None
    width: int = 0
    height: int = 0
    mode: str = ""
    sha256: str = ""
    mask_sha256: str = ""


def _images_below(folder: Path) -> list[Path]:
    """List the image files below ``folder``, sorted by their relative path on every system.

    An image in a format that is not read is an error; what is no image is passed over.
    """
    if not folder.is_dir():
        return []
    known = Image.registered_extensions()
    images = sorted(
        (p for p in folder.rglob("*") if p.suffix.lower() in known and p.name[0] != "."),
        key=lambda p: p.relative_to(folder).as_posix(),
    )  # fmt: skip
    for path in images:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"{path}: images of this format are not read; convert it to one of "
                f"{', '.join(SUFFIXES)}, or remove it"
            )
    return images


def detect_layout(root: str | Path) -> str:
    """Tell ``"mvtec"`` or ``"competition"`` apart.

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
    if (root / "train.csv").is_file():
        return "competition"
    if (root / "train" / "good").is_dir():
        return "mvtec"
    raise ValueError(
        f"{root}: neither MVTec AD (no train/good/) nor competition layout (no train.csv); "
        f"the README shows both"
    )


def _scan_mvtec(root: Path) -> list[ImageRecord]:
    records = []
    for split in ("train", "test"):
        for path in _images_below(root / split):
            relative = path.relative_to(root)
            if len(relative.parts) != 3:
                raise ValueError(
                    f"{relative.as_posix()}: expected {split}/<good or defect>/<file>; move it"
                )
            defect = relative.parts[1]
            if split == "train" and defect != "good":
                raise ValueError(
                    f"{relative.as_posix()}: an anomalous training image; "
                    f"training takes normal ones only (train/good)"
                )
            mask = None
            if defect != "good":
                candidates = [
                    candidate.relative_to(root).as_posix()
                    for name in (f"{path.stem}_mask.png", f"{path.stem}.png")
                    if (candidate := root / "ground_truth" / defect / name).is_file()
                ]
                mask = candidates[0] if candidates else None
            records.append(
                ImageRecord(
                    id=relative.with_suffix("").as_posix(),
                    path=relative.as_posix(),
                    split=split,
                    label=int(defect != "good"),
                    defect=defect,
                    mask=mask,
                )
            )
    anomalous = [r for r in records if r.label == ANOMALOUS]
    unmasked = [r.id for r in anomalous if r.mask is None]
    if unmasked and len(unmasked) < len(anomalous):
        raise ValueError(
            f"ground_truth/: {len(unmasked)} of {len(anomalous)} anomalous images have no mask, "
            f"first {unmasked[0]}; give all of them masks or none"
        )
    masks = [p.relative_to(root) for p in _images_below(root / "ground_truth")]
    _refuse_differences(
        (mask.as_posix() for mask in masks if mask.parts[1] != "good"),
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
        without = [name for name in columns if name not in row]
        if without:
            raise ValueError(
                f"{path.name}: no column {', '.join(without)} in its header "
                f"{','.join(map(str, row))!r}; write {','.join(columns)}, separated by commas"
            )
        absent = [name for name in columns if not (row[name] or "").strip()]
        if absent:
            raise ValueError(
                f"{path.name}, row {number} below the header: no value for {', '.join(absent)}; "
                f"fill it in or drop the row"
            )
        if None in row:
            raise ValueError(
                f"{path.name}, row {number} below the header: more cells than columns, "
                f"{','.join(row[None])!r}; put a text that has a comma in quotes"
            )
    _refuse_duplicates((row["id"] for row in rows), path.name)
    return rows


def _refuse_duplicates(values: Iterable[str], where: str, what: str = "id") -> None:
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


def _scan_competition(root: Path) -> list[ImageRecord]:
    records = []
    answers: dict[str, dict[str, str]] | None = None
    if (root / "test_labels.csv").is_file():
        answers = {row["id"]: row for row in _rows(root / "test_labels.csv", ("id", "label"))}
    for split in ("train", "test"):
        columns = ("id", "img_path", "label") if split == "train" else ("id", "img_path")
        rows = _rows(root / f"{split}.csv", columns)
        for row in rows:
            where = f"{split}.csv, id {row['id']!r}"
            path = PurePosixPath(row["img_path"].replace("\\", "/"))
            if PureWindowsPath(path).anchor or ".." in path.parts:  # C:/, //server/ and / alike
                raise ValueError(f"{where}: img_path {row['img_path']!r} leads out of the data set")
            if not (root / path).is_file():
                raise FileNotFoundError(
                    f"{where}: {path} does not exist; restore it or drop the row"
                )
            label, defect = None, None
            if split == "train":
                label = _label(row["label"], where)
                if label == ANOMALOUS:
                    raise ValueError(
                        f"{where}: label 1; training takes normal images (label 0) only"
                    )
            elif answers is not None and row["id"] in answers:
                answer = answers[row["id"]]
                label = _label(answer["label"], f"test_labels.csv, id {row['id']!r}")
                defect = (answer.get("defect") or "").strip() or None
            records.append(ImageRecord(row["id"], path.as_posix(), split, label, defect, None))
        in_rows = [r.path for r in records if r.split == split]
        on_disk = [p.relative_to(root).as_posix() for p in _images_below(root / split)]
        _refuse_differences(
            on_disk,
            in_rows,
            f"{split}/: an image without a row in {split}.csv; add the row or remove the file",
        )
    _refuse_duplicates((r.path for r in records), "train.csv and test.csv", "img_path")
    test_ids = [r.id for r in records if r.split == "test"]
    sample_ids = [row["id"] for row in _rows(root / "sample_submission.csv", ("id",))]
    tables = {"sample_submission.csv": sample_ids}
    if answers is not None:
        tables["test_labels.csv"] = list(answers)
    for name, ids in tables.items():
        _refuse_differences(ids, test_ids, f"{name}: remove the id that test.csv lacks")
        _refuse_differences(test_ids, ids, f"{name}: add the id of test.csv that it lacks")
    return records


def _check_mask(path: Path, image_size: tuple[int, int]) -> str:
    """Refuse a mask of another size than its image's or without a defect; return its hash."""
    mask = read_rgb(path)
    if mask.size != image_size:
        raise ValueError(
            f"{path}: the mask is {mask.width} x {mask.height} pixels, its image "
            f"{image_size[0]} x {image_size[1]}; make them the same"
        )
    if not is_defect(mask).any():
        raise ValueError(f"{path}: no value above 127; draw the defect in white (255) on black (0)")
    return sha256_file(path)


def scan(root: str | Path, *, threads: int | None = None) -> list[ImageRecord]:
    """Validate a data set and describe every image in it.

    Every file is decoded once, so that a damaged one stops here and not in the middle of a run.

    Parameters
    ----------
    root : path
        The data set's folder, in either layout.
    threads : int, optional
        Number of decoding threads.

    Returns
    -------
    list of ImageRecord
        Train before test, each sorted by id; the order never depends on the file system.

    Raises
    ------
    FileNotFoundError, ValueError
        One line: what is wrong, where, and what to do.
    """
    root = Path(root)
    layout = detect_layout(root)
    records = _scan_mvtec(root) if layout == "mvtec" else _scan_competition(root)
    for split in ("train", "test"):
        if not any(r.split == split for r in records):
            raise ValueError(f"{root}: the {split} split has no images")
    _refuse_duplicates((r.id for r in records), str(root))
    # Python sorts strings by code point: the same order for every locale and system.
    records.sort(key=lambda r: (r.split != "train", r.id))

    def describe(record: ImageRecord) -> ImageRecord:
        path = root / record.path
        size = read_rgb(path).size
        mask_sha256 = _check_mask(root / record.mask, size) if record.mask else ""
        return replace(
            record,
            width=size[0],
            height=size[1],
            mode=image_mode(path),
            sha256=sha256_file(path),
            mask_sha256=mask_sha256,
        )

    with chunk_map(threads) as run:
        return list(run(describe, records))


def write_manifest(path: str | Path, records: Sequence[ImageRecord]) -> None:
    """Write the records as CSV; an unknown label, defect or mask is an empty cell."""
    write_csv(path, [f.name for f in fields(ImageRecord)], (astuple(r) for r in records))


def read_manifest(path: str | Path) -> list[ImageRecord]:
    """Read what `write_manifest` wrote."""
    return [
        ImageRecord(
            id=row["id"],
            path=row["path"],
            split=row["split"],
            label=int(row["label"]) if row["label"] else None,
            defect=row["defect"] or None,
            mask=row["mask"] or None,
            width=int(row["width"]),
            height=int(row["height"]),
            mode=row["mode"],
            sha256=row["sha256"],
            mask_sha256=row["mask_sha256"],
        )
        for row in read_csv(path)
    ]


def of_split(records: Sequence[ImageRecord], split: str) -> list[ImageRecord]:
    """Return the records of ``"train"`` or ``"test"``, in order."""
    return [r for r in records if r.split == split]


def submission_order(root: str | Path, records: Sequence[ImageRecord]) -> list[str]:
    """Return the test ids in the order of ``sample_submission.csv``; sorted where there is none."""
    sample = Path(root) / "sample_submission.csv"
    if sample.is_file():
        return [row["id"] for row in read_csv(sample)]
    return [r.id for r in of_split(records, "test")]

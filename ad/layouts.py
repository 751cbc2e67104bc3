"""Read the layouts that a folder of images may have; no image is decoded here (see `ad.scan`).

mvtec
    ``train/good/*``, ``test/good/*``, ``test/<defect>/*`` and, optionally,
    ``ground_truth/<defect>/*_mask.png``.  Folders below ``test/`` that begin with "unknown" have
    no label.  Without ``test/`` there are training images only.
competition
    ``train.csv`` (``id,img_path,label``), ``test.csv`` (``id,img_path``),
    ``sample_submission.csv`` (``id,label``), ``train/``, ``test/`` and, optionally,
    ``test_labels.csv`` (``id,label[,defect]``).
normals
    Pictures of normal parts only, in the folder itself or in ``good/``.
visa, btad, mvtec_ad_2
    A category as it is distributed.  Its files get the names that MVTec AD would give them.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from ad.data import ANOMALOUS, NORMAL, ImageRecord
from ad.files import read_csv
from ad.images import SUFFIXES

MARKS = {
    "train.csv": "competition",
    "test_public": "mvtec_ad_2",
    "train/good": "mvtec",
    "test/good": "mvtec",
    "train/ok": "btad",
    "Data/Images/Normal": "visa",
}
# Which folders become which of MVTec AD's. MVTec AD 2 keeps its validation/ and its test images
# without labels; neither is used: the protocol splits the normals itself.
RENAMED = {
    "mvtec": {"train/": "train/", "test/": "test/", "ground_truth/": "ground_truth/"},
    "mvtec_ad_2": {
        "train/good/": "train/good/",
        "test_public/good/": "test/good/",
        "test_public/bad/": "test/bad/",
        "test_public/ground_truth/": "ground_truth/",
    },
    "btad": {
        "train/ok/": "train/good/",
        "test/ok/": "test/good/",
        "test/ko/": "test/ko/",
        "ground_truth/ko/": "ground_truth/ko/",
    },
    "normals": {"good/": "train/good/", "": "train/good/"},
}
VISA_SPLIT = "split_csv/1cls.csv"
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
# As a defect's name these say that there is none.
NORMAL_WORDS = ("good", "normal", "none", "ok")
# Line breaks and the like would break every table and message that names the image.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def list_files(root: str | Path) -> tuple[list[str], Counter]:
    """List every file below a folder, in one order on every system.

    Links are followed, each folder once.  Nothing is opened: reading a pipe would wait forever.
    What begins with a dot or @ (``.ipynb_checkpoints``, ``@eaDir``) is passed over.

    Returns
    -------
    files : list of str
        Paths relative to ``root``, with forward slashes, sorted.
    passed : Counter
        Names of the files and folders that were passed over.

    Raises
    ------
    OSError, ValueError
        At a folder that cannot be read, a name that is not UTF-8 or has control characters, and
        at what is neither file nor folder.
    """
    root, passed = Path(root), Counter()
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
            names = sorted(path.name for path in (root / folder).iterdir())
        except OSError as error:
            raise OSError(
                f"{root / folder}: cannot be listed ({error.strerror}); make it readable, "
                f"or take it out of the data set"
            ) from None
        for name in names:
            if name[0] in ".@":
                passed["._*" if name.startswith("._") else name] += 1
                continue
            _refuse_odd_name(root / folder, name)
            path = root / folder / name
            if path.is_dir():
                folders.append(f"{folder}/{name}".lstrip("/"))
            elif path.is_file():
                files.append(f"{folder}/{name}".lstrip("/"))
            else:
                raise ValueError(
                    f"{path}: neither a file nor a folder (a pipe, a device or a broken "
                    f"link); remove it"
                )
    return sorted(files), passed


def _refuse_odd_name(folder: Path, name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{folder}: the name {name!a} is not UTF-8; rename it") from None
    if CONTROL.search(name):
        raise ValueError(f"{folder}: the name {name!a} has a control character; rename it")


def detect_layout(root: str | Path) -> str:
    """Return the name of a folder's layout.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is no such folder, or it has no layout; the line says which folder to give.
    """
    root = Path(root)
    if root.is_file():
        raise ValueError(f"{root}: a file, not a folder; unpack it and give the folder inside")
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root}: no such folder; 'make inputs' lays out the default images as data/, "
            f"'make data FROM=<folder>' installs your own"
        )
    found = _marked(root)
    if found:
        return found
    if root.name in ("train", "test", "good", "ok", "ground_truth"):
        above = next((p for p in root.resolve().parents[:2] if _marked(p)), None)
        if above:
            raise ValueError(f"{root}: only a part of the data set {above}; give that folder")
    entries = [path for path in sorted(root.iterdir()) if path.name[0] not in ".@"]
    folders = [path for path in entries if path.is_dir()]
    sets = [path.name for path in folders if _marked(path)]
    if sets:
        raise ValueError(
            f"{root}: holds data sets, not images; give one of them: {', '.join(sets[:5])}"
            + ", ..." * (len(sets) > 5)
        )
    pictures = [path for path in entries if path.suffix.lower() in SUFFIXES]
    if pictures or [path.name for path in folders] == ["good"]:
        return "normals"
    raise ValueError(
        f"{root}: neither MVTec AD (no train/good/) nor competition layout (no train.csv) nor "
        f"pictures of normal parts only; the README shows these and the others"
    )


def _marked(root: Path) -> str | None:
    return next((layout for mark, layout in MARKS.items() if (root / mark).exists()), None)


def read_layout(root: str | Path) -> tuple[list[ImageRecord], Counter]:
    """Read a folder's images, splits, labels and masks from its names and tables.

    Returns
    -------
    records : list of ImageRecord
        Train before test, each sorted by id.
    passed : Counter
        What was passed over: hidden names, and endings that are not read.

    Raises
    ------
    OSError, ValueError
        One line: what is wrong, where, and what to do.
    """
    root = Path(root)
    layout = detect_layout(root)
    files, passed = list_files(root)
    if layout == "competition":
        records, used = _read_competition(root, files), _below(files, "train/", "test/")
    else:
        used = _visa_names(root, files) if layout == "visa" else _renamed(files, RENAMED[layout])
        records = _read_mvtec({n: own for n, own in used.items() if _is_image(own)})
    passed += Counter(
        PurePosixPath(own).suffix.lower() or "no ending"
        for own in used.values()
        if not _is_image(own) and own != "about.json"
    )
    _refuse_duplicates((r.id for r in records), str(root))
    # Python sorts strings by code point: the same order for every locale and system.
    return sorted(records, key=lambda r: (r.split != "train", r.id)), passed


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _below(files: Iterable[str], *folders: str) -> dict[str, str]:
    return {name: name for name in files if name.startswith(folders)}


def _renamed(files: Iterable[str], folders: dict[str, str]) -> dict[str, str]:
    """Map MVTec AD's names to the files' own."""
    names = {}
    for file in files:
        own = next((folder for folder in folders if file.startswith(folder)), None)
        if own is not None:
            name = folders[own] + file.removeprefix(own)
            if name in names:
                raise ValueError(f"{file}: has the name of {names[name]}; rename one of them")
            names[name] = file
    return names


# MVTec AD


def _read_mvtec(names: dict[str, str]) -> list[ImageRecord]:
    """Read images under MVTec AD's names, each with its own; masks may have another ending."""
    masks = {}
    for name, own in names.items():
        if name.startswith("ground_truth/"):
            path = PurePosixPath(name)
            key = _look(f"{path.parent.name}/{path.stem.removesuffix('_mask')}")
            if key in masks:
                raise ValueError(f"{own}: a second mask beside {masks[key]}; keep one of them")
            masks[key] = own
    records = [
        _mvtec_record(PurePosixPath(name), own, masks)
        for name, own in names.items()
        if name.startswith(("train/", "test/"))
    ]
    anomalous = [r for r in records if r.label == ANOMALOUS]
    unmasked = sorted(r.id for r in anomalous if r.mask is None)
    if unmasked and len(unmasked) < len(anomalous):
        raise ValueError(
            f"ground_truth/: {len(unmasked)} of {len(anomalous)} anomalous images have no mask, "
            f"first {unmasked[0]}; give all of them masks or none"
        )
    _refuse_differences(
        [own for key, own in masks.items() if not key.startswith("good/")],
        [r.mask for r in anomalous],
        "ground_truth/: a mask without its image, test/<defect>/<name> for "
        "ground_truth/<defect>/<name>_mask.png; rename or remove it",
    )
    return records


def _look(name: str) -> str:
    """Compose letters: macOS decomposes them in file names, and both look the same."""
    return unicodedata.normalize("NFC", name)


def _mvtec_record(path: PurePosixPath, own: str, masks: dict[str, str]) -> ImageRecord:
    if len(path.parts) != 3:
        raise ValueError(f"{own}: expected {path.parts[0]}/<good or defect>/<file>; move it")
    split, defect, _ = path.parts
    label = NORMAL if defect == "good" else ANOMALOUS
    if split == "test" and defect.startswith("unknown"):
        label = None
    if label == ANOMALOUS and defect.lower() in NORMAL_WORDS:
        raise ValueError(
            f"{own}: normal images are read from {split}/good, in these letters; rename the "
            f"folder {defect!r}, or call it by its defect"
        )
    if split == "train" and label == ANOMALOUS:
        raise ValueError(
            f"{own}: an anomalous training image; training takes normal ones only (train/good)"
        )
    mask = masks.get(_look(f"{defect}/{path.stem}")) if label == ANOMALOUS else None
    return ImageRecord(str(path.with_suffix("")), own, split, label, defect, mask)


# The competition


def _read_competition(root: Path, files: Sequence[str]) -> list[ImageRecord]:
    """Read the tables, and hold them against the files."""
    by_name = {_look(name): name for name in files} | {name: name for name in files}
    records, answers = [], None
    if "test_labels.csv" in by_name:
        answers = {row["id"]: row for row in _rows(root / "test_labels.csv", ("id", "label"))}
    for split in ("train", "test"):
        columns = ("id", "img_path", "label") if split == "train" else ("id", "img_path")
        own = [
            _competition_record(row, split, by_name, (answers or {}).get(row["id"]))
            for row in _rows(root / f"{split}.csv", columns)
        ]
        _refuse_differences(
            filter(_is_image, _below(files, f"{split}/")),
            [r.path for r in own],
            f"{split}/: an image without a row in {split}.csv; add the row or remove the file",
        )
        records += own
    _refuse_duplicates((r.path for r in records), "train.csv and test.csv", "img_path")
    test_ids = [r.id for r in records if r.split == "test"]
    tables = {"sample_submission.csv": [r["id"] for r in _rows(root / "sample_submission.csv")]}
    if answers is not None:
        tables["test_labels.csv"] = list(answers)
    for name, ids in tables.items():
        _refuse_differences(ids, test_ids, f"{name}: remove the id that test.csv lacks")
        _refuse_differences(test_ids, ids, f"{name}: add the id of test.csv that it lacks")
    return records


def _competition_record(
    row: dict[str, str], split: str, by_name: dict[str, str], answer: dict[str, str] | None
) -> ImageRecord:
    where = f"{split}.csv, id {row['id']!r}"
    path = PurePosixPath(row["img_path"].replace("\\", "/"))
    if PureWindowsPath(path).anchor or ".." in path.parts:  # C:/, //server/ and / alike
        raise ValueError(f"{where}: img_path {row['img_path']!r} leads out of the data set")
    own = by_name.get(str(path)) or by_name.get(_look(str(path)))
    if own is None:
        raise FileNotFoundError(f"{where}: {path} does not exist; restore it or drop the row")
    if not _is_image(own):
        raise ValueError(f"{where}: {path} is none of {', '.join(SUFFIXES)}; convert it")
    label, defect = None, None
    if split == "train":
        label = _label(row["label"], where)
        if label == ANOMALOUS:
            raise ValueError(f"{where}: label 1; training takes normal images (label 0) only")
    elif answer is not None:
        where = f"test_labels.csv, id {row['id']!r}"
        label = _label(answer["label"], where)
        defect = (answer.get("defect") or "").strip() or None
        if defect and (label == ANOMALOUS) == (defect.lower() in NORMAL_WORDS):
            raise ValueError(
                f"{where}: label {label} contradicts the defect {defect!r}; write 'good' or "
                f"nothing for a normal image (label 0), the defect's name for label 1"
            )
    return ImageRecord(row["id"], own, split, label, defect, None)


def _label(value: str, where: str) -> int:
    if value.strip() not in ("0", "1"):
        raise ValueError(f"{where}: label {value!r} is neither 0 (normal) nor 1 (anomalous)")
    return int(value)


def _rows(path: Path, columns: Sequence[str] = ("id",)) -> list[dict[str, str]]:
    """Read a CSV table with these columns, all of them filled; ids are unique."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.name}: missing from {path.parent}; the layout needs it")
    rows = read_csv(path)
    for number, row in enumerate(rows, start=1):
        where = f"{path.name}, row {number} below the header"
        if without := [name for name in columns if name not in row]:
            raise ValueError(
                f"{path.name}: no column {', '.join(without)} in its header "
                f"{','.join(map(str, row))!r}; write {','.join(columns)}, separated by commas"
            )
        if absent := [name for name in columns if not (row[name] or "").strip()]:
            raise ValueError(
                f"{where}: no value for {', '.join(absent)}; fill it in or drop the row"
            )
        if None in row:
            raise ValueError(
                f"{where}: more cells than columns, {','.join(row[None])!r}; put a text that has "
                f"a comma in quotes"
            )
        if odd := [name for name in row if CONTROL.search(row[name] or "")]:
            raise ValueError(
                f"{where}: a control character in {odd[0]}, {row[odd[0]]!r}; remove it"
            )
    _refuse_duplicates((row["id"] for row in rows), path.name)
    return rows


# VisA


def visa_split(root: Path) -> Path | None:
    """Find VisA's table for one class, in a category's folder or beside it."""
    tables = root / VISA_SPLIT, root.parent / VISA_SPLIT
    return next((path for path in tables if path.is_file()), None)


def _visa_names(root: Path, files: Sequence[str]) -> dict[str, str]:
    """Map MVTec AD's names to VisA's files, split as VisA's own table for one class says."""
    table, present = visa_split(root), set(files)
    if table is None:
        raise FileNotFoundError(
            f"{root}: VisA's images without their split; copy {VISA_SPLIT} from VisA into it"
        )
    rows = read_csv(table)
    if not rows or not set(VISA_COLUMNS) <= set(rows[0]):
        raise ValueError(f"{table}: no columns {','.join(VISA_COLUMNS)}; take VisA's own file")
    # VisA's own list of a category names it; the folder may have been renamed (data/).
    own = root / "image_anno.csv"
    listed = read_csv(own) if own.is_file() else []
    category = (listed[0].get("image") or "").partition("/")[0] if listed else root.name
    rows = [row for row in rows if row["object"] == category]
    if not rows:
        raise ValueError(f"{table}: no row of the category {category!r}; give the folder its name")
    names: dict[str, str] = {}
    for row in rows:
        if None in (row["split"], row["label"], row["image"]):
            raise ValueError(f"{table}: a row of {category} is cut short; take VisA's own file")
        # The table's paths begin with the category.
        image, mask = (text.partition("/")[2] for text in (row["image"], row["mask"] or ""))
        kind = "good" if row["label"] == "normal" else "anomaly"
        if image not in present:
            raise FileNotFoundError(f"{table}: {row['image']} is not in {root}; restore it")
        names[f"{row['split']}/{kind}/{PurePosixPath(image).name}"] = image
        if mask in present:
            names[f"ground_truth/{kind}/{PurePosixPath(image).stem}.png"] = mask
    return names


# What stands twice or on one side only


def _refuse_duplicates(values: Iterable[str], where: str, what: str = "id") -> None:
    value, count = max(Counter(values).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ValueError(f"{where}: {what} {value!r} stands there twice; keep one of them")


def _refuse_differences(found: Iterable[str], expected: Iterable[str | None], words: str) -> None:
    expected = set(expected) - {None}
    extra = sorted(set(found) - expected)
    if not extra:
        return
    same = _look(extra[0]) in map(_look, expected)
    raise ValueError(
        f"{words}: {extra[0]!r}"
        + f" and {len(extra) - 1} more" * (len(extra) > 1)
        + " (there as well, but in decomposed or composed letters; write both alike)" * same
    )

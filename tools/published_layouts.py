"""Published data sets as they are distributed: VisA, BTAD and MVTec AD 2, read as MVTec AD.

Each file gets the name that MVTec AD would give it; `ad.layouts.read_mvtec` checks these.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ad.data import ImageRecord
from ad.files import read_csv
from ad.images import SUFFIXES
from ad.layouts import read_mvtec

VISA_SPLIT = "split_csv/1cls.csv"
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
MVTEC_AD_2 = (
    ("train/good/", "train/good/"),
    ("test_public/good/", "test/good/"),
    ("test_public/bad/", "test/bad/"),
    ("test_public/ground_truth/", "ground_truth/"),
)
BTAD = (
    ("train/ok/", "train/good/"),
    ("test/ok/", "test/good/"),
    ("test/ko/", "test/ko/"),
    ("ground_truth/ko/", "ground_truth/ko/"),
)


def read_published(layout: str, root: Path, files: Sequence[str]) -> list[ImageRecord]:
    """Read one of these layouts from the list of its files.

    Raises
    ------
    FileNotFoundError, ValueError
        In one line, as `ad.layouts` does.
    """
    if layout == "visa":
        names = visa_names(root, set(files))
    else:
        names = renamed(files, MVTEC_AD_2 if layout == "mvtec_ad_2" else BTAD)
    records = read_mvtec(list(names))
    return [replace(r, path=names[r.path], mask=r.mask and names[r.mask]) for r in records]


def renamed(files: Iterable[str], folders: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Map MVTec AD's names to the files' own; masks are found by their stem, whatever the format.

    MVTec AD 2 keeps its ``validation/`` and its test images without labels; neither is used: the
    protocol splits the normals itself.
    """
    names = {}
    for file in files:
        for own, mvtec in folders:
            if file.startswith(own):
                name = mvtec + file.removeprefix(own)
                if mvtec.startswith("ground_truth/") and PurePosixPath(name).suffix in SUFFIXES:
                    name = str(PurePosixPath(name).with_suffix(".png"))
                names[name] = file
    return names


def visa_names(root: Path, files: set[str]) -> dict[str, str]:
    """Map MVTec AD's names to VisA's files, split as VisA's own table for one class says."""
    table = visa_split(root)
    if table is None:
        raise FileNotFoundError(
            f"{root}: VisA's images without their split; copy {VISA_SPLIT} from VisA into it"
        )
    rows = read_csv(table)
    if not rows or not set(VISA_COLUMNS) <= set(rows[0]):
        raise ValueError(f"{table}: no columns {','.join(VISA_COLUMNS)}; take VisA's own file")
    category = _category(root)
    rows = [row for row in rows if row["object"] == category]
    if not rows:
        raise ValueError(f"{table}: no row of the category {category!r}; give the folder its name")
    names: dict[str, str] = {}
    for row in rows:
        if None in (row["split"], row["label"], row["image"]):
            raise ValueError(f"{table}: a row of {category} is cut short; take VisA's own file")
        image, mask = _inside(row["image"]), _inside(row["mask"] or "")
        kind = "good" if row["label"] == "normal" else "anomaly"
        stem = PurePosixPath(image)
        if image not in files:
            raise FileNotFoundError(f"{table}: {row['image']} is not in {root}; restore it")
        names[f"{row['split']}/{kind}/{stem.name}"] = image
        if mask in files:
            names[f"ground_truth/{kind}/{stem.stem}.png"] = mask
    return names


def visa_split(root: Path) -> Path | None:
    """Find VisA's table for one class, in a category's folder or beside it."""
    tables = root / VISA_SPLIT, root.parent / VISA_SPLIT
    return next((path for path in tables if path.is_file()), None)


def _category(root: Path) -> str:
    """Return the name that VisA's own list of a category gives it, or the folder's."""
    own = root / "image_anno.csv"
    rows = read_csv(own) if own.is_file() else []
    return (rows[0].get("image") or "").partition("/")[0] if rows else root.name


def _inside(path: str) -> str:
    """Take the category off a path of VisA's table."""
    return path.partition("/")[2]

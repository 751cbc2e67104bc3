"""Solar cells of the ELPV data set, from the installed wheel (see docs/data-card.md).

The default images are the cells 900 to 1613, all of them monocrystalline and from modules that
have normal and defective cells.
"""

import hashlib
import importlib.util
import shutil
from pathlib import Path

import pandas as pd
from PIL import Image

from ad.data import directory_hash
from ad.files import write_json

# DVC's hash of the wheel's folder data/: its images and labels.csv, every byte of them.
WHEEL_HASH = "692564095baf7f3b558e4a3a0b154f39.dir"
FIRST, LAST = 900, 1613
N_TRAIN, N_NORMAL, N_DEFECTIVE = 213, 60, 40  # as in the competition: 213 and 100 images
ABOUT = {
    "name": "ELPV solar cells 900 to 1613",
    "source": "elpv-dataset 1.0.0.post1: electroluminescence images of monocrystalline solar cells",
    "licence": "CC BY-NC-SA 4.0",
    "attribution": "Buerhop-Lutz et al., EU PVSEC 2018; Deitsch et al., Solar Energy 185, 2019; "
    "Deitsch et al., Machine Vision and Applications 32, 2021",
}


def wheel_folder() -> Path:
    """Return the folder of the installed wheel that holds ``labels.csv`` and ``images/``.

    Raises
    ------
    FileNotFoundError, ValueError
        When the wheel is not installed, or one of its bytes differs from the released ones.
    """
    found = importlib.util.find_spec("elpv_dataset")
    if found is None:
        raise FileNotFoundError(
            "the solar cells are not installed; 'pip install elpv-dataset==1.0.0.post1' brings them"
        )
    folder = Path(found.origin).parent / "data"
    if directory_hash(folder) != WHEEL_HASH:
        raise ValueError(
            f"{folder}: not the images of elpv-dataset 1.0.0.post1, byte by byte; "
            f"'pip install --force-reinstall --no-deps elpv-dataset==1.0.0.post1' brings them back"
        )
    return folder


def cell_table() -> pd.DataFrame:
    """Return a row for each of the 2,624 cells.

    Returns
    -------
    DataFrame
        ``cell``: the number of the cell, from 0 (``cell0001.png``); ``path``: its 8-bit grey image
        of 300 x 300 pixels; ``grade``: the experts' probability of a defect, 0, 1/3, 2/3 or 1;
        ``kind``: mono or poly; ``run``: number of the run of neighbouring cells of one kind, from
        0.  Cells lie module by module, so that runs have no module in common.
    """
    folder = wheel_folder()
    table = pd.read_csv(
        folder / "labels.csv", sep=r"\s+", header=None, names=["path", "grade", "kind"]
    )
    table["path"] = [str(folder / path) for path in table["path"]]
    table["grade"] = (3 * table["grade"]).round() / 3
    table["run"] = (table["kind"] != table["kind"].shift()).cumsum() - 1
    table.insert(0, "cell", range(len(table)))
    return table


def default_split() -> dict[str, dict[str, list[str]]]:
    """Return the images of ``data`` and ``data_locked``, by their folders in the MVTec AD layout.

    Cells of a grade are ordered by the SHA-256 of their pixels, which nobody chose.
    """
    table = cell_table()
    table = table[table["cell"].between(FIRST, LAST)]
    table = table.assign(pixels=[_pixel_hash(path) for path in table["path"]])
    by_grade = {
        round(3 * grade): list(cells["path"])
        for grade, cells in table.sort_values("pixels").groupby("grade")
    }
    normal, defective = by_grade[0], by_grade[3]
    n_seen = N_TRAIN + N_NORMAL
    return {
        "data": {
            "train/good": normal[:N_TRAIN],
            "test/good": normal[N_TRAIN:n_seen],
            "test/defective": defective[:N_DEFECTIVE],
        },
        "data_locked": {
            "test/good": normal[n_seen:],
            "test/defective": defective[N_DEFECTIVE:],
            "test/unknown_1of3": by_grade[1],
            "test/unknown_2of3": by_grade[2],
        },
    }


def write_cells(name: str, folder: str | Path) -> None:
    """Copy the images of ``data`` or ``data_locked`` into a folder, with ``about.json``."""
    folder = Path(folder)
    for below, paths in default_split()[name].items():
        (folder / below).mkdir(parents=True)
        for path in map(Path, paths):
            shutil.copyfile(path, folder / below / path.name)
    write_json(folder / "about.json", ABOUT)


def _pixel_hash(path: str) -> str:
    with Image.open(path) as image:
        return hashlib.sha256(image.tobytes()).hexdigest()

"""Records, DVC's hash of a folder, and the solar cells that the default images are."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from small_data import save_csv

from ad.cells import ABOUT, N_DEFECTIVE, N_NORMAL, N_TRAIN, cell_table, default_split, write_cells
from ad.data import (
    ImageRecord,
    directory_hash,
    of_split,
    read_about,
    read_manifest,
    submission_order,
    write_manifest,
)
from ad.files import read_json, write_json
from ad.scan import scan


def record(name: str, split: str, label: int | None = 0) -> ImageRecord:
    return ImageRecord(name, f"{name}.png", split, label, None, None, 3, 2, "L", "a", "")


def test_the_manifest_comes_back_as_it_was(tmp_path: Path):
    records = [record('a,"b"', "train"), record("ü\u202e", "test", None), record("=1+1", "test", 1)]
    write_manifest(tmp_path / "manifest.csv", records)
    assert read_manifest(tmp_path / "manifest.csv") == records
    assert of_split(records, "test") == records[1:]


def test_the_submission_follows_the_sample_or_the_sorted_ids(tmp_path: Path):
    records = [record("t", "train"), record("a", "test"), record("b", "test")]
    assert submission_order(tmp_path, records) == ["a", "b"]
    save_csv(tmp_path / "sample_submission.csv", ["id", "label"], [("b", 0), ("a", 0)])
    assert submission_order(tmp_path, records) == ["b", "a"]


def test_the_hash_of_a_folder_is_dvc_s(tmp_path: Path):
    for name in ("data/b.txt", "data/B/a.txt", "data/a b/가.txt", "data/a/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\r\n", newline="")
    for command in (["init", "--no-scm", "--quiet"], ["add", "--quiet", "data"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    pointer = yaml.safe_load((tmp_path / "data.dvc").read_text(encoding="utf-8"))
    assert directory_hash(tmp_path / "data") == pointer["outs"][0]["md5"]


def test_what_a_set_says_of_itself(tmp_path: Path):
    assert read_about(tmp_path)["licence"] == ""
    write_json(tmp_path / "about.json", ABOUT)
    assert read_about(tmp_path) == ABOUT


# The solar cells


def test_the_table_of_cells():
    table = cell_table()
    assert list(table.columns) == ["cell", "path", "grade", "kind", "run"]
    assert table["grade"].value_counts().to_dict() == {0: 1508, 1: 715, 1 / 3: 295, 2 / 3: 106}
    assert table["kind"].value_counts().to_dict() == {"poly": 1550, "mono": 1074}
    # The runs' last cells, counted by hand in labels.csv.
    ends = [59, 359, 539, 899, 1613, 2143, 2215, 2395, 2443, 2623]
    assert table.groupby("run")["cell"].max().tolist() == ends
    names = [f"cell{cell + 1:04d}.png" for cell in table["cell"]]
    assert [Path(path).name for path in table["path"]] == names


def test_the_default_split_is_the_one_written_down():
    table, split = cell_table().set_index("path"), default_split()
    everything = [
        path for folders in split.values() for paths in folders.values() for path in paths
    ]
    assert sorted(table.loc[everything, "cell"]) == list(range(900, 1614))
    grades = {"good": 0, "defective": 1, "unknown_1of3": 1 / 3, "unknown_2of3": 2 / 3}
    for folders in split.values():
        for folder, paths in folders.items():
            assert set(table.loc[paths, "grade"]) == {grades[folder.rpartition("/")[2]]}

    def order(paths: list[str]) -> list[str]:
        return sorted(paths, key=lambda p: hashlib.sha256(Image.open(p).tobytes()).digest())

    seen, locked = split["data"], split["data_locked"]
    normal = seen["train/good"] + seen["test/good"] + locked["test/good"]
    defective = seen["test/defective"] + locked["test/defective"]
    assert normal == order(normal) and defective == order(defective)
    assert [len(paths) for paths in seen.values()] == [N_TRAIN, N_NORMAL, N_DEFECTIVE]
    assert [len(paths) for paths in locked.values()] == [197, 57, 100, 47]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("data", "8f406671e4366ad394272a190a99facd.dir"),
        ("data_locked", "65e0027f3ba7225b2c5bb2bf64daeeaa.dir"),
    ],
)
def test_the_default_folders_are_the_released_bytes(tmp_path: Path, name: str, expected: str):
    write_cells(name, tmp_path / name)
    assert directory_hash(tmp_path / name) == expected
    assert read_json(tmp_path / name / "about.json")["licence"] == "CC BY-NC-SA 4.0"
    labels = [r.label for r in scan(tmp_path / name, locked=name == "data_locked")]
    counts = [labels.count(label) for label in (0, 1, None)]
    assert counts == ([273, 40, 0] if name == "data" else [197, 57, 147])


def test_a_wheel_with_one_changed_byte_is_refused(tmp_path: Path, monkeypatch, one_line):
    own = Path(cell_table()["path"][0]).parents[1]
    copy = tmp_path / "elpv_dataset"
    (copy / "data/images").mkdir(parents=True)
    (copy / "__init__.py").touch()
    for path in sorted(own.rglob("*.*")):
        (copy / "data" / path.relative_to(own)).symlink_to(path)
    monkeypatch.syspath_prepend(tmp_path)
    assert cell_table()["path"][0].startswith(str(tmp_path))
    changed = copy / "data/images/cell0005.png"
    content = bytearray(changed.read_bytes())
    changed.unlink()
    content[-20] ^= 1
    changed.write_bytes(content)
    with one_line(ValueError, str(tmp_path), "byte by byte", "pip install --force-reinstall"):
        write_cells("data", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_without_the_wheel_the_line_says_how_to_get_it(monkeypatch, one_line):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with one_line(FileNotFoundError, "pip install elpv-dataset==1.0.0.post1"):
        cell_table()

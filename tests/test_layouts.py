"""What each layout lists, in which order, and what its names and tables are refused for."""

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_data import save_csv, save_png, write_competition, write_mvtec

from ad.data import ImageRecord
from ad.layouts import detect_layout, read_layout

UNIX = pytest.mark.skipif(os.name == "nt", reason="files of Unix")


def noise(path: Path, seed: int = 0) -> None:
    """Write a small picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    save_png(path, pixels)


def listed(root: Path) -> list[tuple]:
    """Say what was read."""
    return [(r.id, r.path, r.label, r.defect, r.mask) for r in read_layout(root)[0]]


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change a file's text in place."""
    before = path.read_text(encoding="utf-8")
    assert change(before) != before, f"nothing to change in {path.name}"
    path.write_text(change(before), encoding="utf-8", newline="")


@pytest.fixture
def refused(one_line: Callable) -> Callable:
    """Return a check that a data set is refused in one line that holds some parts."""

    def check(root: Path, *parts: str) -> None:
        with one_line((ValueError, OSError), *parts):
            read_layout(root)

    return check


# What is listed


def test_mvtec_ad(small_mvtec: Path):
    noise(small_mvtec / "test/unknown_lot/7.png")
    (small_mvtec / "ground_truth/blob/000_mask.png").rename(
        small_mvtec / "ground_truth/blob/000.png"
    )
    save_png(small_mvtec / "ground_truth/good/000_mask.png", np.zeros((32, 32), bool))
    assert listed(small_mvtec) == [
        *((f"train/good/{n:03d}", f"train/good/{n:03d}.png", 0, "good", None) for n in range(4)),
        ("test/blob/000", "test/blob/000.png", 1, "blob", "ground_truth/blob/000.png"),
        ("test/good/000", "test/good/000.png", 0, "good", None),
        ("test/good/001", "test/good/001.png", 0, "good", None),
        ("test/scratch/001", "test/scratch/001.png", 1, "scratch",
         "ground_truth/scratch/001_mask.png"),
        ("test/unknown_lot/7", "test/unknown_lot/7.png", None, "unknown_lot", None),
    ]  # fmt: skip


@pytest.mark.parametrize("answers", [None, ["id", "label"], ["id", "label", "defect"]])
def test_the_competition(tmp_path: Path, answers: list | None):
    labels = write_competition(tmp_path, n_train=3, n_test=4, size=32)
    if answers:
        rows = [(name, label, "blob" if label else "") for name, label in labels.items()]
        save_csv(tmp_path / "test_labels.csv", answers, [r[: len(answers)] for r in rows[::-1]])
    records = read_layout(tmp_path)[0]
    assert records[:3] == [
        ImageRecord(f"TRAIN_{n:03d}", f"train/TRAIN_{n:03d}.png", "train", 0, None, None)
        for n in range(3)
    ]
    assert {r.id: r.label for r in records[3:]} == (labels if answers else dict.fromkeys(labels))
    assert {r.defect for r in records[3:]} == (
        {None, "blob"} if answers and answers[2:] else {None}
    )


@pytest.mark.parametrize("folder", ["", "good", "train/good"])
def test_normal_pictures_only(tmp_path: Path, folder: str):
    for number in range(3):
        noise(tmp_path / folder / f"{number}.png")
    own = f"{folder}/".lstrip("/")
    expected = [(f"train/good/{n}", f"{own}{n}.png", 0, "good", None) for n in range(3)]
    assert listed(tmp_path) == expected


def test_btad_with_masks_of_another_ending(tmp_path: Path):
    for number, folder in enumerate(("train/ok", "test/ok", "test/ko", "test/ko")):
        noise(tmp_path / folder / f"{number}.bmp")
    for name in ("2.png", "3.bmp"):
        save_png(tmp_path / "ground_truth/ko" / name, np.eye(16, dtype=bool))
    assert detect_layout(tmp_path) == "btad"
    assert listed(tmp_path) == [
        ("train/good/0", "train/ok/0.bmp", 0, "good", None),
        ("test/good/1", "test/ok/1.bmp", 0, "good", None),
        ("test/ko/2", "test/ko/2.bmp", 1, "ko", "ground_truth/ko/2.png"),
        ("test/ko/3", "test/ko/3.bmp", 1, "ko", "ground_truth/ko/3.bmp"),
    ]


def test_mvtec_ad_2_without_its_private_part(tmp_path: Path):
    for folder in ("train/good", "validation/good", "test_private", "test_public/good"):
        noise(tmp_path / folder / "0_regular.png")
    noise(tmp_path / "test_public/bad/1_regular.png")
    truth = "test_public/ground_truth/bad/1_regular_mask.png"
    save_png(tmp_path / truth, np.eye(16, dtype=bool))
    assert listed(tmp_path) == [
        ("train/good/0_regular", "train/good/0_regular.png", 0, "good", None),
        ("test/bad/1_regular", "test_public/bad/1_regular.png", 1, "bad", truth),
        ("test/good/0_regular", "test_public/good/0_regular.png", 0, "good", None),
    ]


def visa(root: Path, table: Path) -> None:
    """Write a category of VisA, and a table that names another one too."""
    rows = []
    for split, label, kind, number in (
        ("train", "normal", "Normal", 0),
        ("test", "normal", "Normal", 1),
        ("test", "anomaly", "Anomaly", 0),
    ):
        noise(root / f"Data/Images/{kind}/{number}.JPG")
        mask = "Data/Masks/Anomaly/0.png" if label == "anomaly" else ""
        if mask:
            save_png(root / mask, 3 * np.eye(16, dtype=np.uint8))
        for name in ("candle", "other"):
            row = (name, split, label, f"{name}/Data/Images/{kind}/{number}.JPG")
            rows.append((*row, mask and f"{name}/{mask}"))
    table.parent.mkdir(parents=True, exist_ok=True)
    save_csv(table, ["object", "split", "label", "image", "mask"], rows)


@pytest.mark.parametrize("inside", [True, False])
def test_visa(tmp_path: Path, inside: bool, refused: Callable):
    root = tmp_path / "candle"
    table = (root if inside else tmp_path) / "split_csv/1cls.csv"
    visa(root, table)
    expected = [
        ("train/good/0", "Data/Images/Normal/0.JPG", 0, "good", None),
        ("test/anomaly/0", "Data/Images/Anomaly/0.JPG", 1, "anomaly", "Data/Masks/Anomaly/0.png"),
        ("test/good/1", "Data/Images/Normal/1.JPG", 0, "good", None),
    ]
    assert listed(root) == expected
    renamed = root.rename(tmp_path / "data")
    table = (renamed if inside else tmp_path) / "split_csv/1cls.csv"
    refused(renamed, "1cls.csv", "no row of the category 'data'")
    (renamed / "image_anno.csv").write_text("image,label,mask\ncandle/Data/x.JPG,normal,\n")
    assert listed(renamed) == expected
    (renamed / "Data/Images/Normal/1.JPG").unlink()
    refused(renamed, "candle/Data/Images/Normal/1.JPG", "restore it")
    table.unlink()
    refused(renamed, "without their split", "copy split_csv/1cls.csv")


def test_hidden_names_and_endings_that_are_not_read_are_counted(small_mvtec: Path):
    before = listed(small_mvtec)
    noise(small_mvtec / "test/.ipynb_checkpoints/000-checkpoint.png")
    noise(small_mvtec / "test/@eaDir/000.png")
    for name in ("test/blob/a.heic", "test/blob/b.HEIC", "train/good/c.dng", "train/good/._d.png"):
        (small_mvtec / name).write_bytes(b"?")
    (small_mvtec / "readme.txt").write_text("not an image, and in no folder of images")
    records, passed = read_layout(small_mvtec)
    assert [(r.id, r.path, r.label, r.defect, r.mask) for r in records] == before
    assert passed == {".ipynb_checkpoints": 1, "@eaDir": 1, ".heic": 2, ".dng": 1, "._*": 1}


@UNIX
def test_decomposed_names_are_found(tmp_path: Path, refused: Callable):
    composed, decomposed = (unicodedata.normalize(form, "정상") for form in ("NFC", "NFD"))
    write_mvtec(tmp_path / "a", n_train=1, size=16, names=(composed,))
    (tmp_path / "a/test" / composed).rename(tmp_path / "a/test" / decomposed)
    assert all(mask for *_, label, _, mask in listed(tmp_path / "a") if label)
    root = tmp_path / "b"
    write_competition(root, n_train=2, n_test=2, size=16)
    (root / "train/TRAIN_001.png").rename(root / f"train/{decomposed}.png")
    rewrite(root / "train.csv", lambda text: text.replace("train/TRAIN_001", f"train/{composed}"))
    assert listed(root)[1][:2] == ("TRAIN_001", f"train/{decomposed}.png")
    rewrite(root / "test.csv", lambda text: text.replace("TEST_001,", f"{composed},"))
    rewrite(
        root / "sample_submission.csv", lambda text: text.replace("TEST_001,", f"{decomposed},")
    )
    refused(root, "sample_submission.csv", "decomposed or composed letters")


# The order


def test_the_order_is_by_code_point(tmp_path: Path):
    for name in ("b", "B", "a10", "a9", "ä", "a_"):
        noise(tmp_path / f"{name}.png")
    names = [name.rpartition("/")[2] for name, *_ in listed(tmp_path)]
    assert names == ["B", "a10", "a9", "a_", "b", "ä"]


# The wrong folder


def test_what_is_no_data_set_says_what_to_give(
    small_mvtec: Path, tmp_path: Path, refused: Callable
):
    refused(tmp_path / "nowhere", "nowhere", "no such folder", "make data FROM=")
    (tmp_path / "set.zip").write_bytes(b"PK")
    refused(tmp_path / "set.zip", "a file, not a folder", "unpack")
    write_mvtec(tmp_path / "all/bottle", n_train=1, size=16)
    write_mvtec(tmp_path / "all/cable", n_train=1, size=16)
    refused(tmp_path / "all", "give one of them: bottle, cable")
    for part in ("train", "train/good"):
        refused(small_mvtec / part, "only a part", f"{small_mvtec}; give that folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "train/good", "train.csv", "README")


@UNIX
def test_what_is_no_file_is_refused_before_it_is_opened(small_mvtec: Path, refused: Callable):
    good = small_mvtec / "train/good"
    for make in (
        lambda: os.mkfifo(good / "x.png"),
        lambda: (good / "x.png").symlink_to("x.png"),
        lambda: (good / "x.png").symlink_to("nowhere.png"),
    ):
        make()
        refused(small_mvtec, "train/good/x.png", "a pipe", "broken link", "remove it")
        (good / "x.png").unlink()
    (good / "again").symlink_to(small_mvtec)
    refused(small_mvtec, "train/good/again", "the same folder as", "link")


@UNIX
def test_a_folder_elsewhere_may_be_linked(small_mvtec: Path):
    before = read_layout(small_mvtec)
    (small_mvtec / "train").rename(small_mvtec.parent / "elsewhere")
    (small_mvtec / "train").symlink_to(small_mvtec.parent / "elsewhere")
    assert read_layout(small_mvtec) == before


@UNIX
@pytest.mark.parametrize(
    ("name", "words"), [(b"\xff\xfe.png", "not UTF-8"), (b"a\nb.png", "control character")]
)
def test_a_name_that_no_table_can_hold(small_mvtec: Path, name: bytes, words: str, refused):
    folder = os.fsencode(small_mvtec / "train/good")
    os.link(folder + b"/000.png", folder + b"/" + name)
    refused(small_mvtec, "train/good", words, "rename")


@UNIX
def test_a_folder_that_may_not_be_read_is_named(small_mvtec: Path, monkeypatch, refused: Callable):
    own = os.listdir

    def denied(path: str | Path = "."):
        if str(path).endswith("good"):
            raise PermissionError(13, "Permission denied", str(path))
        return own(path)

    monkeypatch.setattr(os, "listdir", denied)
    refused(small_mvtec, "good: cannot be listed (Permission denied)", "make it readable")


# MVTec AD's names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test/Good/0.png", ("test/Good/0.png", "test/good", "rename the folder 'Good'")),
        ("test/0.png", ("test/0.png", "test/<good or defect>/<file>", "move")),
        ("train/bent/0.png", ("train/bent/0.png", "anomalous", "train/good")),
        ("train/good/001.jpg", ("'train/good/001'", "twice", "keep one")),
        ("test/blob/9.png", ("ground_truth", "1 of 3", "test/blob/9", "all of them")),
        ("ground_truth/blob/9_mask.png", ("'ground_truth/blob/9_mask.png'", "rename")),
        ("ground_truth/blob/000_gt.png", ("'ground_truth/blob/000_gt.png'", "_mask.png")),
        ("ground_truth/blob/000.png", ("a second mask beside", "000_mask.png")),
    ],
)
def test_a_name_out_of_place(small_mvtec: Path, name: str, words: tuple, refused: Callable):
    noise(small_mvtec / name)
    refused(small_mvtec, *words)


# The competition's tables

TABLE_FAULTS = {
    "an id twice": ("test.csv", r"TEST_001,", "TEST_000,", ("test.csv", "'TEST_000'", "twice")),
    "an id in both splits": ("train.csv", r"TRAIN_001,", "TEST_001,", ("'TEST_001'", "twice")),
    "a file twice": ("train.csv", r"\Z", "X,train//TRAIN_001.png,0\n", ("img_path", "twice")),
    "no file": ("test.csv", r"TEST_002\.png", "x.png", ("'TEST_002'", "test/x.png", "drop")),
    "a file of no row": ("test.csv", r"TEST_003,.*\n", "", ("'test/TEST_003.png'", "remove")),
    "label 1": ("train.csv", r"002\.png,0", "002.png,1", ("'TRAIN_002'", "label 1", "normal")),
    "no label": ("test_labels.csv", r"TEST_001,1", "TEST_001,2", ("'2'", "0 (normal)")),
    "semicolons": ("train.csv", r",", ";", ("id;img_path;label", "commas")),
    "an empty cell": ("train.csv", r"\./train/TRAIN_001\.png", " ", ("row 2", "img_path")),
    "a cell too many": ("train.csv", r"_001\.png", "_001.png,9", ("row 2", "more cells")),
    "a line break": ("test.csv", r"TEST_001,", '"TEST\n001",', ("row 2", "control character")),
    "an id too many": ("test_labels.csv", r"\Z", "TEST_9,0,good\n", ("'TEST_9'", "remove")),
    "an id too few": ("sample_submission.csv", r"TEST_002,.*\n", "", ("'TEST_002'", "add")),
    "normal, yet a defect": ("test_labels.csv", r"0,good", "0,bent", ("label 0", "'bent'")),
    "anomalous, yet good": ("test_labels.csv", r"1,blob", "1,OK", ("label 1", "'OK'", "good")),
    "out by ..": ("train.csv", r"\./train/TRAIN_001", "train/../../out", ("'TRAIN_001'", "leads")),
    "out by a drive": ("train.csv", r"\./train/TRAIN_001", r"C:\\out", ("leads out",)),
    "out by a server": ("train.csv", r"\./train/TRAIN_001", r"\\\\\\\\s\\out", ("leads out",)),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_fault_of_a_table(tmp_path: Path, fault: str, refused: Callable):
    write_competition(tmp_path, n_train=3, n_test=4, with_labels=True, size=16)
    name, pattern, replacement, words = TABLE_FAULTS[fault]
    rewrite(tmp_path / name, lambda text: re.sub(pattern, replacement, text))
    refused(tmp_path, *words)


def test_tables_of_other_programs(small_competition: Path, refused: Callable):
    expected = read_layout(small_competition)
    for name in ("train.csv", "test.csv", "sample_submission.csv"):
        path = small_competition / name
        text = path.read_text().replace("./train/", ".\\train\\").replace("./test/", "test\\")
        header, *rows = text.splitlines()
        text = "\r\n".join([header, *(rows if name == "sample_submission.csv" else rows[::-1]), ""])
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_layout(small_competition) == expected
    path.write_bytes(path.read_bytes() + "TEST_Ü,0\n".encode("cp1252"))
    refused(small_competition, "sample_submission.csv", "UTF-8")
    path.unlink()
    refused(small_competition, "sample_submission.csv", "missing", str(small_competition))


ODD = '0 1 A C good . ../x.png /etc/passwd C:\\x train.csv \0 " "a,b" \ufeff =1+1 가나 \udcff'
CELLS = st.sampled_from(["", "a\nb", "\r", *ODD.split(" ")])


@settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")), derandomize=True, database=None,
    deadline=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), CELLS | st.text(max_size=8)),
                min_size=1, max_size=4))  # fmt: skip
@example([(0, 0, "\ufeff")])
def test_any_table_is_read_or_refused_in_one_line(tmp_path_factory, changes: list):
    root = tmp_path_factory.getbasetemp() / "fuzz"
    write_competition(root, n_train=2, n_test=2, with_labels=True, size=16)
    tables = ["train.csv", "test.csv", "sample_submission.csv", "test_labels.csv"]
    for table, place, text in changes:
        path = root / tables[table]
        content, new = path.read_bytes(), text.encode("utf-8", "surrogateescape")
        path.write_bytes(content[:place] + new + content[place + len(new) // 2 :])
    with contextlib.suppress(ValueError, OSError):
        try:
            records, _ = read_layout(root)
        except (ValueError, OSError) as error:
            assert str(error).strip() and "\n" not in str(error)
            raise
        paths = [(root / r.path).resolve() for r in records]
        assert all(path.is_relative_to(root.resolve()) and path.is_file() for path in paths)

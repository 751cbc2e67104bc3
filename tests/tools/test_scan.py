"""Both layouts: what is listed, in which order, and what is refused with which words."""

import contextlib
import hashlib
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import save_csv, save_png, write_competition, write_mvtec

from ad.data import ImageRecord, of_split, read_manifest, submission_order, write_manifest
from ad.scan import detect_layout, scan

OneLine = Callable[..., None]


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change a file's text in place."""
    before = path.read_text(encoding="utf-8")
    after = change(before)
    assert after != before, f"nothing to change in {path.name}"
    path.write_text(after, encoding="utf-8", newline="")


def refused(root: Path, one_line: OneLine, *parts: str) -> None:
    """Assert that the data set is refused in one line that holds ``parts``."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        scan(root)
    one_line(caught, *parts)


# What is listed


def test_mvtec_is_listed_with_labels_defects_and_masks(small_mvtec: Path):
    records = scan(small_mvtec)
    assert [(r.id, r.split, r.label, r.defect, r.mask) for r in records] == [
        *((f"train/good/{n:03d}", "train", 0, "good", None) for n in range(4)),
        ("test/blob/000", "test", 1, "blob", "ground_truth/blob/000_mask.png"),
        ("test/good/000", "test", 0, "good", None),
        ("test/good/001", "test", 0, "good", None),
        ("test/scratch/001", "test", 1, "scratch", "ground_truth/scratch/001_mask.png"),
    ]


@pytest.mark.parametrize("with_labels", [False, True])
def test_the_competition_is_listed(tmp_path: Path, with_labels: bool):
    labels = write_competition(tmp_path, n_train=3, n_test=4, with_labels=with_labels, size=32)
    records = scan(tmp_path)
    train, test = of_split(records, "train"), of_split(records, "test")
    assert [r.id for r in train] == ["TRAIN_000", "TRAIN_001", "TRAIN_002"]
    assert [r.path for r in train] == [f"train/TRAIN_{n:03d}.png" for n in range(3)]
    assert {r.label for r in train} == {0}
    assert {r.id: r.label for r in test} == (labels if with_labels else dict.fromkeys(labels))
    expected = ["good", "blob", "good", "scratch"] if with_labels else [None] * 4
    assert [r.defect for r in test] == expected
    assert records == train + test
    assert all(r.mask is None for r in records)


def test_labels_without_a_defect_column(tmp_path: Path):
    labels = write_competition(tmp_path, n_train=3, n_test=4, size=32)
    save_csv(tmp_path / "test_labels.csv", ["id", "label"], labels.items())
    test = of_split(scan(tmp_path), "test")
    assert {r.id: r.label for r in test} == labels
    assert {r.defect for r in test} == {None}


def test_labels_are_joined_by_id(tmp_path: Path):
    labels = write_competition(tmp_path, n_train=3, n_test=6, size=32)
    save_csv(tmp_path / "test_labels.csv", ["id", "label"], reversed(labels.items()))
    assert {r.id: r.label for r in of_split(scan(tmp_path), "test")} == labels


def test_size_mode_and_hash_are_those_of_the_file(small_mvtec: Path):
    grey = np.random.default_rng(0).integers(0, 255, (20, 50), dtype=np.uint8)
    Image.fromarray(grey).save(small_mvtec / "train" / "good" / "zzz.png")
    for record in scan(small_mvtec):
        content = (small_mvtec / record.path).read_bytes()
        assert record.sha256 == hashlib.sha256(content).hexdigest()
        odd = record.id.endswith("zzz")
        assert (record.width, record.height) == ((50, 20) if odd else (32, 32))
        assert record.mode == ("L" if odd else "RGB")
        if record.mask:
            mask = (small_mvtec / record.mask).read_bytes()
            assert record.mask_sha256 == hashlib.sha256(mask).hexdigest()
        else:
            assert record.mask_sha256 == ""


def test_the_manifest_comes_back_as_it_was(tmp_path: Path):
    write_competition(tmp_path / "a", n_train=2, n_test=2, size=32)
    write_mvtec(tmp_path / "b", n_train=2, n_normal=1, n_anomalous=2, size=32)
    odd = ImageRecord('a,"b"', "train/a,b.png", "train", None, None, None, 1, 2, "L", "f", "")
    records = [*scan(tmp_path / "a"), *scan(tmp_path / "b"), odd]
    write_manifest(tmp_path / "manifest.csv", records)
    assert read_manifest(tmp_path / "manifest.csv") == records


def test_any_known_suffix_in_any_case(small_mvtec: Path):
    image = Image.open(small_mvtec / "train" / "good" / "000.png")
    for suffix in ("PNG", "jpg", "JPEG", "bmp", "tif", "TIFF"):
        image.save(small_mvtec / "train" / "good" / f"more_{suffix}.{suffix}")
    assert len(of_split(scan(small_mvtec), "train")) == 4 + 6


def test_what_is_no_image_is_passed_over(small_mvtec: Path):
    before = scan(small_mvtec)
    (small_mvtec / "train" / "good" / "notes.txt").write_text("no image")
    (small_mvtec / "train" / "good" / ".000.png").write_text("hidden")
    (small_mvtec / "readme.txt").write_text("no image")
    assert scan(small_mvtec) == before


def test_masks_may_lack_their_ending_and_normal_images_may_have_masks(small_mvtec: Path):
    truth = small_mvtec / "ground_truth"
    (truth / "blob" / "000_mask.png").rename(truth / "blob" / "000.png")
    save_png(truth / "good" / "000_mask.png", np.zeros((32, 32), dtype=bool))
    masks = {r.id: r.mask for r in scan(small_mvtec)}
    assert masks["test/blob/000"] == "ground_truth/blob/000.png"
    assert masks["test/good/000"] is None


def test_no_masks_at_all_is_allowed(small_mvtec: Path):
    for path in sorted((small_mvtec / "ground_truth").rglob("*.png")):
        path.unlink()
    assert {r.mask for r in scan(small_mvtec)} == {None}


# The order


def shuffled(names: list, seed: int) -> list:
    return names[::-1] if seed == 0 else random.Random(seed).sample(names, len(names))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("layout", ["mvtec", "competition"])
def test_the_order_does_not_depend_on_the_file_system(
    small_mvtec: Path, small_competition: Path, monkeypatch, seed: int, layout: str
):
    root = small_mvtec if layout == "mvtec" else small_competition
    expected = scan(root)
    scandir, calls = os.scandir, []

    def other_scandir(path: str | Path = "."):
        calls.append(path)
        return contextlib.nullcontext(iter(shuffled([*scandir(path)], seed)))

    # In any order: what the file system must be free to give.
    monkeypatch.setattr(os, "scandir", other_scandir)
    found = scan(root)
    assert calls, "the listing was not taken through os.scandir; shuffle what it uses now"
    assert found == expected


def test_the_first_fault_is_the_same_one_in_any_order(
    small_mvtec: Path, monkeypatch, one_line: OneLine
):
    for name in ("b.png", "a.png", "c.png"):
        save_png(small_mvtec / "test" / name, np.zeros((8, 8, 3), np.uint8))
    scandir = os.scandir
    for seed in range(3):
        monkeypatch.setattr(
            os,
            "scandir",
            lambda path, seed=seed: contextlib.nullcontext(shuffled([*scandir(path)], seed)),
        )
        refused(small_mvtec, one_line, "test/a.png")


def test_the_order_does_not_depend_on_the_rows(small_competition: Path):
    expected = scan(small_competition)
    for name in ("train.csv", "test.csv"):
        path = small_competition / name
        header, *rows = path.read_text().splitlines()
        path.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert scan(small_competition) == expected


def test_the_order_is_by_code_point(small_mvtec: Path):
    folder = small_mvtec / "train" / "good"
    for number, name in enumerate(("b", "B", "a10", "a9", "ä", "a_")):
        (folder / f"{number:03d}.png").rename(folder / f"{name}.png") if number < 4 else save_png(
            folder / f"{name}.png", np.zeros((8, 8, 3), np.uint8)
        )
    names = [r.id.rpartition("/")[2] for r in of_split(scan(small_mvtec), "train")]
    assert names == ["B", "a10", "a9", "a_", "b", "ä"]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(small_mvtec: Path, threads: int):
    assert scan(small_mvtec, threads=threads) == scan(small_mvtec)


def test_the_submission_follows_the_sample(small_competition: Path):
    rows = (small_competition / "sample_submission.csv").read_text().splitlines()[1:]
    expected = [row.partition(",")[0] for row in rows]
    records = scan(small_competition)
    assert submission_order(small_competition, records) == expected
    assert expected != sorted(expected)


def test_without_a_sample_the_submission_is_sorted(small_mvtec: Path):
    records = scan(small_mvtec)
    ids = [r.id for r in records if r.split == "test"]
    assert submission_order(small_mvtec, records) == ids == sorted(ids)


# CSV files of other programs


def test_byte_order_mark_carriage_returns_and_backslashes(small_competition: Path):
    expected = scan(small_competition)
    for name in ("train.csv", "test.csv", "sample_submission.csv"):
        path = small_competition / name
        text = path.read_text().replace("./train/", ".\\train\\").replace("./test/", "test\\")
        path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert scan(small_competition) == expected


def test_semicolons_are_refused(small_competition: Path, one_line: OneLine):
    rewrite(small_competition / "train.csv", lambda text: text.replace(",", ";"))
    refused(small_competition, one_line, "train.csv", "id;img_path;label", "commas")


def test_a_table_in_another_encoding(small_competition: Path, one_line: OneLine):
    path = small_competition / "test.csv"
    path.write_bytes(path.read_bytes() + "TEST_Ü,./test/x.png\n".encode("cp1252"))
    refused(small_competition, one_line, "test.csv", "UTF-8")


# Bad input: what, where, what to do


def test_no_folder(tmp_path: Path, one_line: OneLine):
    refused(tmp_path / "data", one_line, str(tmp_path / "data"), "dvc pull", "make data FROM=")


def test_neither_layout(tmp_path: Path, one_line: OneLine):
    (tmp_path / "train").mkdir()
    refused(tmp_path, one_line, str(tmp_path), "train/good", "train.csv", "README")


def test_the_layout_is_told_apart(small_mvtec: Path, small_competition: Path):
    assert detect_layout(small_mvtec) == "mvtec"
    assert detect_layout(small_competition) == "competition"


@pytest.mark.parametrize("name", ["test.csv", "sample_submission.csv"])
def test_a_missing_table(small_competition: Path, name: str, one_line: OneLine):
    (small_competition / name).unlink()
    refused(small_competition, one_line, name, "missing", str(small_competition))


@pytest.mark.parametrize("name", ["train.csv", "test.csv", "sample_submission.csv"])
def test_an_id_twice_in_a_table(small_competition: Path, name: str, one_line: OneLine):
    rewrite(small_competition / name, lambda text: text + text.splitlines()[2] + "\n")
    twice = (small_competition / name).read_text().splitlines()[2].partition(",")[0]
    refused(small_competition, one_line, name, repr(twice), "twice", "keep one")


def test_an_id_in_both_splits(small_competition: Path, one_line: OneLine):
    for name in ("test.csv", "sample_submission.csv"):
        rewrite(small_competition / name, lambda text: text.replace("TEST_001,", "TRAIN_001,"))
    refused(small_competition, one_line, str(small_competition), "'TRAIN_001'", "twice")


def test_the_same_name_with_two_suffixes(small_mvtec: Path, one_line: OneLine):
    Image.new("RGB", (8, 8)).save(small_mvtec / "train" / "good" / "001.jpg")
    refused(small_mvtec, one_line, "'train/good/001'", "twice", "keep one")


def test_a_test_image_that_stands_in_the_training_table(small_competition: Path, one_line: OneLine):
    rewrite(small_competition / "train.csv", lambda text: text + "X,./test/TEST_001.png,0\n")
    refused(small_competition, one_line, "train.csv", "'test/TEST_001.png'", "twice")


def test_two_rows_for_one_file(small_competition: Path, one_line: OneLine):
    rewrite(small_competition / "train.csv", lambda text: text + "X,train//TRAIN_001.png,0\n")
    refused(small_competition, one_line, "train.csv", "'train/TRAIN_001.png'", "twice")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_row_without_its_file(small_competition: Path, split: str, one_line: OneLine):
    name = f"{split.upper()}_002"
    (small_competition / split / f"{name}.png").unlink()
    refused(small_competition, one_line, f"{split}.csv", repr(name), f"{split}/{name}.png", "drop")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_file_without_its_row(small_competition: Path, split: str, one_line: OneLine):
    for name in ("extra.png", "more.png"):
        save_png(small_competition / split / name, np.zeros((8, 8, 3), np.uint8))
    refused(small_competition, one_line, f"{split}.csv", f"'{split}/extra.png'", "1 more", "remove")


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_split(small_mvtec: Path, small_competition: Path, split: str, one_line: OneLine):
    for path in sorted((small_mvtec / split).rglob("*.png")):
        path.unlink()
    for path in sorted((small_mvtec / "ground_truth").rglob("*.png")):
        path.unlink()
    refused(small_mvtec, one_line, f"the {split} split has no images", str(small_mvtec))
    for path in sorted((small_competition / split).glob("*.png")):
        path.unlink()
    rewrite(small_competition / f"{split}.csv", lambda text: text.splitlines()[0] + "\n")
    if split == "test":
        rewrite(small_competition / "sample_submission.csv", lambda text: "id,label\n")
    refused(small_competition, one_line, f"the {split} split has no images")


def test_an_anomalous_training_label(small_competition: Path, one_line: OneLine):
    rewrite(
        small_competition / "train.csv",
        lambda text: text.replace("TRAIN_002.png,0", "TRAIN_002.png,1"),
    )
    refused(small_competition, one_line, "train.csv", "'TRAIN_002'", "label 1", "normal")


def test_an_anomalous_training_folder(small_mvtec: Path, one_line: OneLine):
    save_png(small_mvtec / "train" / "bent" / "000.png", np.zeros((8, 8, 3), np.uint8))
    refused(small_mvtec, one_line, "train/bent/000.png", "anomalous", "train/good")


@pytest.mark.parametrize("value", ["2", "normal", "0.0", "-1"])
@pytest.mark.parametrize("name", ["train.csv", "test_labels.csv"])
def test_a_label_that_is_none(tmp_path: Path, name: str, value: str, one_line: OneLine):
    write_competition(tmp_path, n_train=2, n_test=2, with_labels=True, size=32)
    pattern = r"(TRAIN_001,[^,]*),0" if name == "train.csv" else r"(TEST_001),1"
    rewrite(tmp_path / name, lambda text: re.sub(pattern, rf"\1,{value}", text))
    refused(tmp_path, one_line, name, "_001'", repr(value), "0 (normal)", "1 (anomalous)")


@pytest.mark.parametrize(
    "path",
    [
        "../outside.png",
        "train/../../outside.png",
        "..\\outside.png",
        "/outside.png",
        "C:\\outside.png",
        "\\\\server\\share\\outside.png",
    ],
)
def test_a_path_that_leads_out_of_the_folder(small_competition: Path, path: str, one_line: OneLine):
    save_png(small_competition.parent / "outside.png", np.zeros((8, 8, 3), np.uint8))
    rewrite(
        small_competition / "train.csv", lambda text: text.replace("./train/TRAIN_001.png", path)
    )
    refused(small_competition, one_line, "train.csv", "'TRAIN_001'", repr(path), "leads out")


def test_a_cell_left_empty(small_competition: Path, one_line: OneLine):
    rewrite(
        small_competition / "train.csv", lambda text: text.replace("./train/TRAIN_001.png", " ")
    )
    refused(small_competition, one_line, "train.csv", "row 2", "img_path", "fill it in")


def test_a_cell_too_many(small_competition: Path, one_line: OneLine):
    rewrite(small_competition / "train.csv", lambda text: text.replace("_001.png", "_001.png,9"))
    refused(small_competition, one_line, "train.csv", "row 2", "more cells", "quotes")


@pytest.mark.parametrize("name", ["sample_submission.csv", "test_labels.csv"])
def test_ids_that_differ_from_the_tests(tmp_path: Path, name: str, one_line: OneLine):
    write_competition(tmp_path, n_train=2, n_test=4, with_labels=True, size=32)
    rewrite(tmp_path / name, lambda text: text + "TEST_999,0\n")
    refused(tmp_path, one_line, name, "'TEST_999'", "remove")
    rewrite(tmp_path / name, lambda text: re.sub(r"(TEST_999|TEST_002),.*\n", "", text))
    refused(tmp_path, one_line, name, "'TEST_002'", "add")


def test_a_table_of_labels_without_rows_is_no_unlabelled_set(tmp_path: Path, one_line: OneLine):
    write_competition(tmp_path, n_train=2, n_test=4, size=32)
    save_csv(tmp_path / "test_labels.csv", ["id", "label"], [])
    refused(tmp_path, one_line, "test_labels.csv", "'TEST_000'", "3 more", "add")


def test_masks_for_some(small_mvtec: Path, one_line: OneLine):
    (small_mvtec / "ground_truth" / "blob" / "000_mask.png").unlink()
    refused(small_mvtec, one_line, "ground_truth", "1 of 2", "test/blob/000", "all of them")


def test_a_mask_without_its_image(small_mvtec: Path, one_line: OneLine):
    truth = small_mvtec / "ground_truth" / "blob"
    save_png(truth / "007_mask.png", np.ones((32, 32), dtype=bool))
    refused(small_mvtec, one_line, "'ground_truth/blob/007_mask.png'", "rename")


def test_masks_under_other_names_are_not_lost(small_mvtec: Path, one_line: OneLine):
    for path in sorted((small_mvtec / "ground_truth").rglob("*.png")):
        path.rename(path.with_name(path.name.replace("_mask", "_gt")))
    refused(small_mvtec, one_line, "ground_truth/blob/000_gt.png", "1 more", "_mask.png")


def test_a_mask_of_another_size(small_mvtec: Path, one_line: OneLine):
    mask = small_mvtec / "ground_truth" / "blob" / "000_mask.png"
    save_png(mask, np.ones((32, 31), dtype=bool))
    refused(small_mvtec, one_line, "blob/000_mask.png", "31 x 32", "32 x 32")


def test_a_mask_fits_the_upright_image(small_mvtec: Path, one_line: OneLine):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: 20 x 40 on disk, 40 x 20 as seen
    path = small_mvtec / "test" / "blob" / "000.png"
    Image.new("RGB", (20, 40)).save(path, exif=exif)
    mask = small_mvtec / "ground_truth" / "blob" / "000_mask.png"
    save_png(mask, np.ones((20, 40), dtype=bool))  # height, width
    record = next(r for r in scan(small_mvtec) if r.id == "test/blob/000")
    assert (record.width, record.height) == (40, 20)
    save_png(mask, np.ones((40, 20), dtype=bool))
    refused(small_mvtec, one_line, "blob/000_mask.png", "20 x 40", "40 x 20")


def test_a_mask_that_marks_nothing(small_mvtec: Path, one_line: OneLine):
    mask = small_mvtec / "ground_truth" / "blob" / "000_mask.png"
    save_png(mask, np.zeros((32, 32), np.uint8))
    refused(small_mvtec, one_line, "blob/000_mask.png", "all black", "255")


def test_an_image_at_another_depth(small_mvtec: Path, one_line: OneLine):
    save_png(small_mvtec / "test" / "000.png", np.zeros((8, 8, 3), np.uint8))
    refused(small_mvtec, one_line, "test/000.png", "test/<good or defect>/<file>", "move")


def test_an_image_format_that_is_not_read_is_not_dropped(small_mvtec: Path, one_line: OneLine):
    Image.new("RGB", (8, 8)).save(small_mvtec / "train" / "good" / "x.gif")
    refused(small_mvtec, one_line, "train/good/x.gif", ".png", "convert")


@pytest.mark.parametrize("kind", ["cut", "text", "empty"])
@pytest.mark.parametrize("place", ["train/good/001.png", "ground_truth/blob/000_mask.png"])
def test_a_damaged_file(small_mvtec: Path, kind: str, place: str, one_line: OneLine):
    path = small_mvtec / place
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "text": b"hello", "empty": b""}[kind])
    refused(small_mvtec, one_line, place, "decoded", "replace")

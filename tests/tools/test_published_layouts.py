"""VisA, BTAD and MVTec AD 2 are read as they are distributed, drawn small."""

from pathlib import Path

import numpy as np
import pytest
from small_data import save_png

from ad.images import InputRule, read_mask
from tools.install_data import INCOMING, copy_to_incoming
from ad.scan import detect_layout, scan

SIDE = 16


def picture(path: Path, seed: int) -> None:
    """Draw noise."""
    save_png(path, np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8))


def mask(path: Path, value: int) -> None:
    """Draw a mask whose left column is the defect."""
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[:, 0] = value
    save_png(path, values)


def btad(root: Path) -> Path:
    """Draw a product of BTAD: bitmaps, their masks in another format."""
    for number, folder in enumerate(("train/ok", "train/ok", "test/ok", "test/ko", "test/ko")):
        picture(root / folder / f"{number:04d}.bmp", number)
    for number, suffix in ((3, "png"), (4, "bmp")):
        mask(root / f"ground_truth/ko/{number:04d}.{suffix}", 255)
    (root / "ground_truth/ko/Thumbs.db").write_bytes(b"no mask")
    return root


def mvtec_ad_2(root: Path) -> Path:
    """Draw a category of MVTec AD 2, its private part included."""
    for number, folder in enumerate(
        ("train/good", "train/good", "validation/good", "test_private", "test_public/good")
    ):
        picture(root / folder / f"{number:03d}_regular.png", number)
    picture(root / "test_public/bad/000_regular.png", 9)
    mask(root / "test_public/ground_truth/bad/000_regular_mask.png", 255)
    return root


def visa(root: Path, *, table: Path, name: str = "candle") -> Path:
    """Draw a category of VisA, whose masks hold class numbers, and a table that names another."""
    rows = ["object,split,label,image,mask"]
    for split, label, kind, number in (
        ("train", "normal", "Normal", 0),
        ("train", "normal", "Normal", 1),
        ("test", "normal", "Normal", 2),
        ("test", "anomaly", "Anomaly", 0),
    ):
        image = f"Data/Images/{kind}/{number:04d}.JPG"
        picture(root / image, number + 10 * (label == "anomaly"))
        drawn = ""
        if label == "anomaly":
            drawn = f"Data/Masks/Anomaly/{number:04d}.png"
            mask(root / drawn, 3)
            drawn = f"{name}/{drawn}"
        rows.append(f"{name},{split},{label},{name}/{image},{drawn}")
        rows.append(f"other,{split},{label},other/{image},")
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def summary(root: Path) -> list[tuple]:
    """Say what was read."""
    return [(r.id, r.path, r.label, r.defect, r.mask) for r in scan(root)]


def test_btad(tmp_path):
    root = btad(tmp_path / "01")
    assert detect_layout(root) == "btad"
    assert summary(root) == [
        ("train/good/0000", "train/ok/0000.bmp", 0, "good", None),
        ("train/good/0001", "train/ok/0001.bmp", 0, "good", None),
        ("test/good/0002", "test/ok/0002.bmp", 0, "good", None),
        ("test/ko/0003", "test/ko/0003.bmp", 1, "ko", "ground_truth/ko/0003.png"),
        ("test/ko/0004", "test/ko/0004.bmp", 1, "ko", "ground_truth/ko/0004.bmp"),
    ]


def test_mvtec_ad_2(tmp_path):
    root = mvtec_ad_2(tmp_path / "can")
    assert detect_layout(root) == "mvtec_ad_2"
    found = summary(root)
    assert [row[0] for row in found[:2]] == ["train/good/000_regular", "train/good/001_regular"]
    truth = "test_public/ground_truth/bad/000_regular_mask.png"
    assert found[2:] == [
        ("test/bad/000_regular", "test_public/bad/000_regular.png", 1, "bad", truth),
        ("test/good/004_regular", "test_public/good/004_regular.png", 0, "good", None),
    ]


@pytest.mark.parametrize("inside", [True, False])
def test_visa(tmp_path, inside):
    root = tmp_path / "candle"
    visa(root, table=(root if inside else tmp_path) / "split_csv/1cls.csv")
    assert detect_layout(root) == "visa"
    truth = "Data/Masks/Anomaly/0000.png"
    assert summary(root) == [
        ("train/good/0000", "Data/Images/Normal/0000.JPG", 0, "good", None),
        ("train/good/0001", "Data/Images/Normal/0001.JPG", 0, "good", None),
        ("test/anomaly/0000", "Data/Images/Anomaly/0000.JPG", 1, "anomaly", truth),
        ("test/good/0002", "Data/Images/Normal/0002.JPG", 0, "good", None),
    ]
    found = read_mask(root / truth, InputRule(SIDE, None))
    assert found[:, 0].all() and not found[:, 1:].any()


def test_a_renamed_category_of_visa_keeps_its_name(tmp_path, one_line):
    root = visa(tmp_path / "data", table=tmp_path / "data/split_csv/1cls.csv")
    with pytest.raises(ValueError) as caught:
        scan(root)
    one_line(caught, "1cls.csv", "no row of the category 'data'")
    (root / "image_anno.csv").write_text("image,label,mask\ncandle/Data/Images/x.JPG,normal,\n")
    assert len(scan(root)) == 4


def test_visa_s_faults_are_lines(tmp_path, one_line):
    root = visa(tmp_path / "candle", table=tmp_path / "split_csv/1cls.csv")
    (root / "Data/Images/Normal/0001.JPG").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        scan(root)
    one_line(caught, "candle/Data/Images/Normal/0001.JPG", "restore it")
    (tmp_path / "split_csv/1cls.csv").write_text("object,image\n")
    with pytest.raises(ValueError) as caught:
        scan(root)
    one_line(caught, "no columns object,split,label,image,mask")
    (tmp_path / "split_csv/1cls.csv").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        scan(root)
    one_line(caught, "without their split", "copy split_csv/1cls.csv")


def test_visa_is_installed_with_its_table_from_beside(tmp_path, monkeypatch):
    root = visa(tmp_path / "candle", table=tmp_path / "split_csv/1cls.csv")
    (root / "image_anno.csv").write_text("image,label,mask\ncandle/Data/Images/x.JPG,normal,\n")
    monkeypatch.chdir(tmp_path)
    copy_to_incoming(root)
    incoming = summary(INCOMING)
    assert incoming == summary(root) and len(incoming) == 4

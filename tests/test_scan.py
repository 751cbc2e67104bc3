"""Every file is decoded once; what is wrong with it is one line, and what is odd is said."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_data import save_png, write_mvtec

from ad.images import read_rgb
from ad.scan import DECODING_BYTES, images_table, scan

MASK = "ground_truth/blob/000_mask.png"
BLOB = np.zeros((32, 32), np.uint8)
BLOB[10:20, 10:20] = 1


@pytest.fixture
def refused(one_line: Callable) -> Callable:
    """Return a check that a data set is refused in one line that holds some parts."""

    def check(root: Path, *parts: str, **options: object) -> None:
        with one_line((ValueError, OSError, MemoryError), *parts):
            scan(root, **options)

    return check


def said(root: Path, **options: object) -> str:
    """Return what `scan` says beside its records."""
    lines = []
    scan(root, say=lines.append, **options)
    return "\n".join(lines)


def test_a_record_describes_its_file(small_mvtec: Path):
    grey = np.random.default_rng(0).integers(0, 255, (20, 50), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: 20 x 50 on disk, 50 x 20 as seen
    Image.fromarray(grey.T).save(small_mvtec / "train/good/zzz.png", exif=exif)
    records = scan(small_mvtec)
    for record in records:
        content = (small_mvtec / record.path).read_bytes()
        assert record.sha256 == hashlib.sha256(content).hexdigest()
        odd = record.id.endswith("zzz")
        found = (record.width, record.height, record.mode)
        assert found == ((50, 20, "L") if odd else (32, 32, "RGB"))
        mask = (small_mvtec / record.mask).read_bytes() if record.mask else None
        assert record.mask_sha256 == (hashlib.sha256(mask).hexdigest() if mask else "")
    table = images_table(records)
    assert list(table["folder"]) == ["good", "blob", "good", "scratch"]
    assert list(table["images"]) == [5, 1, 2, 1] and list(table["masks"]) == [0, 1, 0, 1]
    assert table["size"][0] == "32 x 32, 50 x 20" and table["mode"][0] == "L, RGB"


def test_every_ending_is_decoded_in_any_case(tmp_path: Path):
    for number, suffix in enumerate(("PNG", "jpg", "JPEG", "bmp", "tif", "TIFF")):
        save_png(tmp_path / "a.png", np.full((9, 9, 3), 20 * number, np.uint8))
        Image.open(tmp_path / "a.png").save(tmp_path / f"{number}.{suffix}")
    (tmp_path / "a.png").unlink()
    save_png(tmp_path / "b.png", np.arange(243, dtype=np.uint8).reshape(9, 9, 3))
    assert len(scan(tmp_path)) == 7


def test_the_number_of_threads_changes_nothing(small_mvtec: Path):
    assert scan(small_mvtec, threads=1) == scan(small_mvtec, threads=3)


def test_train_only_test_only_and_nothing(small_mvtec: Path, refused: Callable):
    (small_mvtec / "ground_truth").rename(small_mvtec.parent / "truth")
    (small_mvtec / "test").rename(small_mvtec.parent / "test")
    assert {r.split for r in scan(small_mvtec)} == {"train"}
    (small_mvtec.parent / "test").rename(small_mvtec / "test")
    (small_mvtec / "train").rename(small_mvtec.parent / "train")
    assert {r.split for r in scan(small_mvtec, locked=True)} == {"test"}
    (small_mvtec / "train/good").mkdir(parents=True)
    (small_mvtec / "train/good/0.webp").write_bytes(b"RIFF")
    refused(small_mvtec, "train split has no images", ".webp (1)")


def test_what_is_passed_over_is_said(small_mvtec: Path):
    (small_mvtec / "test/.ipynb_checkpoints").mkdir()
    (small_mvtec / "test/good/a.heic").write_bytes(b"?")
    assert "passed over" in said(small_mvtec)
    assert ".heic (1), .ipynb_checkpoints (1)" in said(small_mvtec)


# Damage


@pytest.mark.parametrize("place", ["train/good/001.png", MASK])
def test_a_file_that_was_cut(small_mvtec: Path, place: str, refused: Callable):
    path = small_mvtec / place
    path.write_bytes(path.read_bytes()[:-30])
    refused(small_mvtec, place, "decoded", "replace")


@settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")), derandomize=True, database=None,
    deadline=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    st.sampled_from(["a.png", "b.jpg", "c.tif", "d.bmp"]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.booleans()), min_size=1),
)
def test_any_bytes_are_an_image_or_one_line(tmp_path_factory, name: str, changes: list):
    root = tmp_path_factory.getbasetemp() / "fuzz_images"
    root.mkdir(exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    for other in sorted(root.iterdir()):
        other.unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(root / name, exif=exif)
    content = bytearray((root / name).read_bytes())
    for where, piece, over in changes:
        place = int(where * len(content))
        content[place : place + len(piece) * over] = piece
    (root / name).write_bytes(content)
    try:
        assert len(scan(root)) == 1
    except (ValueError, OSError, MemoryError) as error:
        assert name in str(error) and "\n" not in str(error)


# What says nothing, or two things


def test_images_that_show_nothing(small_mvtec: Path, refused: Callable):
    save_png(small_mvtec / "test/good/x.png", np.zeros((1, 1, 3), np.uint8))
    refused(small_mvtec, "test/good/x.png", "1 x 1", "8 x 8")
    save_png(small_mvtec / "test/good/x.png", np.zeros((32, 32, 3), np.uint8))  # black: a picture
    assert any(record.id == "test/good/x" for record in scan(small_mvtec))
    for number in range(4):
        save_png(
            small_mvtec / f"train/good/{number:03d}.png", np.zeros((9, 9 + number, 3), np.uint8)
        )
    refused(small_mvtec, "all 4 training images are of one colour")


def test_the_same_training_picture_everywhere(small_mvtec: Path, refused: Callable):
    pixels = np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)
    for number in range(4):  # other bytes, the same pixels
        path = small_mvtec / f"train/good/{number:03d}.png"
        Image.fromarray(pixels).save(path, compress_level=number)
    refused(small_mvtec, "all 4 training images", "same picture", "differ")


def test_a_picture_in_two_roles(small_mvtec: Path, refused: Callable):
    normal = Image.open(small_mvtec / "train/good/001.png")
    normal.save(small_mvtec / "test/good/copy.png", compress_level=9)
    refused(small_mvtec, "train/good/001.png and test/good/copy.png", "in train and in test")
    Image.open(small_mvtec / "test/blob/000.png").save(small_mvtec / "test/good/copy.png")
    refused(small_mvtec, "test/blob/000.png and test/good/copy.png", "two labels")


# Bits


def sixteen(root: Path, most: int) -> None:
    """Write normal pictures of 16 bits whose largest value is given."""
    for number in range(3):
        values = np.random.default_rng(number).integers(0, most, (16, 16)).astype(np.uint16)
        values[0, 0] = most
        root.mkdir(exist_ok=True)
        Image.fromarray(values).save(root / f"{number}.png")


@pytest.mark.parametrize(("most", "bits"), [(4095, 12), (1023, 10), (255, 8)])
def test_fewer_bits_in_16_bit_files(tmp_path: Path, most: int, bits: int, refused: Callable):
    sixteen(tmp_path / "set", most)
    refused(tmp_path / "set", f"above {most}", f"set image.bits to {bits}")
    assert len(scan(tmp_path / "set", bits=bits)) == len(scan(tmp_path / "set", bits=16)) == 3
    sixteen(tmp_path / "more", most + 1)
    refused(tmp_path / "more", f"{most + 1}", "image.bits", bits=bits)


def test_sixteen_bits_that_are_used(tmp_path: Path):
    sixteen(tmp_path / "set", 4096)
    assert {r.mode for r in scan(tmp_path / "set")} == {"I;16"}


# Masks


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((32, 31), np.uint8) * BLOB[:, :31], ("31 x 32", "32 x 32")),
        (0 * BLOB, ("all black", "white on black")),
        (np.full_like(BLOB, 255), ("all white", "white on black")),
        (255 * (1 - BLOB), ("scratch/001_mask.png is mostly 0", "mostly 255", "inverted")),
    ],
)
def test_a_mask_that_is_refused(small_mvtec: Path, values, words: tuple, refused: Callable):
    save_png(small_mvtec / MASK, values)
    refused(small_mvtec, "blob/000_mask.png", *words)


def test_odd_masks_are_said(small_mvtec: Path):
    save_png(small_mvtec / MASK, 100 * BLOB + 100 * np.roll(BLOB, 9, axis=0))
    assert "1 masks have more than two levels" in said(small_mvtec)
    assert f"{MASK} (0, 100, 200)" in said(small_mvtec)
    for path in sorted((small_mvtec / "ground_truth").rglob("*.png")):
        save_png(path, 255 * (1 - BLOB))
    assert "background is 255, not 0; read as inverted" in said(small_mvtec)


# Memory and time


def test_decoding_is_counted_before_it_happens(small_mvtec: Path, refused: Callable):
    Image.new("L", (3000, 3000)).save(small_mvtec / "test/good/large.png")
    scan(small_mvtec, threads=2, memory_bytes=300e6)
    words = ("large.png", "3000 x 3000", "0.126 GB", "runtime.memory_gb")
    refused(small_mvtec, *words, memory_bytes=200e6)
    Image.new("1", (20_000, 10_000)).save(small_mvtec / "test/good/large.png")
    refused(small_mvtec, "large.png", "200000000 pixels", "replace")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
@pytest.mark.skipif(os.name == "nt", reason="peak memory of Unix")
def test_what_is_counted_is_an_upper_bound(tmp_path: Path, mode: str):
    path = tmp_path / "a.png"
    Image.new(mode, (4000, 3000)).save(path, compress_level=1)
    code = (
        "import sys, resource; from ad.images import read_rgb\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); read_rgb(sys.argv[1]); print(1024 * (peak() - before))\n"
    )
    # A child inherits its parent's peak, so the measurement starts from a small process.
    launch = [sys.executable, "-c", code, str(path)]
    small = f"import subprocess; subprocess.run({launch!r}, check=True)"
    ran = subprocess.run([sys.executable, "-c", small], capture_output=True, text=True, check=True)
    assert 12e6 < int(ran.stdout) <= DECODING_BYTES * 12e6


@pytest.mark.parametrize(("noted", "size"), [(6, (4999, 5000)), (1, (5000, 4999))])
def test_a_large_jpeg_keeps_its_size_in_the_record(tmp_path: Path, noted: int, size: tuple):
    pixels = np.broadcast_to(np.linspace(0, 255, 5000).astype(np.uint8), (4999, 5000))
    exif = Image.Exif()
    exif[0x0112] = noted
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    (record,) = scan(tmp_path)
    assert (record.width, record.height) == size
    assert read_rgb(tmp_path / "a.jpg").size == (2500, 2500)


def test_hostile_names_pass(tmp_path: Path):
    write_mvtec(tmp_path, n_train=3, n_anomalous=2, size=16, names=("<b>&amp;", "=1+1 \u202e"))
    (tmp_path / "train/good/000.png").rename(tmp_path / f"train/good/{'가' * 83}zz.png")
    records = scan(tmp_path)
    assert {r.defect for r in records} == {"good", "<b>&amp;", "=1+1 \u202e"}
    assert all(r.mask for r in records if r.label)

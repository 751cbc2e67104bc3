"""Data sets that would hang, fill the memory, mislead or break a page: refused, or harmless."""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_data import network, save_csv, save_png, write_competition, write_mvtec

from ad.data import of_split
from ad.extraction import plan_extraction
from ad.images import InputRule, network_input, read_rgb
from ad.params import Patch, Runtime
from tools.headers import check_resizing, read_header
from ad.scan import scan

OneLine = Callable[..., None]
UNIX = pytest.mark.skipif(os.name == "nt", reason="files of Unix")


def refused(root: Path, one_line: OneLine, *parts: str, **limits: float) -> None:
    """Assert that the data set is refused in one line that holds ``parts``."""
    with pytest.raises((ValueError, OSError, MemoryError)) as caught:
        scan(root, **limits)
    one_line(caught, *parts)


# What is no file


@UNIX
@pytest.mark.parametrize("name", ["train/good/x.png", "notes.txt"])
def test_a_pipe_is_refused_before_it_is_opened(small_mvtec: Path, name: str, one_line: OneLine):
    os.mkfifo(small_mvtec / name)
    refused(small_mvtec, one_line, name, "a pipe", "remove it")


@UNIX
@pytest.mark.parametrize("target", ["x.png", "nowhere.png"])
def test_a_link_to_itself_or_to_nothing(small_mvtec: Path, target: str, one_line: OneLine):
    (small_mvtec / "train" / "good" / "x.png").symlink_to(target)
    refused(small_mvtec, one_line, "train/good/x.png", "link", "remove it")


@UNIX
def test_a_folder_is_listed_once(small_mvtec: Path, one_line: OneLine):
    (small_mvtec / "train" / "good" / "again").symlink_to(small_mvtec)
    refused(small_mvtec, one_line, "train/good/again", "the same folder as", "link")


@UNIX
def test_a_folder_elsewhere_may_be_linked(small_mvtec: Path):
    before = scan(small_mvtec)
    (small_mvtec / "train").rename(small_mvtec.parent / "elsewhere")
    (small_mvtec / "train").symlink_to(small_mvtec.parent / "elsewhere")
    assert scan(small_mvtec) == before


@UNIX
@pytest.mark.parametrize(
    ("name", "words"), [(b"\xff\xfe.png", "not UTF-8"), (b"a\nb.png", "control character")]
)
def test_a_name_that_no_table_can_hold(small_mvtec: Path, name: bytes, words: str, one_line):
    folder = os.fsencode(small_mvtec / "train" / "good")
    os.link(folder + b"/000.png", folder + b"/" + name)
    refused(small_mvtec, one_line, "train/good", words, "rename")


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Be nobody for a while; root may read everything."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@UNIX
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("train/good/sub", "sub: cannot be listed (Permission denied)"),
        ("train/good/001.png", "001.png: you may not read it"),
    ],
)
def test_what_may_not_be_read_is_named_and_not_passed_over(
    ordinary_user, place: str, words: str, one_line: OneLine
):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_mvtec(root, n_train=4, n_normal=2, n_anomalous=2, size=32)
        (root / "train" / "good" / "sub").mkdir()
        (root / place).chmod(0)
        refused(root, one_line, words)
        (root / place).chmod(0o700)


# What says nothing, or two things


def test_an_image_of_one_pixel(small_mvtec: Path, one_line: OneLine):
    save_png(small_mvtec / "test" / "good" / "x.png", np.zeros((1, 1, 3), np.uint8))
    refused(small_mvtec, one_line, "test/good/x.png", "1 x 1", "8 x 8")


def test_the_same_training_picture_everywhere(small_competition: Path, one_line: OneLine):
    for number in range(4):  # other bytes, the same pixels
        path = small_competition / "train" / f"TRAIN_{number:03d}.png"
        pixels = np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)
        Image.fromarray(pixels).save(path, compress_level=number)
    refused(small_competition, one_line, "all 4 training images", "same picture", "differ")


def test_black_training_images(small_mvtec: Path, one_line: OneLine):
    for number in range(4):
        path = small_mvtec / "train" / "good" / f"{number:03d}.png"
        save_png(path, np.zeros((32, 32 + number, 3), np.uint8))
    refused(small_mvtec, one_line, "all 4 training images are of one colour")


@pytest.mark.parametrize(("label", "defect"), [(1, "good"), (1, "OK"), (0, "blob")])
def test_a_label_and_a_defect_that_contradict(tmp_path: Path, label: int, defect: str, one_line):
    labels = write_competition(tmp_path, n_train=2, n_test=4, size=32)
    rows = [(name, label, defect) for name in labels]
    save_csv(tmp_path / "test_labels.csv", ["id", "label", "defect"], rows)
    refused(tmp_path, one_line, "test_labels.csv", f"label {label}", repr(defect), "good")


def test_a_folder_that_only_looks_normal(small_mvtec: Path, one_line: OneLine):
    (small_mvtec / "test" / "good").rename(small_mvtec / "test" / "Normal")
    refused(small_mvtec, one_line, "test/Normal/000.png", "label 1", "'Normal'", "good")


def test_an_id_with_a_line_break(small_competition: Path, one_line: OneLine):
    for name in ("test.csv", "sample_submission.csv"):
        path = small_competition / name
        path.write_text(path.read_text().replace("TEST_001,", '"TEST\n001",'))
    refused(small_competition, one_line, "test.csv, row 2", "control character", "remove")


@UNIX
def test_names_of_255_bytes_and_ids_that_differ_in_case_only(small_mvtec: Path):
    good, blob = small_mvtec / "train" / "good", small_mvtec / "test" / "blob"
    (good / "000.png").rename(good / f"{'가' * 83}zz.png")
    (good / "001.png").rename(good / "A.png")
    (good / "002.png").rename(good / "a.png")
    (blob / "000.png").rename(blob / f"{'b' * 251}.png")
    truth = small_mvtec / "ground_truth" / "blob"
    (truth / "000_mask.png").rename(truth / f"{'b' * 251}.png")
    records = scan(small_mvtec)
    assert {"train/good/A", "train/good/a"} <= {r.id for r in records}
    assert all(r.mask for r in records if r.label)


# Memory


def test_decoding_is_counted_before_it_happens(small_mvtec: Path, one_line: OneLine):
    path = small_mvtec / "test" / "good" / "large.png"
    Image.new("L", (3000, 3000)).save(path)
    scan(small_mvtec, threads=1, memory_bytes=60e6)
    refused(
        small_mvtec, one_line, "large.png", "3000 x 3000", "0.05 GB", "runtime.threads",
        threads=2, memory_bytes=60e6,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
@UNIX
def test_what_is_counted_is_an_upper_bound(tmp_path: Path, mode: str):
    path = tmp_path / "a.png"
    Image.new(mode, (4000, 3000)).save(path, compress_level=1)
    code = (
        "import sys, resource; from ad.images import read_rgb\n"
        "from tools.headers import read_header\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "counted, before = read_header(sys.argv[1]).decoding_bytes, peak()\n"
        "read_rgb(sys.argv[1]); print(counted, 1024 * (peak() - before))\n"
    )
    # A child inherits its parent's peak, so the measurement starts from a small process.
    launch = [sys.executable, "-c", code, str(path)]
    small = f"import subprocess; subprocess.run({launch!r}, check=True)"
    ran = subprocess.run([sys.executable, "-c", small], capture_output=True, text=True, check=True)
    counted, measured = map(int, ran.stdout.split())
    assert counted / 4 < measured <= counted


def test_a_large_jpeg_is_reduced_while_it_is_decoded(tmp_path: Path):
    gradient = np.linspace(0, 255, 4100).astype(np.uint8)
    pixels = np.broadcast_to(gradient, (4000, 4100))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95, exif=exif)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=1)
    header = read_header(tmp_path / "a.jpg")
    assert (header.width, header.height, header.reduction) == (4000, 4100, 2)
    assert read_rgb(tmp_path / "a.jpg").size == (2000, 2050)
    found = network_input(tmp_path / "a.jpg", InputRule(64, None))
    whole = network_input(tmp_path / "a.png", InputRule(64, None))
    assert np.abs(found - whole.transpose(0, 2, 1)).max() < 0.05


def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path, one_line: OneLine):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.png")
    with warnings.catch_warnings(), pytest.raises(ValueError) as caught:
        warnings.simplefilter("ignore")
        read_header(tmp_path / "a.png")
    one_line(caught, "a.png", "replace")


@pytest.mark.parametrize(
    ("shape", "resize", "words"),
    [
        ((64, 64), 100_000_000, "at most 8 times image.size=64"),
        ((8000, 8), 256, "8000 x 8 pixels one of 256000 x 256"),
    ],
)
def test_resizing_is_bounded(shape: tuple[int, int], resize: int, words: str, one_line: OneLine):
    with pytest.raises((ValueError, MemoryError)) as caught:
        check_resizing(*shape, size=64, resize=resize, room=1e8)
    one_line(caught, words, "image.resize")


def test_an_image_size_that_cannot_fit_is_refused_at_once():
    torch.set_num_threads(2)
    tiny, started = network(), time.monotonic()
    with pytest.raises(MemoryError, match=r"memory_gb=3\.0 is too small: .* size 4096"):
        plan_extraction(tiny, Patch(size=3), InputRule(4096, None), Runtime(), batch_size=4)
    assert time.monotonic() - started < 10


def test_many_images_are_listed_in_little_time_and_memory(small_competition: Path):
    image = (small_competition / "train" / "TRAIN_000.png").read_bytes()
    rows = [(f"N{n:05d}", f"train/N{n:05d}.png", 0) for n in range(2000)]
    for _, name, _ in rows:
        (small_competition / name).write_bytes(image)
    for path in (small_competition / "train").glob("TRAIN_0*"):  # any order: all of them
        rows.append((path.stem, f"train/{path.name}", 0))
    save_csv(small_competition / "train.csv", ["id", "img_path", "label"], rows)
    started = time.monotonic()
    assert len(of_split(scan(small_competition), "train")) == 2004
    assert time.monotonic() - started < 20


def test_warnings_of_the_decoder_stay_silent(tmp_path: Path):
    image = Image.new("P", (9, 9))
    image.putpalette(bytes(range(9)))
    image.save(tmp_path / "a.png", transparency=b"\0\1")
    code = "import sys; from ad.images import read_rgb; read_rgb(sys.argv[1])"
    content = bytearray(Image.new("RGB", (9, 9)).tobytes())
    Image.frombytes("RGB", (9, 9), bytes(content)).save(
        tmp_path / "b.jpg", exif=b"Exif\0\0II*\0\x08"
    )
    for name in ("a.png", "b.jpg"):
        ran = subprocess.run(
            [sys.executable, "-c", code, tmp_path / name],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stderr == ""


def test_ids_that_differ_in_case_only_stay_apart(tmp_path: Path):
    labels = write_competition(tmp_path, n_train=2, n_test=4, size=32)
    names = list(labels)
    ids = ["part", "PART", "Part", *names[3:]]
    save_csv(
        tmp_path / "test.csv",
        ["id", "img_path"],
        [(i, f"test/{n}.png") for i, n in zip(ids, names, strict=True)],
    )
    save_csv(tmp_path / "sample_submission.csv", ["id", "label"], [(i, 0) for i in ids])
    save_csv(tmp_path / "test_labels.csv", ["id", "label"], list(zip(ids, [0, 1, 0, 1])))  # noqa: B905
    found = [record.id for record in scan(tmp_path) if record.split == "test"]
    assert sorted(found) == sorted(ids)


def test_a_black_test_image_is_an_image(small_mvtec: Path):
    path = small_mvtec / "test" / "good" / "black.png"
    save_png(path, np.zeros((32, 32, 3), np.uint8))
    assert any(record.id == "test/good/black" for record in scan(small_mvtec))

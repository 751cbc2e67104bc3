"""Decoding and geometry, against torchvision and against values worked out by hand."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ad.images import (
    InputRule,
    ignored_patches,
    mask_image,
    read_mask,
    read_rgb,
    resize_and_crop,
    shown,
    to_brightness,
    to_rgb,
)


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    Image.fromarray(pixels, mode).save(path, **options)
    return path


def repeated(grey: object) -> np.ndarray:
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, *, depth: int, colour_type: int, rows: list[bytes], size: tuple) -> Path:
    """Write a PNG by hand: Pillow itself writes no 16-bit colour, and no false size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""))
    return path


# Conversion, one rule a mode


@pytest.mark.parametrize(
    ("pixels", "mode", "suffix", "expected"),
    [
        (noise(5, 7), "RGB", "png", noise(5, 7)),
        (noise(5, 7, 1), "L", "bmp", repeated(noise(5, 7, 1))),
        (noise(5, 7, 4), "RGBA", "png", noise(5, 7, 4)[..., :3]),  # colours below alpha are kept
        (noise(5, 7, 2), "LA", "png", repeated(noise(5, 7, 2)[..., 0])),
        (np.array([[True, False]]), None, "png", repeated([[255, 0]])),
    ],
)
def test_plain_modes(tmp_path: Path, pixels, mode, suffix, expected):
    found = read_rgb(saved(tmp_path / f"a.{suffix}", pixels, mode))
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [*range(8, 17), None])
def test_sixteen_bit_grey_is_divided_by_its_largest_value(tmp_path: Path, bits, suffix: str):
    most = 2 ** (bits or 16) - 1
    values = np.arange(most + 1, dtype=np.uint16)[None]
    found = np.asarray(read_rgb(saved(tmp_path / f"a.{suffix}", values), bits))
    exact = values.astype(np.float64) * 255 / most  # never halfway: an odd divisor
    np.testing.assert_array_equal(found, repeated(np.rint(exact)))


def test_big_endian_and_wide_integers_are_read_as_sixteen_bit():
    values = np.array([[0, 25700, 65535]])
    big = Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes())
    for image in (big, Image.fromarray(values.astype(np.int32))):
        np.testing.assert_array_equal(np.asarray(to_rgb(image)), repeated([[0, 100, 255]]))


def test_sixteen_bit_colour_keeps_its_high_byte(tmp_path: Path, one_line: Callable):
    values = np.array([[[0, 255, 256], [0x12FF, 0xABCD, 65535]]], dtype=">u2")
    rows = [row.tobytes() for row in values]
    path = png(tmp_path / "a.png", depth=16, colour_type=2, rows=rows, size=(2, 1))
    np.testing.assert_array_equal(np.asarray(read_rgb(path)), [[[0, 0, 1], [0x12, 0xAB, 255]]])
    with one_line(ValueError, "a.png", "image.bits=12", "16-bit grey"):
        read_rgb(path, 12)


def test_a_picture_is_brought_to_a_mean_brightness(tmp_path: Path):
    grey = np.array([[10, 20, 30, 60, 120, 0]], np.uint8)  # mean 40
    rule = InputRule((1, 6), None, brightness=100.0)
    found = rule.pixels(Image.fromarray(grey).convert("RGB"))
    assert found[0, :, 1].tolist() == [25, 50, 75, 150, 255, 0]  # 300 is cut
    assert to_brightness(grey, 40.8)[0].tolist() == [10, 20, 31, 61, 122, 0]  # by 1.02
    assert not to_brightness(np.zeros((2, 2), np.uint8), 100.0).any()


@pytest.mark.parametrize(
    ("pixels", "bits", "words"),
    [
        (np.array([[0, 65536]], np.int32), None, ("0 to 65536", "16 bits")),
        (np.array([[-1, 0]], np.int32), None, ("-1 to 0", "save")),
        (np.array([[0, 4096]], np.uint16), 12, ("0 to 4096", "12 bits (0 to 4095)", "image.bits")),
        (np.ones((2, 2), np.float32), None, ("mode F", "save")),
    ],
)
def test_values_without_a_stated_range_are_refused(tmp_path, pixels, bits, words, one_line):
    path = saved(tmp_path / "a.tif", pixels)
    with one_line(ValueError, "a.tif", *words):
        read_rgb(path, bits)


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 0, 128])])
def test_a_palette_is_looked_up_and_transparency_changes_nothing(tmp_path: Path, transparency):
    colours = np.array([[200, 10, 30], [0, 250, 60], [5, 6, 7]], dtype=np.uint8)
    numbers = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    image = Image.fromarray(numbers, "P")
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "a.png", **({"transparency": transparency} if transparency else {}))
    assert Image.open(tmp_path / "a.png").mode == "P"
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "a.png")), colours[numbers])


def test_cmyk_by_its_plain_formula(tmp_path: Path):
    inks = noise(5, 7, 4)
    found = np.asarray(read_rgb(saved(tmp_path / "a.tif", inks, "CMYK")))
    share = 1 - inks.astype(np.float64) / 255
    assert np.abs(found - 255 * share[..., :3] * share[..., 3:]).max() <= 1


UPRIGHT = {  # from EXIF's number to NumPy
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_orientation_that_a_camera_noted_is_applied(tmp_path, suffix, orientation):
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"a.{suffix}", pixels, exif=exif, quality=100)
    found, expected = np.asarray(read_rgb(path)), UPRIGHT[orientation](pixels)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (8 if suffix == "jpg" else 0)


def exif_of(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Return an EXIF block of entries (tag, type, count, value or offset), little-endian."""
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0\0\0\0"


SIX = (0x0112, 3, 1, b"\x06\0")


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (exif_of(SIX, (0x011A, 2, 4, b"abc\0")), True),  # XResolution as text
        (exif_of(SIX, (0x0100, 5, 1, b"\xff\xff\xff\x7f")), True),  # a width outside the block
        (exif_of((0x0112, 2, 2, b"6\0")), False),  # Orientation as text
        (exif_of((0x0112, 9, 1, b"\xff\xff\xff\xff")), False),  # -1
        (exif_of((0x0112, 3, 1, b"\x09\0")), False),
        (b"Exif\0\0garbage", False),
        (b"Exif\0\0", False),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", False),
    ],
)
def test_orientation_alone_decides_about_turning(tmp_path: Path, exif: bytes, turned: bool):
    path = saved(tmp_path / "a.jpg", noise(8, 16), exif=exif)
    assert read_rgb(path).size == ((8, 16) if turned else (16, 8))


# Files that are no images


@pytest.mark.filterwarnings("ignore")  # of Pillow; `ad.images` silences them, pytest does not
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_damage_anywhere_gives_a_picture_or_one_line(tmp_path: Path, suffix: str):
    """Cut at every length, and one byte changed at every place of a small file."""
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = saved(tmp_path / f"a.{suffix}", noise(4, 6), exif=exif).read_bytes()
    path, refused = tmp_path / f"b.{suffix}", 0
    damaged = [whole[:length] for length in range(0, len(whole), 7)]
    damaged += [
        whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(len(whole))
    ]
    for content in damaged:
        path.write_bytes(content)
        try:
            assert read_rgb(path).mode == "RGB"
        except ValueError as error:
            refused += 1
            assert f"b.{suffix}: " in str(error) and "\n" not in str(error)
    assert refused > len(damaged) / 10


@pytest.mark.parametrize("kind", ["EPS", "GIF", "PPM", "WEBP", "TGA"])
def test_a_format_that_is_not_read_is_refused_whatever_its_name(tmp_path, kind, one_line):
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png", kind)
    with one_line(ValueError, "a.png: cannot be decoded", "replace", "PNG, JPEG"):
        read_rgb(tmp_path / "a.png")


def test_what_is_no_file_is_one_line(tmp_path: Path, one_line: Callable):
    (tmp_path / "folder.png").mkdir()
    huge = png(tmp_path / "huge.png", depth=8, colour_type=2, rows=[], size=(40_000, 40_000))
    for path, words in ((tmp_path / "folder.png", "not a file"), (huge, "exceeds limit")):
        with one_line(ValueError, path.name, words):
            read_rgb(path)
    with one_line(FileNotFoundError, r"a\udcff\n.png", "restore") as caught:
        read_rgb(tmp_path / "a\udcff\n.png")  # a name that is not UTF-8
    str(caught.value).encode()  # a terminal can show it


def test_text_that_no_terminal_shows_is_escaped():
    assert shown("a\x1b[31m\u202eb\udcff é 가\n") == r"a\x1b[31m\u202eb\udcff é 가\n"


def test_of_several_pages_the_first_is_taken(tmp_path: Path):
    pages = [Image.fromarray(noise(4, 4, seed=page)) for page in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "a.tif")), noise(4, 4, seed=0))


def test_a_line_decodes_without_pytorch_and_pydantic():
    code = "import sys, ad.images; print({'torch', 'pydantic', 'pandas', 'scipy'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


# Geometry, against torchvision


def torchvisions(size: tuple, resize: int | None, **how) -> transforms.Compose:
    if resize is None:
        return transforms.Compose([transforms.Resize(size, **how)])
    return transforms.Compose([transforms.Resize(resize, **how), transforms.CenterCrop(size)])


@pytest.mark.parametrize("picture", [(64, 64), (51, 77), (77, 51), (200, 63), (31, 32), (55, 55)])
@pytest.mark.parametrize(
    ("resize", "size"),
    [(48, (32, 32)), (48, (33, 20)), (224, (200, 150)), (None, (32, 32)), (None, (20, 37))],
)
def test_resize_and_crop_equal_torchvision(picture: tuple, resize: int | None, size: tuple):
    image = Image.fromarray(noise(*picture))
    found = resize_and_crop(image, size=size, resize=resize)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(torchvisions(size, resize)(image)))


def test_a_crop_that_the_picture_does_not_cover_is_refused(tmp_path: Path, one_line: Callable):
    path, rule = saved(tmp_path / "a.png", noise(40, 50)), InputRule((32, 64), 40)
    with one_line(ValueError, "a.png", "image.resize=40", "50 x 40", "64 x 32"):
        rule.read(path)


@pytest.mark.parametrize(("size", "resize"), [((32, 32), None), ((32, 24), 40)])
def test_the_network_input_equals_torchvision(tmp_path: Path, size: tuple, resize: int | None):
    path, rule = saved(tmp_path / "a.png", noise(51, 77)), InputRule(size, resize)
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = [torchvisions(size, resize), transforms.ToTensor(), normalize]
    found = rule.normalised(rule.read(path))
    assert found.dtype == np.float32 and found.flags.c_contiguous
    expected = transforms.Compose(steps)(Image.open(path))
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-6)


# Masks

DEFECT = np.zeros((8, 10), dtype=bool)
DEFECT[2:5, 3:6] = True
CLASSES = np.where(DEFECT, 1, 0)
CLASSES[3, 4] = 2


def coloured(*colours: tuple) -> np.ndarray:
    return np.array(colours, dtype=np.uint8)[CLASSES]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.uint8(255) * DEFECT, (0, 255)),
        (DEFECT, (0, 255)),
        (CLASSES.astype(np.uint8), (0, 1, 2)),
        (np.array([0, 100, 200], np.uint8)[CLASSES], (0, 100, 200)),
        (np.where(DEFECT, 0, 255).astype(np.uint8), (255, 0)),  # inverted
        (DEFECT.astype(np.uint16), (0, 1)),
        (np.uint16(65535) * DEFECT, (0, 65535)),
        (coloured((0, 0, 0), (255, 255, 255), (255, 255, 255)), (0, 255)),
        (coloured((0, 0, 0), (255, 0, 0), (0, 255, 0)), (0, 0x00FF00, 0xFF0000)),
        (coloured((0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 255)), (0, 255)),  # in alpha alone
        (coloured((0, 0, 0, 255), (9, 9, 9, 255), (9, 9, 9, 255)), (0, 9)),
        (coloured((0, 0, 0, 0), (9, 9, 9, 255), (9, 9, 9, 255)), (0, 9)),
    ],
)
def test_what_differs_from_the_background_is_marked(tmp_path: Path, values, levels):
    mask, found = mask_image(saved(tmp_path / "mask.png", values))
    np.testing.assert_array_equal(np.asarray(mask), np.uint8(255) * DEFECT)
    assert found == levels


def test_palettes_and_jpegs_are_masks_too(tmp_path: Path):
    image = Image.fromarray(CLASSES.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "mask.png")
    mask, levels = mask_image(tmp_path / "mask.png")
    np.testing.assert_array_equal(np.asarray(mask) > 0, DEFECT)
    assert levels == (0, 0x008000, 0x800000)
    large = np.kron(DEFECT, np.ones((5, 7), bool))
    path = saved(tmp_path / "mask.jpg", np.uint8(255) * large, quality=70)
    assert len(np.unique(np.asarray(Image.open(path)))) > 2  # traces of its compression
    mask, levels = mask_image(path)
    np.testing.assert_array_equal(np.asarray(mask) > 0, large)
    assert levels == (0, 255)


def test_a_mask_goes_the_way_of_its_image(tmp_path: Path):
    fine = np.where(noise(50, 96, 1) > 200, 255, 0).astype(np.uint8)  # any mixing shows
    reference = torchvisions((16, 20), 24, interpolation=transforms.InterpolationMode.NEAREST)
    found = read_mask(saved(tmp_path / "mask.png", fine), InputRule((16, 20), 24))
    expected = np.asarray(reference(Image.fromarray(fine))) > 0
    assert found.dtype == bool and 0 < found.mean() < 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(64, 96), (128, 192), (50, 70)])
def test_a_patch_is_ignored_where_any_of_its_pixels_is_marked(tmp_path: Path, shape: tuple):
    rng = np.random.default_rng(3)
    marks = np.zeros(shape, dtype=np.uint8)
    marks[0] = 255  # the border is marked: black alone counts
    for row, column in rng.integers(0, shape, (4, 2)):
        marks[row : row + 5, column : column + 5] = 255
    rule, grid = InputRule((64, 96), None), (7, 12)
    found = ignored_patches(saved(tmp_path / "ignore.png", marks).name, rule, grid, root=tmp_path)
    whole = np.asarray(Image.fromarray(marks).resize((96, 64), Image.Resampling.BOX)) > 0
    expected = np.zeros(grid, dtype=bool)
    for row, column in np.argwhere(whole):  # the cell that a pixel's first corner lies in
        expected[row * 7 // 64, column * 12 // 96] = True
    np.testing.assert_array_equal(found, expected)


def test_ignoring_nothing_or_everything(tmp_path: Path, one_line: Callable):
    rule = InputRule((32, 32), None)
    assert not ignored_patches(None, rule, (4, 4)).any()
    for value, words in ((0, "nothing"), (255, "every patch")):
        path = saved(tmp_path / "ignore.png", np.full((8, 8), value, np.uint8))
        with one_line(ValueError, "image.ignore", words, "white on black"):
            ignored_patches(str(path), rule, (4, 4))

"""Decoding and geometry, against torchvision and against values worked out by hand."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ad.images import InputRule, network_input, read_mask, read_rgb, resize_and_crop, to_rgb


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def rgb(path: Path) -> np.ndarray:
    image = read_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


def png(path: Path, *, depth: int, colour_type: int, rows: list[bytes], width: int) -> None:
    """Write a PNG by hand: Pillow itself writes no 16-bit colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


# Conversion, one rule a mode


def test_rgb_stays_as_it_is(tmp_path: Path):
    pixels = noise(5, 7)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), pixels)


def test_grey_is_repeated(tmp_path: Path):
    grey = noise(5, 7, 1)
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), repeated(grey))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_divided_by_257(tmp_path: Path, suffix: str):
    values = np.array([[0, 128, 129, 257], [385, 386, 32767, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    by_hand = [[0, 0, 1, 1], [1, 2, 127, 255]]  # 128/257 = 0.498, 129/257 = 0.502, 386/257 = 1.502
    np.testing.assert_array_equal(rgb(tmp_path / f"a.{suffix}"), repeated(by_hand))


def test_big_endian_sixteen_bit_grey(tmp_path: Path):
    values = np.array([[0, 257], [25700, 65535]], dtype=">u2")
    image = Image.frombytes("I;16B", (2, 2), values.tobytes())
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), repeated([[0, 1], [100, 255]]))


def test_sixteen_bit_colour_keeps_its_high_byte(tmp_path: Path):
    values = np.array([[[0, 255, 256], [0x12FF, 0xABCD, 65535]]], dtype=">u2")
    rows = [row.tobytes() for row in values]
    png(tmp_path / "a.png", depth=16, colour_type=2, rows=rows, width=2)
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), [[[0, 0, 1], [0x12, 0xAB, 255]]])


def test_integers_that_sixteen_bits_hold_are_read_as_such():
    image = Image.fromarray(np.array([[0, 25700, 65535]], dtype=np.int32))
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), repeated([[0, 100, 255]]))


@pytest.mark.parametrize("value", [65536, -1])
def test_integers_beyond_sixteen_bits_are_refused(tmp_path: Path, value: int, one_line: Callable):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, value]], dtype=np.int32)).save(path)
    with pytest.raises(ValueError) as caught:
        read_rgb(path)
    one_line(caught, "a.tif", str(value), "16")


def test_floating_point_is_refused(tmp_path: Path, one_line: Callable):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError) as caught:
        read_rgb(tmp_path / "a.tif")
    one_line(caught, "a.tif", "mode F", "save")


def test_alpha_is_dropped_and_the_colours_below_are_kept(tmp_path: Path):
    pixels = noise(5, 7, 4)
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), pixels[..., :3])


def test_grey_with_alpha(tmp_path: Path):
    pixels = noise(5, 7, 2)
    Image.fromarray(pixels, "LA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), repeated(pixels[..., 0]))


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 0, 128])])
def test_a_palette_is_looked_up(tmp_path: Path, transparency, recwarn):
    colours = np.array([[200, 10, 30], [0, 250, 60], [5, 6, 7]], dtype=np.uint8)
    numbers = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    image = Image.fromarray(numbers, "P")
    image.putpalette(colours.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)
    assert Image.open(tmp_path / "a.png").mode == "P"
    recwarn.clear()  # what Pillow says of the test's own palette image
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), colours[numbers])
    assert not recwarn.list


@pytest.mark.parametrize(("pixels", "key"), [(noise(2, 2), (1, 2, 3)), (noise(2, 2, 1), 9)])
def test_a_transparent_colour_changes_nothing(tmp_path: Path, pixels: np.ndarray, key):
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=key)
    assert "transparency" in Image.open(tmp_path / "a.png").info
    expected = pixels if pixels.ndim == 3 else repeated(pixels)
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), expected)


def test_cmyk_by_its_plain_formula(tmp_path: Path):
    inks = noise(5, 7, 4)
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif")
    assert Image.open(tmp_path / "a.tif").mode == "CMYK"
    share = 1 - inks.astype(np.float64) / 255
    expected = 255 * share[..., :3] * share[..., 3:]
    assert np.abs(rgb(tmp_path / "a.tif") - expected).max() <= 1


def test_one_bit_is_black_and_white(tmp_path: Path):
    bits = np.array([[True, False, True], [False, False, True]])
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "1"
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), repeated(255 * bits))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_the_orientation_that_a_camera_noted_is_applied(
    tmp_path: Path, suffix: str, orientation: int, upright: Callable
):
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:8, :8] = (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    options = {"quality": 100} if suffix == "jpg" else {}
    Image.fromarray(pixels).save(path, exif=exif, **options)
    expected = upright(pixels)
    found = rgb(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (8 if suffix == "jpg" else 0)


# Files that are no images


def test_a_truncated_file_at_any_length(tmp_path: Path, one_line: Callable):
    for suffix in ("png", "jpg", "bmp"):
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(noise(40, 40)).save(whole)
        content = whole.read_bytes()
        for share in (0.1, 0.5, 0.9):
            path = tmp_path / f"cut.{suffix}"
            path.write_bytes(content[: int(share * len(content))])
            with pytest.raises(ValueError) as caught:
                read_rgb(path)
            one_line(caught, f"cut.{suffix}", "replace")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM"]
)
def test_a_file_that_is_no_image(tmp_path: Path, content: bytes, one_line: Callable):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_rgb(path)
    one_line(caught, "a.png", "replace")


def test_a_missing_file(tmp_path: Path, one_line: Callable):
    with pytest.raises(FileNotFoundError) as caught:
        read_rgb(tmp_path / "a.png")
    one_line(caught, "a.png", "restore")


def test_a_folder_named_like_an_image(tmp_path: Path, one_line: Callable):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ValueError) as caught:
        read_rgb(tmp_path / "a.png")
    one_line(caught, "a.png")


def test_a_picture_too_large_for_memory(tmp_path: Path, one_line: Callable):
    path = tmp_path / "a.png"
    png(path, depth=8, colour_type=2, rows=[], width=1)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 40_000, 40_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_rgb(path)
    one_line(caught, "a.png")


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0"])
def test_a_damaged_camera_note_gives_the_picture_or_one_line(tmp_path: Path, exif: bytes):
    pixels = noise(8, 8)
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, exif=exif)
    try:
        assert rgb(path).shape == pixels.shape
    except ValueError as error:
        assert "a.jpg" in str(error)


def test_of_several_pages_the_first_is_taken(tmp_path: Path):
    pages = [Image.fromarray(noise(4, 4, seed=page)) for page in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(rgb(tmp_path / "a.tif"), noise(4, 4, seed=0))


# Geometry, against torchvision


@pytest.mark.parametrize(
    ("height", "width"),
    [(64, 64), (49, 49), (51, 77), (77, 51), (200, 63), (31, 32), (98, 49), (55, 55)],
)
@pytest.mark.parametrize(("resize", "size"), [(48, 32), (47, 32), (48, 33), (40, 40), (224, 200)])
def test_resize_and_crop_equal_torchvision(height: int, width: int, resize: int, size: int):
    image = Image.fromarray(noise(height, width))
    reference = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(size)])
    np.testing.assert_array_equal(
        np.asarray(resize_and_crop(image, size=size, resize=resize)), np.asarray(reference(image))
    )


class Shape:
    """Stands for an image and notes the size that it is resized to."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)

    def resize(self, size: tuple[int, int], _resample: Image.Resampling) -> "Shape":
        return Shape(*size)

    def crop(self, _box: tuple[int, int, int, int]) -> "Shape":
        return self


def test_the_resized_size_is_torchvisions_for_every_shape():
    # torchvision: int(size * long / short). Another order of rounding is off by one pixel for
    # some shapes, squares among them.
    wrong = []
    for resize in (224, 256):
        for short in range(20, 700):
            for long in (short, short + 7, 2 * short):
                found = resize_and_crop(Shape(short, long), size=resize, resize=resize).size
                if found != (resize, int(resize * long / short)):
                    wrong.append((resize, short, long, found))
    assert not wrong, wrong[:5]


def test_without_resize_the_image_goes_straight_to_its_size():
    image = Image.fromarray(noise(51, 77))
    np.testing.assert_array_equal(
        np.asarray(resize_and_crop(image, size=32, resize=None)),
        np.asarray(transforms.Resize((32, 32))(image)),
    )


@pytest.mark.parametrize(("size", "resize"), [(32, None), (32, 40)])
def test_the_network_input_equals_torchvision(tmp_path: Path, size: int, resize: int | None):
    path = tmp_path / "a.png"
    Image.fromarray(noise(51, 77)).save(path)
    steps = [transforms.Resize((size, size))] if resize is None else [
        transforms.Resize(resize), transforms.CenterCrop(size)
    ]  # fmt: skip
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    reference = transforms.Compose([*steps, transforms.ToTensor(), normalize])
    found = network_input(path, InputRule(size, resize))
    assert found.dtype == np.float32
    assert found.shape == (3, size, size)
    assert found.flags.c_contiguous
    expected = reference(Image.open(path))
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-6)


def test_images_of_different_sizes_and_modes_give_the_same_shape(tmp_path: Path):
    for number, (height, width, channels) in enumerate([(20, 90, 3), (300, 100, 1), (64, 64, 4)]):
        Image.fromarray(noise(height, width, channels)).save(tmp_path / f"{number}.png")
        found = network_input(tmp_path / f"{number}.png", InputRule(32, 40))
        assert found.shape == (3, 32, 32)


# Masks


def test_a_mask_goes_the_way_of_its_image(tmp_path: Path):
    mask = np.where(noise(50, 96, 1) > 127, 255, 0).astype(np.uint8)  # fine: any mixing shows
    Image.fromarray(mask).save(tmp_path / "mask.png")
    steps = transforms.Compose(
        [
            transforms.Resize(24, interpolation=transforms.InterpolationMode.NEAREST),
            transforms.CenterCrop(16),
        ]
    )
    found = read_mask(tmp_path / "mask.png", InputRule(16, 24))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, np.asarray(steps(Image.fromarray(mask))) > 0)
    assert found.any()
    assert not found.all()


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "P"])
def test_a_mask_in_any_mode(tmp_path: Path, mode: str):
    expected = np.zeros((8, 8), dtype=bool)
    expected[2:5, 3:6] = True
    Image.fromarray(np.uint8(255) * expected).convert(mode).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", InputRule(8, None)), expected)


def test_class_numbers_mark_the_defect_where_no_value_is_above_127(tmp_path: Path):
    values = np.array([[0, 1, 5], [0, 0, 127], [2, 0, 0]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", InputRule(3, None)), values > 0)


def test_mask_values_above_127_are_the_defect(tmp_path: Path):
    values = np.array([[0, 1, 127], [128, 200, 255], [15, 16, 0]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(
        read_mask(tmp_path / "mask.png", InputRule(3, None)), values > 127
    )

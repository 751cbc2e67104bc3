"""The page that inspects pictures in a browser says what `ad-inspect` says, of every kind of PNG.

Runs where the extra ``browser``, a Chromium and npm (or what it once fetched) are at hand.
"""

import csv
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from small_data import draw_normal, network, save_png

from ad.detector.decision import Decision
from ad.detector.detector import Detector
from ad.detector.make import add_resizing, write_detector
from ad.detector.network import write_network
from ad.extraction import make_extractor
from ad.files import write_text
from ad.params import Image, Patch
from tools import browser_page

playwright = pytest.importorskip("playwright.sync_api", reason="the extra 'browser' is missing")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
RULES = {  # how pictures become pixels
    "bicubic": Image(input_size=48),
    "bilinear, cropped": Image(
        input_size=[64, 48], region=[0.1, 0.0, 1.0, 0.9], resize=81, interpolation="bilinear"
    ),
    "12 bits": Image(input_size=48, bits=12),
}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    try:
        browser_page.runtime()
    except (OSError, ValueError) as error:
        pytest.skip(f"no onnxruntime-web: {error}")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def png(path: Path, values: np.ndarray, bits: int, kind: int) -> None:
    """Write a PNG of a colour type that Pillow does not write, each row with another filter."""
    rows = values.astype(">u2" if bits == 16 else np.uint8).reshape(len(values), -1).view(np.uint8)
    step, lines = values[0, 0].size * bits // 8, []
    for n, row in enumerate(rows.astype(int)):
        left = np.append(np.zeros(step, int), row)[: row.size]
        above = rows[n - 1].astype(int) if n else np.zeros_like(row)
        corner = np.append(np.zeros(step, int), above)[: row.size]
        guesses = np.stack([left, above, corner])
        nearest = abs(left + above - corner - guesses).argmin(axis=0)
        paeth = np.take_along_axis(guesses, nearest[None], 0)[0]
        lost = [0 * row, left, above, (left + above) // 2, paeth][n % 5]
        lines.append(bytes([n % 5]) + ((row - lost) % 256).astype(np.uint8).tobytes())
    head = struct.pack(">IIBBBBB", values.shape[1], len(values), bits, kind, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + name + body
        content += struct.pack(">I", zlib.crc32(name + body))
    path.write_bytes(content)


def write_pictures(folder: Path, *, deep: bool) -> None:
    """Write pictures of many sizes and kinds; ``deep`` ones in 12 of 16 bits only."""
    rng = np.random.default_rng(5)
    if deep:
        png(folder / "grey_12.png", rng.integers(0, 4096, (60, 70, 1)), 16, 0)
        png(folder / "beyond.png", rng.integers(0, 65536, (60, 70, 1)), 16, 0)
        return
    picture = draw_normal(rng, 240)
    for name, some in {"large": picture, "tall": picture[:, :60], "small": picture[:9, :7]}.items():
        save_png(folder / f"{name}.png", some)
    image = Picture.fromarray(picture[:75, :81])
    for mode in ("L", "LA", "RGBA", "1"):
        image.convert(mode).save(folder / f"mode_{mode}.png")
    for colours in (3, 13, 200):
        image.quantize(colours).save(folder / f"palette_{colours}.png")
    image.save(folder / "plain.bmp")
    for name, channels, kind in (("grey", 1, 0), ("rgb", 3, 2), ("la", 2, 4), ("rgba", 4, 6)):
        values = rng.integers(0, 65536, (50, 70, channels))
        values[:, :, -1] //= 1 + np.arange(50)[:, None]  # alpha from opaque to nearly nothing
        png(folder / f"{name}_16.png", values, 16, kind)
    (folder / "damaged.png").write_bytes((folder / "large.png").read_bytes()[:3000])
    write_text(folder / "=SUM(A1).png", "no picture")


def write_file(folder: Path, image: Image) -> Path:
    rng = np.random.default_rng(2)
    normals = [draw_normal(rng, 100) for _ in range(4)]
    rule_pixels = [np.asarray(Picture.fromarray(own).resize(image.shape[::-1])) for own in normals]
    extractor = make_extractor(network(), image, Patch(), rule_pixels, arithmetic="integer")
    features = extractor(np.stack(rule_pixels))
    banks = [own.reshape(-1, features.shape[-1]) for own in (features[:2], features[2:])]
    write_network(folder / "network.onnx", extractor)
    held_out = [[float(n) for n in range(0, 4000, 100)]] * 2
    how = {"held_out": held_out, "patch_threshold": 900.0}
    write_detector(folder / "d.onnx", folder / "network.onnx", Decision(banks, 2, 2000.0), **how)
    return folder / "d.onnx"


def opened(browser, page_path: Path):
    """Open a page and wait until it is ready; also return what it says and asks for."""
    page, said = browser.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    page.goto(page_path.as_uri())
    page.locator("#status:not(:has-text('Loading'))").wait_for()
    return page, said


def found_by(page, pictures: list[Path]) -> list[dict]:
    page.set_input_files("#files", pictures)
    page.locator(f"#status:has-text('{len(pictures)} pictures')").wait_for(timeout=120_000)
    return page.evaluate("results")


@pytest.mark.parametrize("rule", RULES)
def test_the_page_says_what_the_command_says(browser, rule, tmp_path):
    path, folder = write_file(tmp_path, RULES[rule]), tmp_path / "pictures"
    folder.mkdir()
    write_pictures(folder, deep=RULES[rule].bits is not None)
    browser_page.make_page(path, tmp_path / "page.html")
    page, said = opened(browser, tmp_path / "page.html")
    pictures, detector = sorted(folder.iterdir()), Detector.load(path)
    refused = 0
    for picture, row in zip(pictures, found_by(page, pictures), strict=True):
        try:
            verdict = detector.score(picture)
        except ValueError:
            assert row["decision"] == "error", picture.name
            refused += 1
            continue
        assert row["score"] == verdict.score, (picture.name, row.get("error"))
        assert row["p_value"] == verdict.p_value
        assert (row["decision"] == "reject") == verdict.flagged
        boxes = [(tuple(each["box"]), each["area"], each["share"]) for each in row["regions"]]
        assert boxes == [(each.box, each.area, each.share) for each in verdict.regions]
    assert refused == (1 if RULES[rule].bits else 2) and len(pictures) > refused
    assert said == [(tmp_path / "page.html").as_uri()]  # nothing outside, no error
    with page.expect_download() as download:
        page.click("#save")
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(pictures) and not any(row["id"].startswith("=") for row in rows)
    page.close()


def test_a_cameras_file_and_a_planted_error(browser, tmp_path):
    path = write_file(tmp_path, RULES["bilinear, cropped"])
    add_resizing(tmp_path / "camera.onnx", path, (120, 90))
    save_png(tmp_path / "right.png", draw_normal(np.random.default_rng(9), 120)[:90])
    save_png(tmp_path / "wrong.png", draw_normal(np.random.default_rng(9), 120))
    browser_page.make_page(tmp_path / "camera.onnx", tmp_path / "page.html")
    page, _ = opened(browser, tmp_path / "page.html")
    right, wrong = found_by(page, [tmp_path / "right.png", tmp_path / "wrong.png"])
    assert right["score"] == Detector.load(path).score(tmp_path / "right.png").score
    assert "120 x 90" in wrong["error"]
    page.close()
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    write_text(tmp_path / "planted.html", text.replace('"self_test": "', '"self_test": "0'))
    page, _ = opened(browser, tmp_path / "planted.html")
    assert "not exact" in page.inner_text("#status") and page.is_disabled("#files")
    page.close()

"""The page that inspects pictures in a browser says what `ad-inspect` says, of every kind of PNG.

Runs where the extra ``browser``, a Chromium and npm (or what it once fetched) are at hand.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from small_data import SMALL, draw_normal, save_png

from ad.detector.detector import Detector
from ad.detector.make import add_resizing
from ad.files import write_text
from ad.params import read_params
from tools import browser_page
from tools.make_detector import make

CROPPED = {"input_size": [64, 48], "region": [0.1, 0.0, 1.0, 0.9], "resize": 81}
RULES = {  # how pictures become pixels
    "bicubic": {"input_size": 48},
    "bilinear, cropped": CROPPED | {"interpolation": "bilinear"},
    "12 bits": {"input_size": 48, "bits": 12},
    "of equal light": {"input_size": 48, "brightness": 130.5},
}


@pytest.fixture(scope="module", autouse=True)
def runtime(browser) -> None:
    try:
        browser_page.runtime()
    except (OSError, ValueError) as error:
        pytest.skip(f"no onnxruntime-web: {error}")


def write_pictures(folder: Path, *, deep: bool) -> None:
    """Write pictures of many sizes and kinds; ``deep`` ones in 12 of 16 bits only."""
    rng = np.random.default_rng(5)
    for name, most in (("grey_12", 4096), ("beyond", 65536)) if deep else (("grey_16", 65536),):
        values = rng.integers(0, most, (60, 70)).astype(np.uint16)
        Picture.fromarray(values).save(folder / f"{name}.png")
    if deep:
        return
    for number in range(3):
        save_png(folder / f"normal_{number}.png", draw_normal(rng, 100))
    picture = draw_normal(rng, 240)
    for name, some in {"large": picture, "tall": picture[:, :60], "small": picture[:9, :7]}.items():
        save_png(folder / f"{name}.png", some)
    image = Picture.fromarray(picture[:75, :81])
    faded = image.copy()
    faded.putalpha(Picture.fromarray(picture[:75, :81, 0]))  # the colours below it count
    faded.save(folder / "faded.png")
    for mode in ("L", "LA", "1"):
        image.convert(mode).save(folder / f"mode_{mode}.png")
    for colours in (3, 13, 200):
        image.quantize(colours).save(folder / f"palette_{colours}.png")
    image.save(folder / "plain.bmp")
    (folder / "damaged.png").write_bytes((folder / "large.png").read_bytes()[:3000])
    write_text(folder / "=SUM(A1).png", "no picture")


def write_file(folder: Path, rule: dict) -> Path:
    rng = np.random.default_rng(2)
    for number in range(30):
        save_png(folder / "normals" / f"{number}.png", draw_normal(rng, 100))
    make(folder / "normals", folder / "d.onnx", read_params(SMALL | {"image": rule}))
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
    write_pictures(folder, deep="bits" in RULES[rule])
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
    assert refused == (1 if "bits" in RULES[rule] else 2) and len(pictures) > refused
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

"""An image gets the same verdict however it comes; what is wrong is said in a line."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from line_case import SIZE
from PIL import Image
from scipy import ndimage

from ad.detector import detector as module
from ad.detector.contract import sealed
from ad.detector.regions import connected, frame_of, regions_of
from ad.determinism import available_cores
from ad.images import InputRule
from ad.inspect import Detector


@pytest.fixture
def pictures(images) -> list[Path]:
    return sorted(images.iterdir())


def numbers(verdict) -> tuple:
    arrays = verdict.patch_scores.tobytes(), verdict.fold_scores.tobytes()
    return (verdict.score, verdict.flagged, verdict.p_value, verdict.sha256, *arrays)


def test_the_same_from_a_file_from_memory_and_by_more_threads(case, detector, pictures):
    alone = [numbers(detector.score(path)) for path in pictures]
    two = Detector.load(case, threads=2)
    threaded = [numbers(two.score(path)) for path in pictures]
    opened = [numbers(detector.score(Image.open(path))) for path in pictures]
    arrays = [numbers(detector.score(np.asarray(Image.open(path)))) for path in pictures]
    assert alone == threaded == opened == arrays
    assert [path.stem for path in pictures] == ["defect_0", "defect_1", "normal_0", "normal_1"]
    assert [flagged for _, flagged, *_ in alone] == [True, True, False, False]


def test_p_values_count_held_out_normals_that_score_as_high(detector):
    for more in (0, 0.25):
        row = np.array([own[3] + more for own in detector.held_out])
        above = sum((own >= score).sum() for own, score in zip(detector.held_out, row, strict=True))
        assert detector.p_value(row) == (1 + above) / 31
    assert detector.p_value(np.array([1e12, 1e12])) == 1 / 31
    assert detector.p_value(np.array([0.0, 0.0])) == 1


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07" * 40])
def test_what_is_no_detector_is_one_line(content, tmp_path, one_line):
    (tmp_path / "d.onnx").write_bytes(content)
    with one_line(ValueError, "d.onnx: no detector file"):
        Detector.load(tmp_path / "d.onnx")
    with pytest.raises(FileNotFoundError, match="no such file"):
        Detector.load(tmp_path / "none.onnx")


def test_a_flipped_bit_anywhere_in_the_file_is_found(case, tmp_path):
    whole = case.read_bytes()
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 40).tolist():
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        (tmp_path / "d.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=r"d\.onnx: (damaged|no detector file)"):
            Detector.load(tmp_path / "d.onnx")


def test_a_file_can_be_pinned_from_outside(case):
    sha256 = hashlib.sha256(case.read_bytes()).hexdigest()
    Detector.load(case, expect=sha256.upper())
    with pytest.raises(ValueError, match=f"its SHA-256 is {sha256}, not the one expected"):
        Detector.load(case, expect="0" * 64)


def test_weights_in_another_file_are_refused(case, tmp_path):
    model = onnx.load(case)
    onnx.save(
        model, tmp_path / "d.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    blank = (tmp_path / "d.onnx").read_bytes().replace(digest_of(case), b"0" * 64)
    (tmp_path / "d.onnx").write_bytes(sealed(blank))
    with pytest.raises(ValueError, match="weights lie in another file"):
        Detector.load(tmp_path / "d.onnx")


def digest_of(path: Path) -> bytes:
    return Detector.load(path, threads=1).about["digest"].encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format 2, this version reads .*; export it anew"),
        ({"why_not": "cv.aggregate=mean has no form"}, "^cv.aggregate=mean has no form"),
    ],
)
def test_what_a_file_says_of_itself_may_refuse_it(detector, change, words):
    with pytest.raises(ValueError, match=words):
        Detector(detector.session, detector.about | change)


def test_an_engine_that_is_not_exact_is_refused(detector, case, monkeypatch, one_line):
    """Planted: an engine whose sums differ by one in one patch of the probe picture."""

    class Engine(onnxruntime.InferenceSession):
        def run(self, names, feed):
            patches, *rest = super().run(names, feed)
            patches[0, 2, 3] += 1
            return [patches, *rest]

    monkeypatch.setattr(module.onnxruntime, "InferenceSession", Engine)
    with one_line(ValueError, "detector.onnx", "not exact (self-test)"):
        Detector.load(case)


def test_no_more_threads_than_cores(case):
    for threads in (None, 1, 5000):
        options = Detector.load(case, threads=threads).session.get_session_options()
        assert options.intra_op_num_threads == min(threads or 5000, available_cores())


def test_connected_parts_are_those_of_scipy():
    rng = np.random.default_rng(0)
    grids = [rng.random(rng.integers(1, 20, 2)) < rng.uniform(0.1, 0.9) for _ in range(200)]
    for marked in [*grids, np.zeros((3, 4), bool), np.ones((1, 1), bool)]:
        labels, count = ndimage.label(marked, structure=np.ones((3, 3)))
        parts = connected(marked)
        assert len(parts) == count
        for number, part in enumerate(parts, 1):
            own = {tuple(cell) for cell in np.argwhere(labels == number).tolist()}
            assert {tuple(cell) for cell in part.tolist()} == own and len(part) == len(own)


def test_regions_of_a_grid_by_hand():
    scores = np.zeros((3, 4))
    scores[0, 0], scores[1, 1], scores[1, 3] = 5, 7, 9  # the first two touch at a corner
    one, two = regions_of(scores, 4.0, 10.0, (100.0, 50.0, 40.0, 60.0))  # cells of 10 x 20
    assert (one.box, one.area, one.score, one.share) == ((130, 70, 140, 90), 200, 9.0, 0.9)
    assert (two.box, two.area, two.score, two.share) == ((100, 50, 120, 90), 400, 7.0, 0.7)
    assert regions_of(scores, 9.0, 10.0, (0.0, 0.0, 40.0, 60.0)) == ()  # above, not at


@pytest.mark.parametrize("region", [None, (0.1, 0.2, 0.8, 0.9)])
@pytest.mark.parametrize("resize", [None, 80])
def test_a_frame_leads_from_the_input_back_to_the_picture(region, resize):
    """A bright block of the picture is found in the input, and brought back where it was."""
    rule, block = InputRule((64, 72), resize, region=region), (150, 110, 230, 180)
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[block[1] : block[3], block[0] : block[2]] = 255
    rows, columns = np.nonzero(rule.pixels(Image.fromarray(pixels))[..., 0] > 127)
    left, top, width, height = frame_of(rule, 400, 300)
    across, down = width / 72, height / 64
    found = (left + columns.min() * across, top + rows.min() * down,
             left + (columns.max() + 1) * across, top + (rows.max() + 1) * down)  # fmt: skip
    np.testing.assert_allclose(found, block, atol=0.6 * max(across, down))


def test_what_was_found_is_where_the_defect_is(detector, pictures):
    large = Image.open(pictures[0]).resize((4 * SIZE, 2 * SIZE), Image.Resampling.NEAREST)
    verdict = detector.score(large)
    row, column = np.argwhere(np.asarray(large)[..., 0] > 240).mean(axis=0)
    left, top, right, bottom = verdict.regions[0].box
    assert verdict.size == large.size and left < column < right and top < row < bottom
    assert verdict.regions[0].score == verdict.score
    assert verdict.regions[0].share == verdict.score / detector.threshold > 1
    assert all(region.share < 1 for region in detector.score(pictures[3]).regions)


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((4, 4), float, "float64"),
        ((4, 4, 4), np.uint8, "RGB"),
        ((4, 4, 3), np.float32, "float32"),
        ((0, 10, 3), np.uint8, "10 x 0 pixels"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(shape, dtype, words, detector):
    with pytest.raises(ValueError, match=words):
        detector.score(np.zeros(shape, dtype))


def test_the_map_is_hot_where_the_defect_is(detector, pictures):
    verdict = detector.score(pictures[0])
    assert detector.anomaly_map(verdict).shape == (SIZE, SIZE)
    without = replace(verdict, regions=())
    drawn = np.asarray(detector.overlay(pictures[0], without), dtype=int)
    plain = detector.pixels(pictures[0]).astype(int)
    row, column = np.unravel_index(detector.anomaly_map(verdict).argmax(), (SIZE, SIZE))
    assert abs(drawn - plain)[row, column].sum() > 0
    framed = np.asarray(detector.overlay(pictures[0], verdict), dtype=int)
    changed = np.argwhere((framed != drawn).any(axis=2))
    top, left, bottom, right = (8 * edge for edge in verdict.regions[0].cells)  # 6 x 6 patches
    assert [*changed.min(axis=0), *changed.max(axis=0)] == [top, left, bottom - 1, right - 1]


def test_a_line_needs_numpy_pillow_and_onnx_runtime_alone():
    program = "import sys, ad.inspect; print({name.partition('.')[0] for name in sys.modules})"
    how = {"cwd": Path(__file__).resolve().parents[2], "capture_output": True, "text": True}
    said = subprocess.run([sys.executable, "-c", program], check=True, **how).stdout
    for name in ("torch", "scipy", "sklearn", "pandas", "pydantic", "matplotlib", "onnx", "faiss"):
        assert f"'{name}'" not in said, name


def test_brightness_and_contrast_are_those_of_the_pixels(detector, pictures):
    pixels = detector.pixels(pictures[0])
    found = detector.score(pictures[0]).appearance
    np.testing.assert_allclose(found, [pixels.mean(), pixels.std()], rtol=1e-12)
    assert len(detector.references) == len(detector.held_out) + 2

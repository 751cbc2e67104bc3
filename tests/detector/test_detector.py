"""An image gets the same verdict however it comes; what is wrong is said in a line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from line_case import SIZE, write_case
from PIL import Image

from ad.inspect import Detector
from ad.detector.check import ROOMS, Expected, check_detector, code_sha256


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    return write_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def detector(case) -> Detector:
    return Detector.load(case, threads=1)


@pytest.fixture(scope="module")
def pictures(case) -> list[Path]:
    return sorted((case.parent / "images").iterdir())


def numbers(verdict) -> tuple:
    return (
        verdict.score,
        verdict.flagged,
        verdict.p_value,
        verdict.patch_scores.tobytes(),
        verdict.fold_scores.tobytes(),
        verdict.sha256,
    )


def test_the_same_alone_in_a_batch_from_a_file_and_from_memory(case, detector, pictures):
    alone = [numbers(detector.score(path)) for path in pictures]
    batch = [numbers(verdict) for verdict in detector.score_batch(pictures)]
    two = Detector.load(case, threads=2)
    threaded = [numbers(two.score(path)) for path in pictures]
    opened = [numbers(detector.score(Image.open(path))) for path in pictures]
    arrays = [numbers(detector.score(np.asarray(Image.open(path)))) for path in pictures]
    assert alone == batch == threaded == opened == arrays
    assert [path.stem.split("_")[0] for path in pictures] == [
        "defect",
        "defect",
        "normal",
        "normal",
    ]
    assert [flagged for _, flagged, *_ in alone] == [True, True, False, False]


def test_other_sizes_are_resized_as_the_study_does(detector, pictures):
    large = Image.open(pictures[0]).resize((3 * SIZE, 2 * SIZE))
    resized = large.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    rule = detector.about["image"]["interpolation"]
    expected = (
        resized if rule == "bicubic" else large.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    )
    np.testing.assert_array_equal(detector.pixels(large), np.asarray(expected))


def test_p_values_count_held_out_normals_that_score_as_high(detector):
    scores = np.array([[float(own[3]), float(own[3]) + 0.25] for own in detector.held_out]).T
    for row, found in zip(scores, detector.p_values(scores), strict=True):
        above = sum(
            score >= row[fold] for fold, own in enumerate(detector.held_out) for score in own
        )
        assert found == (1 + above) / (1 + detector.n_normals)
    assert detector.p_values(np.array([[1e12, 1e12]]))[0] == 1 / 31
    assert detector.p_values(np.array([[0.0, 0.0]]))[0] == 1


def test_p_values_of_exchangeable_normals_are_uniform():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        *scores, new = rng.exponential(size=51)  # a new image scores alike against both banks
        made = Detector.__new__(Detector)
        made.about = {"held_out": [scores[:25], scores[25:]]}
        found.append(float(made.p_values(np.array([[new, new]]))[0]))
    for rate in (0.05, 0.1, 0.25, 0.5):
        share = np.mean(np.array(found) <= rate)
        assert abs(share - rate) < 0.03


def test_a_rate_that_so_few_normals_cannot_tell_is_refused(detector, one_line):
    with pytest.raises(ValueError) as caught:
        detector.check_rate("--alarm", 0.01)
    one_line(caught, "--alarm=0.01", "at least 99 held-out", "has 30")
    detector.check_rate("--alarm", 1 / 31)
    for rate in (0, 1, -1, float("nan")):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            detector.check_rate("--alarm", rate)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07" * 40])
def test_what_is_no_detector_is_one_line(content, tmp_path, one_line):
    (tmp_path / "d.onnx").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        Detector.load(tmp_path / "d.onnx")
    one_line(caught, "d.onnx: no detector file")
    with pytest.raises(FileNotFoundError, match="no such file"):
        Detector.load(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_an_array_that_is_no_picture_is_refused(array, detector, one_line):
    with pytest.raises(ValueError) as caught:
        detector.score(array)
    one_line(caught, str(array.dtype), "RGB")


def test_one_differing_bit_is_said(detector, pictures):
    verdicts = [detector.score(path) for path in pictures]
    expected = Expected(
        np.stack([v.patch_scores for v in verdicts]),
        np.stack([v.fold_scores for v in verdicts], axis=1),
        np.array([v.score for v in verdicts]),
        np.array([v.flagged for v in verdicts]),
    )
    ids = [path.stem for path in pictures]
    assert len(check_detector(detector, ids, pictures, expected)) == len(ids)
    for what, array in (
        ("patch scores", expected.patches),
        ("fold scores", expected.folds),
        ("score", expected.scores),
    ):
        place = (2, *[0] * (array.ndim - 1)) if what != "fold scores" else (1, 2)
        kept = array[place]
        array[place] = np.nextafter(kept, np.inf)
        with pytest.raises(ValueError, match=f"{what} of image {ids[2]}"):
            check_detector(detector, ids, pictures, expected)
        array[place] = kept


def test_the_map_is_hot_where_the_defect_is(detector, pictures):
    verdict = detector.score(pictures[0])
    assert detector.anomaly_map(verdict).shape == (SIZE, SIZE)
    drawn = np.asarray(detector.overlay(pictures[0], verdict), dtype=int)
    plain = detector.pixels(pictures[0]).astype(int)
    row, column = np.unravel_index(detector.anomaly_map(verdict).argmax(), (SIZE, SIZE))
    assert abs(drawn - plain)[row, column].sum() > 0
    calm = detector.score(pictures[3])
    assert abs(np.asarray(detector.overlay(pictures[3], calm), dtype=int)
               - detector.pixels(pictures[3])).mean() < abs(drawn - plain).mean()  # fmt: skip


def test_a_line_needs_numpy_pillow_and_onnx_runtime_alone():
    program = (
        "import sys, ad.inspect\nprint(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    for name in ("torch", "scipy", "sklearn", "timm", "pydantic", "matplotlib", "onnx", "faiss"):
        assert f"'{name}'" not in said, name


def test_the_code_s_hash_follows_the_code(tmp_path):
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text(room, encoding="utf-8")
    for room in ("ad", "integer", "line", "pretrained", "validation"):
        before = code_sha256(tmp_path)
        (tmp_path / room / "a.py").write_text("other", encoding="utf-8")
        assert code_sha256(tmp_path) != before


def test_brightness_and_contrast_are_those_of_the_pixels(detector, pictures):
    pixels = detector.pixels(pictures[0])
    found = detector.score(pictures[0]).appearance
    np.testing.assert_allclose(found, [pixels.mean(), pixels.std()], rtol=1e-12)
    assert len(detector.references) == len(detector.held_out) + 2

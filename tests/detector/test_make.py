"""A detector file is held against the pipeline; its resizing is Pillow's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import ad
from ad.detector.check import Expected, check_detector, code_sha256
from ad.detector.detector import Detector
from ad.detector.graph import Graph, model_bytes, read_graph, tensor
from ad.detector.make import add_resizing, main
from ad.detector.resizing import ResizingNodes, split_weights
from ad.images import InputRule

FILTERS = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]


@settings(max_examples=40, deadline=None)
@given(
    camera=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    shape=st.tuples(st.integers(32, 96), st.integers(32, 96)),
    resize=st.sampled_from([None, 100]),
    region=st.sampled_from([None, (0.1, 0.2, 0.75, 1.0)]),
    resample=st.sampled_from(FILTERS),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_files_resizing_is_pillows(camera, shape, resize, region, resample, seed):
    rule = InputRule(shape, resize, resample=resample, region=region)
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (*camera[::-1], 3)).astype(np.uint8)
    edges = 255 * (noise > 127).astype(np.uint8)  # as far as a cubic filter can overshoot
    graph = Graph()
    ResizingNodes(graph, rule, camera).run("pixels", "seen")
    ends = (
        [tensor("pixels", np.uint8, [2, *noise.shape])],
        [tensor("seen", np.uint8, [2, *shape, 3])],
    )
    session = onnxruntime.InferenceSession(model_bytes([graph], *ends, {}))
    seen = session.run(["seen"], {"pixels": np.stack([noise, edges])})[0]
    for pixels, found in zip((noise, edges), seen, strict=True):
        np.testing.assert_array_equal(found, rule.pixels(Image.fromarray(pixels)))


def test_weights_are_split_only_where_float32_holds_the_sums():
    weights = np.full((1, 4096), 2**22 // 4096)
    high, low, bits = split_weights(weights)
    np.testing.assert_array_equal(high * 2**bits + low, weights)
    assert 255 * abs(high).sum() < 2**24 and 255 * abs(low).sum() < 2**24
    with pytest.raises(ValueError, match="too long to be resized to 1"):
        split_weights(np.full((1, 2**16), 64 + 31))


@pytest.mark.parametrize("camera", [(70, 50), (48, 48)])
def test_a_cameras_file_says_what_the_other_says_of_resized_pictures(case, camera, tmp_path):
    path = tmp_path / "camera.onnx"
    add_resizing(path, case, camera)
    plain, own = Detector.load(case), Detector.load(path)
    for picture in sorted((case.parent / "images").iterdir()):
        image = Image.open(picture).convert("RGB").resize(camera)
        one, other = plain.score(image), own.score(image)
        np.testing.assert_array_equal(one.patch_scores, other.patch_scores)
        assert (one.score, one.flagged, one.sha256) == (other.score, other.flagged, other.sha256)
    with pytest.raises(ValueError, match=f"0 x 60 pixels; .* {camera[0]} x {camera[1]}"):
        own.score(Image.new("RGB", (90, 60)))


def test_the_command_makes_a_cameras_file_or_says_why_not(case, tmp_path, capsys):
    made = str(tmp_path / "camera.onnx")
    assert main([str(case), "70x50", made]) == 0 and Detector.load(made).camera == (70, 50)
    (tmp_path / "text.onnx").write_text("no model")
    for file, size, words in (
        (made, "70x50", "no detector file that takes resized pixels"),
        (str(case), "70", "written 1024x768"),
        (str(case), "100000x48", "too long to be resized to"),
        (str(tmp_path / "none.onnx"), "70x50", "none.onnx"),
        (str(tmp_path / "text.onnx"), "70x50", "text.onnx: no detector file"),
        (str(case.with_name("network.onnx")), "70x50", "network.onnx: no detector file"),
    ):
        assert main([file, size, made]) == 1
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


def expected_of(detector: Detector, pictures: list[Path]) -> Expected:
    found = [detector.score(picture) for picture in pictures]
    return Expected(
        np.stack([verdict.patch_scores for verdict in found]),
        np.stack([verdict.fold_scores for verdict in found], axis=1),
        np.array([verdict.score for verdict in found]),
        np.array([verdict.flagged for verdict in found]),
    )


@pytest.mark.parametrize("part", ["patches", "folds", "scores", "flags"])
def test_one_differing_bit_stops_and_is_named(case, part, one_line):
    detector, pictures = Detector.load(case), sorted((case.parent / "images").iterdir())
    right = expected_of(detector, pictures)
    ids = [path.name for path in pictures]
    assert len(check_detector(detector, ids, pictures, right)) == len(pictures)
    values = getattr(right, part).copy()
    last = (..., 3) if part == "folds" else (3, ...)
    values[last] = ~values[last] if part == "flags" else np.nextafter(values[last], np.inf)
    with one_line(ValueError, "differs from the pipeline", ids[3]):
        check_detector(detector, ids, pictures, replace(right, **{part: values}))


def test_the_code_is_all_of_the_package(case, tmp_path, monkeypatch):
    about = read_graph(case)[1]
    assert about["version"].count(".") == 2 and len(about["code_sha256"]) == 64
    package = tmp_path / "ad" / "exact"
    package.mkdir(parents=True)
    monkeypatch.setattr(ad, "__file__", str(tmp_path / "ad" / "__init__.py"))
    (package / "one.py").write_text("1")
    first = code_sha256()
    (package / "one.py").write_text("2")
    second = code_sha256()
    (package / "one.py").rename(package / "two.py")
    assert len({first, second, code_sha256()}) == 3

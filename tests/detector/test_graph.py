"""The files' bits are those of PyTorch's whole numbers, whatever the network and the pooling."""

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image as Picture
from small_data import draw_normal, network, save_png
from test_integer_network import NETWORKS, images
from test_integer_network import network as settled_network

from ad.detector.contract import ZEROS, probe_picture, sums_digest
from ad.detector.decision import Decision, DecisionNodes, reach
from ad.detector.detector import Detector
from ad.detector.graph import FLOAT_LIMIT, Graph, model_bytes, read_graph, tensor
from ad.detector.make import add_resizing, sums_of, without_form, write_detector, write_refusal
from ad.detector.network import write_network
from ad.exact.features import make_whole
from ad.extraction import FeatureExtractor, make_extractor
from ad.images import InputRule
from ad.params import Image, Patch, Score
from ad.scores import score_images

NAMES = ["patch_sums", "fold_sums", "image_sums", "flagged"]
OF_NORMALS = {"held_out": [[1.0], [1.0]], "patch_threshold": 50.0, "normals": []}


def extractor_of(name: str, layers: list[str], patch: Patch, size: int) -> FeatureExtractor:
    half = (0.5,) * 3
    whole = make_whole(settled_network(name), layers, images(4, size), patch, mean=half, std=half)
    return FeatureExtractor(None, InputRule((size, size), None), patch, (0, 0), whole=whole)


def pictures(count: int, size: int, seed: int) -> np.ndarray:
    return np.ascontiguousarray(images(count, size, seed=seed).transpose(0, 2, 3, 1))


def write(path: Path, extractor: FeatureExtractor, features: np.ndarray, **changes) -> Decision:
    """Write both files; the banks are patches of the features.  Return what is decided with."""
    rng, flat = np.random.default_rng(0), features.reshape(-1, features.shape[-1])
    banks = [flat[rng.choice(len(flat), 30, replace=False)] for _ in range(2)]
    decision = replace(Decision(banks, 3, 100.0), **changes)
    write_network(path.with_name("network.onnx"), extractor)
    write_detector(path, path.with_name("network.onnx"), decision, **OF_NORMALS)
    return decision


def run(path: Path, pixels: np.ndarray, *, optimised: bool = True) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    )
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(NAMES, {"pixels": pixels})


def about(path: Path) -> dict:
    return read_graph(path)[1]


def assert_the_same_bits(path: Path, decision: Decision, features: np.ndarray, pixels: np.ndarray):
    """Compare a file with scores of the features, by ONNX Runtime with and without optimisation."""
    score, ignored = Score(num_neighbors=decision.k), decision.ignore
    found = [score_images(features, bank, score, ignored=ignored) for bank in decision.banks]
    for optimised in (True, False):
        patches, folds, scores, flags = run(path, pixels, optimised=optimised)
        np.testing.assert_array_equal(
            patches / decision.k, np.max([own.patches for own in found], axis=0)
        )
        np.testing.assert_array_equal(folds / decision.k, np.transpose([f.images for f in found]))
        np.testing.assert_array_equal(scores, folds.max(axis=1))
        np.testing.assert_array_equal(flags, scores / decision.k > decision.threshold)


@pytest.mark.parametrize("name", [*NETWORKS, "resnet10t"])
def test_a_network_in_the_file_is_the_network(name, tmp_path):
    layers = NETWORKS.get(name, ["layer1", "layer2"])
    extractor, pixels = extractor_of(name, layers, Patch(), 64), pictures(2, 64, seed=5)
    features = extractor(pixels)
    decision = write(tmp_path / "d.onnx", extractor, features)
    assert_the_same_bits(tmp_path / "d.onnx", decision, features, pixels)
    nodes = onnx.load(tmp_path / "d.onnx").graph.node
    assert {node.domain for node in nodes} == {""}  # standard operators alone


@pytest.mark.parametrize(
    ("patch", "size", "needs"),
    [
        (Patch(patch_size=1), 64, []),
        (Patch(patch_size=5), 64, []),
        (Patch(pretrain_dim=40, target_dim=40), 64, ["float64"]),  # bins cut neighbourhoods
        (Patch(pretrain_dim=32, target_dim=50), 64, ["float64"]),
        (Patch(target_dim=70), 64, ["float64"]),
        (Patch(), 72, ["float64"]),  # grids of 9 and 5: no power of two
    ],
)
def test_every_way_to_pool_has_the_same_bits(patch, size, needs, tmp_path):
    extractor = extractor_of("resnet18", ["layer2", "layer3"], patch, size)
    pixels = pictures(2, size, seed=6)
    features = extractor(pixels)
    decision = write(tmp_path / "d.onnx", extractor, features)
    assert_the_same_bits(tmp_path / "d.onnx", decision, features, pixels)
    assert about(tmp_path / "d.onnx")["needs"] == needs


@pytest.mark.parametrize("dim", [300, 700, 1100, 2200])
@pytest.mark.parametrize("signed", [False, True])
def test_wide_features_are_measured_exactly(dim, signed):
    """As far apart as bytes can be, beyond float32, and so near that only low bits differ."""
    rng = np.random.default_rng(dim)
    low, dtype = (-127, np.int8) if signed else (0, np.uint8)
    features = rng.choice([low, 127], (4, 5, dim))
    features[0], features[1] = 127, low
    bank = rng.choice([low, 127], (400, dim))
    bank[0] = 127
    bank[100:] = bank[100]
    bank[100:, :8] = rng.integers(low, 127, (300, 8))
    decision = Decision([bank.astype(dtype)], 5, 1e6)
    assert (reach(decision.banks[0]) >= FLOAT_LIMIT) == (dim > (346 if signed else 1040))
    graph = Graph()
    DecisionNodes(graph, "features", (4, 5), dim).run(decision)
    inputs = [tensor("features", np.float32, [1, 4, 5, dim])]
    outputs = [tensor("patch_sums", np.int32, [1, 4, 5])]
    data = model_bytes([graph], inputs, outputs, {})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(None, {"features": features[None].astype(np.float32)})[0][0]
    distances = np.square(features[:, :, None] - bank).sum(axis=3)  # int64
    np.testing.assert_array_equal(found, np.sort(distances)[..., :5].sum(axis=2))
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(data)).graph
    kinds = {each.name: each.type.tensor_type.elem_type for each in inferred.value_info}
    sorted_ones = [node.input[0] for node in inferred.node if node.op_type == "TopK"]
    assert {kinds[name] for name in sorted_ones} == {onnx.TensorProto.FLOAT}


def test_ignored_patches_score_zero(tmp_path):
    extractor, pixels = extractor_of("resnet10t", ["layer1"], Patch(), 64), pictures(2, 64, seed=1)
    features = extractor(pixels)
    ignore = np.random.default_rng(0).random(features.shape[1:3]) < 0.5
    decision = write(tmp_path / "d.onnx", extractor, features, ignore=ignore)
    assert_the_same_bits(tmp_path / "d.onnx", decision, features, pixels)
    assert not run(tmp_path / "d.onnx", pixels)[0][:, ignore].any()


def test_a_score_at_the_threshold_passes_and_the_next_is_flagged():
    rng = np.random.default_rng(0)
    for _ in range(300):
        k, total = int(rng.integers(1, 10)), int(rng.integers(0, 10**7))
        for threshold in (total / k, np.nextafter(total / k, 0), np.nextafter(total / k, 1e9)):
            largest = Decision([], k, float(threshold)).largest_pass()
            assert largest / k <= threshold < (largest + 1) / k


def test_the_same_run_gives_the_same_bytes_and_their_digest(tmp_path):
    extractor = extractor_of("resnet10t", ["layer1"], Patch(), 64)
    features = extractor(pictures(2, 64, seed=0))
    for name in ("one", "two"):
        write(tmp_path / name, extractor, features)
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    digest = about(tmp_path / "one")["digest"]
    assert data.count(digest.encode()) == 1
    blank = data.replace(digest.encode(), ZEROS.encode())
    assert hashlib.sha256(blank).hexdigest() == digest


def test_the_self_test_is_the_pipelines_answer_to_the_probe(tmp_path):
    extractor, probe = extractor_of("resnet10t", ["layer1"], Patch(), 64), probe_picture(64, 64)
    features = extractor(probe[None])
    decision = write(tmp_path / "d.onnx", extractor, features)
    patches, folds, scores, _ = run(tmp_path / "d.onnx", probe[None])
    said = about(tmp_path / "d.onnx")["self_test"]
    assert said == sums_digest(patches[0], folds[0], scores[0])
    by_numpy = sums_of(extractor(pictures(1, 64, seed=1))[0], decision)
    assert sums_digest(*by_numpy) != said  # another picture


def test_a_network_that_is_not_the_extractors_is_refused(tmp_path, one_line):
    extractor = extractor_of("resnet10t", ["layer1"], Patch(), 64)
    decision = write(tmp_path / "d.onnx", extractor, extractor(pictures(2, 64, seed=0)))
    model = onnx.load(tmp_path / "network.onnx")
    weight = next(each for each in model.graph.initializer if len(each.dims) == 4)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += np.abs(values).max()
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "network.onnx")
    with one_line(ValueError, "network.onnx", "extractor's features"):
        write_detector(tmp_path / "d.onnx", tmp_path / "network.onnx", decision, **OF_NORMALS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 1000, "banks": [np.zeros((2000, 64), np.uint8)]}, "beyond 32-bit sums"),
        ({"k": 31}, "score.num_neighbors=31, but a bank holds 30"),
    ],
)
def test_too_many_neighbours_are_refused(changes, words, tmp_path, one_line):
    extractor = extractor_of("resnet10t", ["layer1"], Patch(), 64)
    with one_line(ValueError, words):
        write(tmp_path / "d.onnx", extractor, extractor(pictures(2, 64, seed=0)), **changes)


@pytest.mark.parametrize(
    ("arithmetic", "changes", "aggregate", "words"),
    [
        ("integer", {}, "max", ""),
        ("float32", {}, "max", "backbone.arithmetic=float32"),
        ("integer", {"squared": False}, "max", "score.squared=False"),
        ("integer", {"reweight": True}, "max", "score.reweight=True"),
        ("integer", {"index": "faiss_flat"}, "max", "score.index=faiss_flat"),
        ("integer", {}, "median", "cv.aggregate=median"),
    ],
)
def test_settings_without_an_exact_form_leave_a_file_that_says_so(
    arithmetic, changes, aggregate, words, tmp_path
):
    why = without_form(arithmetic, Score(**changes), aggregate)
    assert why.startswith(words) and bool(why) == bool(words)
    write_refusal(tmp_path / "d.onnx", why)
    with pytest.raises(ValueError, match=re.escape(f"d.onnx: {why}")):
        read_graph(tmp_path / "d.onnx")


@pytest.mark.parametrize("resize", [None, 300])
@pytest.mark.parametrize(("size", "tiles"), [([96, 64], 1), ([160, 128], 2)])
def test_oblong_tiles_a_region_and_a_camera_decide_as_the_pipeline_does(
    size, tiles, resize, tmp_path
):
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        save_png(path, draw_normal(rng, 240)[:200])
    image = Image(input_size=size, tiles=tiles, region=[0.1, 0.0, 0.9, 0.75], resize=resize)
    extractor = make_extractor(network(), image, Patch(), paths, arithmetic="integer")
    rule = extractor.rule
    pixels = np.stack([rule.read(path) for path in paths])
    features = extractor(pixels)
    decision = write(tmp_path / "d.onnx", extractor, features)
    assert_the_same_bits(tmp_path / "d.onnx", decision, features, pixels)
    add_resizing(tmp_path / "camera.onnx", tmp_path / "d.onnx", (240, 200))
    pixels = np.stack([np.asarray(Picture.open(path)) for path in paths])
    assert_the_same_bits(tmp_path / "camera.onnx", decision, features, pixels)


def test_equal_light_is_done_before_the_graph_and_not_in_it(tmp_path, one_line):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        save_png(path, draw_normal(np.random.default_rng(number), 80) // (1 + number))
    image = Image(input_size=64, brightness=90.5)
    extractor = make_extractor(network(), image, Patch(), paths, arithmetic="integer")
    pixels = np.stack([extractor.rule.read(path) for path in paths])
    assert pixels.mean(axis=(1, 2, 3)) == pytest.approx(90.5, abs=0.3)
    write(tmp_path / "d.onnx", extractor, extractor(pixels))
    detector = Detector.load(tmp_path / "d.onnx")
    assert all(
        np.array_equal(detector.pixels(p), own) for p, own in zip(paths, pixels, strict=True)
    )
    with one_line(ValueError, "image.brightness=90.5", "camera"):
        add_resizing(tmp_path / "camera.onnx", tmp_path / "d.onnx", (80, 80))


def test_writing_a_detector_needs_no_pytorch():
    code = "import sys, ad.detector.make; print([m for m in ('torch', 'timm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

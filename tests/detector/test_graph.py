"""The graph's bits are those of PyTorch's whole numbers, whatever the network and the pooling."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_data import draw_normal, network, save_png
from test_integer_network import NETWORKS, images
from test_integer_network import network as settled_network

from ad.extraction import features_of as extract
from ad.extraction import make_extractor
from ad.images import InputRule
from ad.memory_bank import score_images
from ad.params import Image, Patch, Runtime, Score
from ad.exact.engines import FloatConvolution
from ad.exact.features import WholeForm, make_whole
from ad.exact.network import Runner
from ad.detector.decision import Decision
from ad.detector.detector import Detector
from ad.detector.make import write_detector, write_refusal

ABOUT = {"held_out": [[1.0, 2.0]]}


def whole_of(name: str, layers: list[str], patch: Patch, size: int) -> WholeForm:
    model = settled_network(name)
    half = (0.5,) * 3
    return make_whole(model, layers, images(4, size), patch, mean=half, std=half)


def features_of(whole: WholeForm, pixels: np.ndarray) -> np.ndarray:
    """Extract features (n, h, w, dim) by PyTorch."""
    with torch.inference_mode():
        return whole.features(whole.runner(torch.from_numpy(pixels))).numpy()


def write(path: Path, whole: WholeForm, features: np.ndarray, size: int, **changes) -> Decision:
    """Write a detector whose banks are patches of the features; return what it decides with."""
    rng, flat = np.random.default_rng(0), features.reshape(-1, features.shape[-1])
    banks = [flat[rng.choice(len(flat), 30, replace=False)] for _ in range(2)]
    decision = replace(Decision(banks, 3, 100.0), **changes)
    write_detector(path, whole, decision, InputRule(size, None), ABOUT)
    return decision


def assert_the_same_bits(path: Path, decision: Decision, features: np.ndarray, pixels: np.ndarray):
    """Compare a file with scores of the features, by ONNX Runtime with and without optimisation."""
    score = Score(num_neighbors=decision.k)
    found = [score_images(features, bank, score) for bank in decision.banks]
    patches = np.max([own.patches for own in found], axis=0)
    for verdict, expected in zip(
        Detector.load(path).score_batch(list(pixels.transpose(0, 2, 3, 1))), patches, strict=True
    ):
        np.testing.assert_array_equal(verdict.patch_scores, expected)
        assert verdict.score == expected.max()
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), plain, providers=["CPUExecutionProvider"])
    inputs = {"pixels": np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))}
    patch_sums = session.run(["patch_sums"], inputs)[0]
    np.testing.assert_array_equal(patch_sums / decision.k, patches)


@pytest.mark.parametrize("name", [*NETWORKS, "resnet10t"])
def test_a_network_in_the_file_is_the_network(name, tmp_path):
    layers = NETWORKS.get(name, ["layer1", "layer2"])
    whole = whole_of(name, layers, Patch(size=3), 64)
    pixels = images(2, 64, seed=5)
    features = features_of(whole, pixels)
    decision = write(tmp_path / "d.onnx", whole, features, 64)
    assert_the_same_bits(tmp_path / "d.onnx", decision, features, pixels)
    model = onnx.load(tmp_path / "d.onnx")
    assert {node.domain for node in model.graph.node} == {""}  # standard operators alone


@pytest.mark.parametrize(
    ("patch", "size"),
    [
        (Patch(size=1), 64),
        (Patch(size=5), 64),
        (Patch(size=3, pretrain_dim=40, target_dim=40), 64),  # bins that cut neighbourhoods
        (Patch(size=3, pretrain_dim=32, target_dim=50), 64),
        (Patch(size=3, target_dim=70), 64),
        (Patch(size=3), 72),  # grids of 9 and 5: no power of two
    ],
)
def test_every_way_to_pool_has_the_same_bits(patch, size, tmp_path):
    whole = whole_of("resnet18", ["layer2", "layer3"], patch, size)
    pixels = images(2, size, seed=6)
    features = features_of(whole, pixels)
    decision = write(tmp_path / "d.onnx", whole, features, size)
    assert_the_same_bits(tmp_path / "d.onnx", decision, features, pixels)


@pytest.mark.parametrize("dim", [300, 700, 1100])
def test_wide_features_are_measured_exactly(dim, tmp_path):
    patch = Patch(size=3, pretrain_dim=dim, target_dim=dim)
    whole = whole_of("resnet18", ["layer2"], patch, 32)
    pixels = images(2, 32, seed=7)
    features = features_of(whole, pixels)
    decision = write(tmp_path / "d.onnx", whole, features, 32)
    far = [np.full_like(bank, 127) for bank in decision.banks]  # as far as bytes can be
    for banks in (decision.banks, far):
        decision = write(tmp_path / "d.onnx", whole, features, 32, banks=banks)
        assert_the_same_bits(tmp_path / "d.onnx", decision, features, pixels)


def test_a_score_at_the_threshold_passes_and_the_next_is_flagged():
    rng = np.random.default_rng(0)
    for _ in range(300):
        k, total = int(rng.integers(1, 10)), int(rng.integers(0, 10**7))
        for threshold in (total / k, np.nextafter(total / k, 0), np.nextafter(total / k, 1e9)):
            largest = Decision([], k, float(threshold)).largest_pass()
            assert largest / k <= threshold < (largest + 1) / k


def test_the_same_run_gives_the_same_bytes(tmp_path):
    whole = whole_of("resnet10t", ["layer1"], Patch(size=3), 64)
    features = features_of(whole, images(2, 64))
    for name in ("one", "two"):
        write(tmp_path / name, whole, features, 64)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_has_no_form_says_so_when_loaded(tmp_path):
    write_refusal(tmp_path / "d.onnx", "cv.aggregate=mean has no exact form")
    with pytest.raises(ValueError, match=r"d\.onnx: cv\.aggregate=mean has no exact form"):
        Detector.load(tmp_path / "d.onnx")


def test_sums_beyond_32_bits_are_refused(tmp_path):
    whole = whole_of("resnet10t", ["layer1"], Patch(size=3), 64)
    features = features_of(whole, images(2, 64))
    with pytest.raises(ValueError, match=r"score\.num_neighbors=1000 .* 32-bit sums"):
        write(tmp_path / "d.onnx", whole, features, 64, k=1000)


def test_other_engines_of_the_network_change_nothing(tmp_path):
    whole = whole_of("resnet18", ["layer2"], Patch(size=3), 64)
    pixels = images(2, 64, seed=8)
    by_floats = replace(whole, runner=Runner(whole.runner.network, engines=(FloatConvolution,)))
    np.testing.assert_array_equal(features_of(whole, pixels), features_of(by_floats, pixels))


def test_tiles_and_a_region_decide_as_the_pipeline_does(tmp_path):
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        save_png(path, draw_normal(rng, 240))
    image = Image(size=128, tiles=2, region=[0.1, 0.0, 0.9, 0.75])
    tiled = make_extractor(network(), image, Patch(size=3), paths, arithmetic="integer")
    features = extract(tiled, paths, Runtime())
    assert features.shape[1:3] == (24, 24)  # 16 + 16 positions, 2 x 4 given up
    bank = features[:2].reshape(-1, features.shape[-1])[::5]
    decision = Decision([bank], 3, 100.0)
    write_detector(tmp_path / "tiled.onnx", tiled.whole, decision, tiled.rule, ABOUT)
    expected = score_images(features, bank, Score(num_neighbors=3))
    verdicts = Detector.load(tmp_path / "tiled.onnx").score_batch(paths)
    for verdict, patches in zip(verdicts, expected.patches, strict=True):
        np.testing.assert_array_equal(verdict.patch_scores, patches)

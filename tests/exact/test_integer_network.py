"""Networks of whole numbers equal their definition in int64, and float32 networks nearly."""

import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from test_engines import SIGNED, drawn_convolution, int64_convolution, int64_rounded

from ad.exact.engines import Conv
from ad.exact.network import (
    LIMIT,
    PIXELS,
    Add,
    Concat,
    IntegerNetwork,
    MaxPool,
    Mean,
    Output,
    Product,
    Runner,
    Table,
    largest_sums,
)
from ad.exact.quantize import ACTIVATIONS, quantize_conv, table_of, to_integer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(n: int, size: int = 64, seed: int = 0) -> np.ndarray:
    """Draw smooth images: noise of coarse squares under fine noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (n, 3, size // 8, size // 8)).repeat(8, 2).repeat(8, 3)
    return (coarse + rng.integers(0, 56, coarse.shape)).astype(np.uint8)


def network(name: str, *, seed: int = 0) -> torch.nn.Module:
    """Make a seeded network whose batch norms have seen images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(name, pretrained=False)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.3)
                module.momentum = None  # the mean over all batches
        with torch.no_grad():
            model.train()(torch.from_numpy(images(8, seed=1)) / 127.5 - 1)
    return model.eval().requires_grad_(False)


def int64_maps(network: IntegerNetwork, pixels: np.ndarray) -> list[np.ndarray]:
    """Run a network by the definition of its operations, in int64."""
    values = {PIXELS: pixels.astype(np.int64) - np.array(network.means)[:, None, None]}
    for each in network.operations:
        sources = [values[name].astype(np.int64) for name in each.sources]
        values[each.target] = (
            int64_convolution(each, sources[0])
            if isinstance(each, Conv)
            else int64_operation(each, *sources)
        )
    return [values[each.tensor] for each in network.outputs]


def int64_operation(operation: object, *sources: np.ndarray) -> np.ndarray:
    """Run one operation by its definition, in int64."""
    first = sources[0]
    if isinstance(operation, Add):
        finest = int(operation.shift.max())
        terms = zip(sources, operation.shift, strict=True)
        whole = sum(value << (finest - int(shift)) for value, shift in terms)
        result = int64_rounded(whole, np.int64(finest))
    elif isinstance(operation, Product):
        result = int64_rounded(first * sources[1], operation.shift[0].astype(np.int64))
    elif isinstance(operation, Mean):
        count, total = math.prod(first.shape[2:]), first.sum((2, 3), keepdims=True)
        result = (2 * total * 2**operation.shift + count) // (2 * count)
    elif isinstance(operation, Table):
        result = operation.values[first + 128]
    elif isinstance(operation, Concat):
        result = np.concatenate(sources, 1)
    else:
        result = int64_max_pool(operation, first)
    return result.clip(operation.low, operation.high)


def int64_max_pool(operation: MaxPool, values: np.ndarray) -> np.ndarray:
    (high, wide), (down, right) = operation.kernel, operation.stride
    (top, left) = operation.padding
    padded = np.pad(values, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=-999)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (high, wide), axis=(2, 3))
    return windows[:, :, ::down, ::right].max((4, 5))


def drawn_operation(kind: type, rng: np.random.Generator) -> object:
    """Draw an operation's parameters."""
    names = {"name": "drawn", "sources": ("a", "b"), "target": "y"}
    names |= {"low": int(rng.choice([0, -127, -128])), "high": int(rng.choice([96, 127]))}
    if kind in (Add, Product):
        size = 2 if kind is Add else 1
        return kind(**names, shift=rng.integers(-3, 9, size).astype(np.int16))
    if kind is Mean:
        return Mean(**names, shift=int(rng.integers(0, 9)))
    if kind is Table:
        values = rng.integers(-128, 128, 256).astype(np.int8)
        return Table(**names | {"low": -128, "high": 127}, values=values)
    kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
    stride = tuple(int(k) for k in rng.integers(1, 4, 2))
    names |= {"low": -128, "high": 127}
    return MaxPool(**names, kernel=kernel, stride=stride, padding=tuple(k // 2 for k in kernel))


@pytest.mark.parametrize("kind", [Add, Product, Mean, Table, MaxPool])
def test_each_operation_equals_its_definition(kind):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        operation = drawn_operation(kind, rng)
        shape = (2, 5, *rng.integers(4, 30, 2))
        gate = (2, 5, 1, 1) if kind is Product and rng.integers(2) else shape
        pair = [rng.integers(-128, 128, s).astype(np.int8) for s in (shape, gate)]
        pair = pair if kind in (Add, Product) else pair[:1]
        found = operation(*map(torch.from_numpy, pair))
        assert found.dtype == torch.int8
        expected = int64_operation(operation, *(each.astype(np.int64) for each in pair))
        np.testing.assert_array_equal(found.numpy(), expected)


def test_no_partial_sum_exceeds_the_bound_and_some_sum_reaches_it():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        conv = drawn_convolution(rng, SIGNED)
        bound = largest_sums(conv, *SIGNED)
        for channel in range(len(conv.bias)):
            weights = conv.weight[channel].astype(np.int64).ravel()
            worst = np.where(weights < 0, -128, 127)
            for inputs in (worst, -128 - worst + 127, rng.integers(-128, 128, weights.size)):
                terms = np.append(weights * inputs, conv.bias[channel])
                for _ in range(5):
                    rng.shuffle(terms)
                    assert np.abs(terms.cumsum()).max() <= bound[channel]
            reached = np.abs(weights).sum() * 127 + abs(int(conv.bias[channel]))
            assert reached <= bound[channel] <= reached * 128 / 127


def test_a_network_that_could_exceed_the_bound_is_no_network(one_line):
    weight, none = np.full((1, 1100, 1, 1), 127, np.int8), np.zeros(1, np.int16)
    names = {"name": "wide", "sources": (PIXELS,), "target": "y"}
    conv = Conv(**names, weight=weight, bias=none, shift=none)
    with one_line(ValueError, "layer wide", "backbone.arithmetic: float32"):
        IntegerNetwork((conv,), (128, 128, 128), (Output("wide", "y", 0),))


@pytest.mark.parametrize(("kernel", "spared"), [(1, 0), (3, 3)])
def test_weights_lose_bits_where_they_must(kernel, spared):
    """1,024 inputs of full weights just fit; nine times as many need four bits less, or three."""
    weight = np.full((2, 1024, kernel, kernel), 0.9)
    weight[1] = np.random.default_rng(0).normal(size=weight[1].shape) * 1e-6
    conv = Conv(name="c", sources=("x",), target="y", weight=weight, bias=np.array([0.0, 1e4]))
    whole = quantize_conv(conv, np.ones(1024), np.ones(2), 127, np.zeros(1024))
    assert (largest_sums(whole, 0, 127) < LIMIT).all()
    assert np.abs(whole.weight[0]).max() == round(0.9 * 2.0 ** (7 - spared))
    assert whole.bias[1] * 2.0 ** -int(whole.shift[1]) == 1e4
    assert whole.shift.tolist() == [7 - spared, 9]  # 1e4 / 2 ** 16 = 0.153 fits 9 bits, and stays


def test_a_relu6_ends_at_six():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1, bias=False), torch.nn.ReLU6()).eval()
    model[0].weight.data[:] = torch.tensor([[9.0, 9, 9], [1, 1, 1]])[:, :, None, None]
    whole, _, maps = to_integer(model, ["1"], images(2), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert maps[0].max() * 2.0 ** -whole.outputs[0].exponent == 6


@pytest.mark.parametrize("activation", [n for n, a in ACTIVATIONS.items() if a.function])
def test_tables_hold_the_rounded_function(activation):
    x = torch.arange(-128, 128) / 16.0
    expected = getattr(torch.nn.functional, activation)(x.double()).numpy() * 2**6
    assert np.abs(table_of(activation, 4, 6) - expected).max() <= 0.5 + 1e-9


NETWORKS = {
    "resnet18": ["layer1", "layer2"],
    "wide_resnet50_2": ["layer2"],
    "tf_efficientnet_lite0": ["blocks.1", "blocks.3"],
    "densenet121": ["features.denseblock1", "features.denseblock2"],
    "efficientnet_b1": ["blocks.1", "blocks.2"],
    "mobilenetv3_large_100": ["blocks.2", "blocks.3"],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_equal_int64_and_resemble_float32(name):
    layers = NETWORKS[name]
    model = network(name)
    made_on = images(4)
    whole, engines, maps = to_integer(model, layers, made_on, mean=(0.5,) * 3, std=(0.5,) * 3)
    for one, other in zip(maps, int64_maps(whole, made_on[:1]), strict=True):
        np.testing.assert_array_equal(one[:1].numpy(), other)
    pixels = images(1, size=56, seed=5)  # another size than the one that it was made on
    found = Runner(whole)(torch.from_numpy(pixels))
    again = Runner(whole, engines=(), ready=engines)(torch.from_numpy(pixels))
    for one, two, other in zip(found, again, int64_maps(whole, pixels), strict=True):
        np.testing.assert_array_equal(one.numpy(), other)
        np.testing.assert_array_equal(two.numpy(), other)
        assert one.min() >= -127
    taps = {}
    for layer in layers:
        model.get_submodule(layer).register_forward_hook(
            lambda _m, _i, output, layer=layer: taps.update({layer: output})
        )
    model(torch.from_numpy(pixels) / 127.5 - 1)
    for output, maps in zip(whole.outputs, found, strict=True):
        ours = maps.numpy().ravel() * 2.0**-output.exponent
        assert np.corrcoef(ours, taps[output.layer].numpy().ravel())[0, 1] > 0.8
    shares = [largest_sums(conv, *source).max() / LIMIT for conv, source in whole.convolutions()]
    assert 0 < max(shares) < 1


@pytest.mark.parametrize(
    ("name", "layer", "part"),
    [
        ("vit_tiny_patch16_224", "blocks.1", "layer "),
        ("convnext_atto", "stages.1", "stem"),
        ("mobilevit_xxs", "stages.2", "layer "),
    ],
)
def test_a_layer_without_integer_form_is_named(name, layer, part, one_line):
    model = timm.create_model(name, pretrained=False).eval()
    with one_line(ValueError, part, "set backbone.arithmetic: float32"):
        to_integer(model, [layer], images(2), mean=MEAN, std=STD)


def program_hash(network: IntegerNetwork) -> str:
    """Hash everything that a network is made of."""
    digest = hashlib.sha256(repr((network.means, network.outputs)).encode())
    for each in network.operations:
        for field in fields(each):
            value = getattr(each, field.name)
            array = isinstance(value, np.ndarray)
            digest.update(value.tobytes() if array else repr((field.name, value)).encode())
    return digest.hexdigest()


def hashes(folder: Path, threads: int = 1) -> dict[str, str]:
    """Make networks of the weights in a folder; hash them, and what they give, by batch size."""
    pixels, found = torch.from_numpy(images(32, size=48, seed=9)), {}
    for path in sorted(folder.glob("*.pth")):
        model = timm.create_model(path.stem, pretrained=False).eval()
        model.load_state_dict(torch.load(path, weights_only=True))
        whole, *_ = to_integer(model, NETWORKS[path.stem][:1], images(4), mean=MEAN, std=STD)
        found[path.stem] = program_hash(whole)
        torch.set_num_threads(threads)
        run = Runner(whole)
        for batch in (1, 4, 32):
            digest = hashlib.sha256()
            for part in pixels.split(batch):
                digest.update(np.ascontiguousarray(run(part)[0]).tobytes())
            found[f"{path.stem} {batch}"] = digest.hexdigest()
    return found


def test_one_hash_under_other_instruction_sets_batches_and_threads(tmp_path: Path):
    """Older processors are imitated by what the libraries let one forbid."""
    for name in ("resnet18", "tf_efficientnet_lite0"):
        torch.save(network(name).state_dict(), tmp_path / f"{name}.pth")
    code = (
        "import json, sys, pathlib, torch, test_integer_network;"
        "print(torch.backends.cpu.get_cpu_capability().lower());"
        "print(json.dumps(test_integer_network.hashes(pathlib.Path(sys.argv[1]), 2)))"
    )
    capabilities = ("default", "SSE41"), ("avx2", "AVX2")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=Path(__file__).parent,
            env=os.environ
            | {"ATEN_CPU_CAPABILITY": capability, "ONEDNN_MAX_CPU_ISA": isa}
            | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_WAIT_POLICY": "PASSIVE"},
            stdout=subprocess.PIPE,
        )
        for capability, isa in capabilities
    ]
    here = hashes(tmp_path)
    for name in ("resnet18", "tf_efficientnet_lite0"):
        assert len({value for key, value in here.items() if key.startswith(f"{name} ")}) == 1
    for child, (capability, _) in zip(children, capabilities, strict=True):
        imitated, found = child.communicate(timeout=300)[0].decode().splitlines()[-2:]
        assert imitated == capability
        assert json.loads(found) == here

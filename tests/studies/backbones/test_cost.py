"""Where weights are found, which layers are the middle, and what is measured."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from ad.backbone import load_backbone
from ad.determinism import sha256_file
from ad.features import extract_features
from ad.images import IMAGENET_MEAN, IMAGENET_STD
from studies.backbones import cost as study

MIDDLES = {
    "wide_resnet101_2": (("layer2", 512), ("layer3", 1024)),
    "resnet50": (("layer2", 512), ("layer3", 1024)),
    "efficientnet_b1": (("blocks.2", 40), ("blocks.4", 112)),
    "densenet121": (("features.denseblock2", 512), ("features.denseblock3", 1024)),
    "resnet18": (("layer2", 128), ("layer3", 256)),
    "resnet10t": (("layer2", 128), ("layer3", 256)),
}


@pytest.mark.parametrize("name", list(MIDDLES))
def test_middle_layers_have_the_strides_that_they_claim(name: str):
    layers = study.middle_layers(study.empty_model(name))
    assert [(layer.name, layer.channels) for layer in layers] == list(MIDDLES[name])
    assert [layer.reduction for layer in layers] == [8, 16]


@pytest.mark.parametrize("name", ["efficientnet_b1", "densenet121", "resnet10t"])
def test_the_maps_are_as_large_as_the_strides_say(name: str):
    found = study.WeightsFound("random", None, "none here")
    maps = study.load_for_study(name, found, seed=0)(torch.zeros(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [8, 4]
    assert [m.shape[1] for m in maps] == [channels for _, channels in MIDDLES[name]]


def test_a_network_without_the_stride_is_refused(one_line):
    with pytest.raises(ValueError) as caught:
        study.middle_layers(study.empty_model("resnet18"), (8, 64))
    one_line(caught, "stride 64", "layer3 = 16")


def test_an_unknown_network_is_named(one_line):
    with pytest.raises(ValueError) as caught:
        study.empty_model("resnet1")
    one_line(caught, "resnet1", "backbones.names")


def test_weights_are_found_in_the_order_stated(tmp_path: Path):
    nothing = study.find_weights("resnet10t", tmp_path, source="folder")
    assert (nothing.weights, nothing.sha256) == ("random", None)
    assert "resnet10t.safetensors" in nothing.missing
    names = ["resnet10t.mine.safetensors", "resnet10t.c3_in1k.safetensors"]
    names += ["embedded_resnet10t.pth", "resnet10t.pth"]
    for name in [*names, "resnet10t.safetensors"]:  # each is asked for before those before it
        (tmp_path / name).write_bytes(name.encode())
        found = study.find_weights("resnet10t", tmp_path, source="folder")
        assert found.weights == (tmp_path / name).as_posix()
        assert found.sha256 == sha256_file(tmp_path / name)
        assert found.missing == ""


def test_the_pipelines_own_file_comes_first(tmp_path: Path):
    for name in ("resnet10t.safetensors", "own.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    own = (tmp_path / "own.safetensors").as_posix()
    found = study.find_weights("resnet10t", tmp_path, source="folder", configured=own)
    assert found.weights == own
    for word in (None, "hub", "random"):
        found = study.find_weights("resnet10t", tmp_path, source="folder", configured=word)
        assert found.weights == (tmp_path / "resnet10t.safetensors").as_posix()


def test_another_networks_file_is_not_taken(tmp_path: Path):
    (tmp_path / "resnet18.safetensors").write_bytes(b"x")
    found = study.find_weights("resnet10t", tmp_path, source="folder")
    assert found.weights == "random"


def test_the_hub_out_of_reach_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unreachable(_model: object, name: str) -> Path:
        raise ConnectionError(f"{name} cannot be reached")

    monkeypatch.setattr(study, "hub_weights", unreachable)
    found = study.find_weights("resnet18", tmp_path, source="hub")
    assert (found.weights, found.missing) == ("random", "resnet18 cannot be reached")


def test_found_weights_fill_the_network(tmp_path: Path):
    source = load_backbone("resnet10t", weights="random", layers=["layer3"], seed=3)
    save_file(source.model.state_dict(), tmp_path / "resnet10t.safetensors")
    found = study.find_weights("resnet10t", tmp_path, source="folder")
    loaded = study.load_for_study("resnet10t", found, seed=0)
    for key, value in source.model.state_dict().items():
        if not key.startswith(("layer4", "fc")) and "num_batches" not in key:
            torch.testing.assert_close(loaded.model.state_dict()[key], value, rtol=0, atol=0)


def test_input_is_brought_to_the_networks_own_normalisation():
    model = timm.create_model("efficientnet_b1", pretrained=False)
    seen = []
    assert study.expect_imagenet_input(model)
    model.conv_stem.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    pixels = np.random.default_rng(0).random((1, 3, 32, 32)).astype(np.float32)
    usual = (pixels - IMAGENET_MEAN[:, None, None]) / IMAGENET_STD[:, None, None]
    with torch.inference_mode():
        model.eval()(torch.from_numpy(usual))
    own = model.pretrained_cfg  # mean and deviation of 0.5
    np.testing.assert_allclose(
        seen[0].numpy(), (pixels - own["mean"][0]) / own["std"][0], atol=1e-5
    )
    assert not study.expect_imagenet_input(timm.create_model("resnet10t", pretrained=False))


def test_the_peak_is_the_most_that_was_held():
    script = (
        "import numpy as np\nfrom studies.backbones.cost import peak_resident_bytes as peak\n"
        "a = peak()\nx = np.ones(50_000_000)\nb = peak()\ndel x\nc = peak()\n"
        "print(a, b, c)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    before, holding, after = map(int, finished.stdout.split())
    assert before > 20e6  # bytes, not kilobytes
    assert holding - before == pytest.approx(400e6, rel=0.2)
    assert after >= 0.99 * holding  # the kernel counts in batches of pages


@pytest.mark.parametrize(("n", "chosen"), [(10, 4), (313, 64), (5, 9), (7, 7), (3, 1)])
def test_images_are_spread_over_the_list(n: int, chosen: int):
    numbers = study.spread_over(n, chosen)
    assert len(numbers) == len(set(numbers)) == min(n, chosen)
    assert numbers[0] == 0 and numbers.max() < n
    if chosen > 1:
        assert numbers[-1] == n - 1
        assert np.ptp(np.diff(numbers)) <= 1


@pytest.mark.parametrize("part", [64, 3, 1])
def test_parts_are_joined_and_counted(
    part: int, small_mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(study, "PART", part)
    paths = sorted(small_mvtec.rglob("train/good/*.png"))
    backbone = load_backbone("resnet10t", weights="random", layers=["layer2", "layer3"])
    settings = study.PatchSettings(3, None, None)
    how = {
        "image_size": 64,
        "image_resize": None,
        "batch_size": 4,
        "memory_gb": 3.0,
        "threads": 1,
    }
    cost = study.timed_extraction(backbone, paths, tmp_path / "f.npy", settings, **how)
    extract_features(backbone, paths, tmp_path / "whole.npy", settings, **how)
    written = np.load(tmp_path / "f.npy")
    np.testing.assert_array_equal(written, np.load(tmp_path / "whole.npy"))
    assert written.nbytes == cost.n_images * cost.feature_bytes_per_image
    assert written.shape == (4, *cost.grid, cost.feature_dim)
    assert cost.seconds_per_image > 0 and cost.cpu_seconds_per_image > 0
    assert sorted(p.name for p in tmp_path.glob("*.npy")) == ["f.npy", "whole.npy"]

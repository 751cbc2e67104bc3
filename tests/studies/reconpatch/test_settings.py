"""The study's files of parameters: valid, commented, and wrong values named in one line."""

from pathlib import Path

import pytest

from studies.reconpatch.full.settings import Settings as FullSettings
from studies.reconpatch.settings import Settings
from tools.parameters import read_yaml
from validation.sections import settings, validate

FOLDER = Path(__file__).parents[3] / "studies" / "reconpatch"
FILES = [(FOLDER / "params.yaml", Settings), (FOLDER / "full" / "params.yaml", FullSettings)]

GOOD = {
    "dimensions": [[64], [1024, 512, 1]],
    "whitening": [None, 0, 0.5, 1],
    "weight_decay": [0, 1e-2],
    "alpha": [0, 0.5, 1],
    "momentum": [0, 0.9],
    "batch_patches": [5, 512],
    "confidence": [0.5, 0.99],
    "loss_margin": [0.001, 0.5],
    "learning_rate": [1e-6, "1e-6"],
    "ensemble_backbones": [["resnet18"], ["resnet18", "resnet50.a1_in1k"]],
}
BAD = {
    "synthetic_every": [1, 2.5, "4"],
    "dimensions": [[], 64, None, [64, 64], [0], [64.0], ["64"], [True]],
    "seeds": [1, 2.5, None],
    "draws": [0, None],
    "loss_margin": [0, 1, None],
    "confidence": [0.4, 1, "high"],
    "whitening": [-0.1, 1.1, "some"],
    "learning_rate": [0, None, float("nan")],
    "weight_decay": [-1],
    "epochs": [0, 1.5],
    "neighbors": [1, 5.0],
    "alpha": [-0.1, 1.1],
    "sigma": [0],
    "margin": [0, "1"],
    "momentum": [1, -0.1],
    "batch_patches": [3, 4, None],  # 4 is below the 5 neighbors
    "patches_per_image": [0, None],
    "ensemble_dimension": [0],
    "ensemble_backbones": [[], ["a", "a"], "resnet18", [""]],
}


@pytest.mark.parametrize(("path", "model"), FILES, ids=["short", "full"])
def test_the_file_is_valid_and_every_setting_has_a_comment(path, model):
    validate(read_yaml(path), model)
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line[0] not in "#-"]
    assert len(lines) == len(settings(model))
    assert [line for line in lines if "# " not in line] == []


@pytest.mark.parametrize("key", GOOD)
def test_good_values(key):
    for value in GOOD[key]:
        validate(read_yaml(FILES[0][0]) | {key: value}, Settings)


@pytest.mark.parametrize("key", BAD)
def test_bad_values_are_named_in_one_line(key, one_line):
    for value in BAD[key]:
        with pytest.raises(ValueError) as caught:
            validate(read_yaml(FILES[0][0]) | {key: value}, Settings)
        one_line(caught, f"{key}={value!r} is not allowed; it must be")


def test_missing_and_unknown_settings(one_line):
    given = read_yaml(FILES[0][0])
    for params, words in (
        ({k: v for k, v in given.items() if k != "draws"}, "parameter draws is missing"),
        (given | {"drwas": 3}, "unknown parameter drwas=3"),
    ):
        with pytest.raises(ValueError) as caught:
            validate(params, Settings)
        one_line(caught, words)

"""What each setting of the study takes and refuses."""

import pytest
from settings_cases import NAN, cases, check_examples, check_invalid, check_missing, with_value

from ad.validation import validate
from studies.reconpatch.settings import Settings

PARAMS = {
    "synthetic_every": 4,
    "dimensions": [128, 64],
    "seeds": 3,
    "draws": 3,
    "whitening": None,
    "learning_rate": 1e-06,
    "random_learning_rate": 1e-05,
    "epochs": 120,
    "weight_decay": 0.01,
    "neighbors": 5,
    "alpha": 0.5,
    "sigma": 1.0,
    "margin": 1.0,
    "momentum": 0.9,
    "patches_per_image": 32,
    "batch_patches": 512,
    "random_up_to": 128,
    "ensemble_dimension": 64,
    "ensemble_backbones": ["resnet18"],
}
VALID = {
    "synthetic_every": [2, 4],
    "dimensions": [[64], [1024, 512, 1]],
    "seeds": [2, 3],
    "whitening": [None, 0, 0.5, 1],
    "learning_rate": [1e-6, 1],
    "random_learning_rate": [1e-5, 1],
    "draws": [1, 3],
    "epochs": [1, 120],
    "weight_decay": [0, 1e-2],
    "neighbors": [2, 5],
    "alpha": [0, 0.5, 1],
    "sigma": [0.1, 2],
    "margin": [0.1, 1],
    "momentum": [0, 0.9],
    "batch_patches": [4, 512],
    "patches_per_image": [1, 784],
    "random_up_to": [0, 128],
    "ensemble_dimension": [1, 64],
    "ensemble_backbones": [["resnet18"], ["resnet18", "resnet10t"]],
}

INVALID = {
    "synthetic_every": [1, 0, 4.0, None],
    "dimensions": [[], 64, None, [64, 64], [0], [64.0], ["64"], [True]],
    "seeds": [1, 0, 3.0, None],
    "whitening": [-0.1, 1.1, "chosen", True, NAN],
    "learning_rate": [0, -1e-5, None, NAN],
    "random_learning_rate": [0, None],
    "draws": [0, None, 1.5],
    "epochs": [0, 1.5, None],
    "weight_decay": [-1, None, "0"],
    "neighbors": [1, None, 2.5],
    "alpha": [-0.1, 1.1, None],
    "sigma": [0, None],
    "margin": [0, "1"],
    "momentum": [1, -0.1, None],
    "batch_patches": [3, None],
    "patches_per_image": [0, None, True],
    "random_up_to": [-1, None, 64.0],
    "ensemble_dimension": [0, None],
    "ensemble_backbones": [[], None, ["a", "a"], [3]],
}


def test_every_setting_has_examples():
    check_examples(Settings, PARAMS, VALID, INVALID)


@pytest.mark.parametrize(("key", "value"), cases(VALID))
def test_a_valid_value(key, value):
    validate(with_value(PARAMS, key, value), Settings)


@pytest.mark.parametrize(("key", "value"), cases(INVALID))
def test_an_invalid_value(key, value, one_line):
    check_invalid(Settings, PARAMS, key, value, one_line)


@pytest.mark.parametrize("key", list(PARAMS))
def test_a_missing_key(key, one_line):
    check_missing(Settings, PARAMS, key, one_line)

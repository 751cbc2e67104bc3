"""What each setting of the study takes and refuses."""

import pytest
from settings_cases import cases, check_examples, check_invalid, check_missing, with_value

from studies.backbones.settings import Settings
from validation.sections import validate

PARAMS = {"names": ["resnet18"], "weights": "folder"}
VALID = {
    "names": [["resnet18"], ["resnet18", "efficientnet_b1.ft_in1k"]],
    "weights": ["folder", "hub"],
}

INVALID = {
    "names": [[], None, "resnet18", ["a", "a"], [""], ["a b"], ["../a"], ["a/b"], [18]],
    "weights": ["", None, "random", "file", True],
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

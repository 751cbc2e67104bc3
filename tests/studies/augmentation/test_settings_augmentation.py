"""What each setting of the study takes and refuses."""

import pytest
from settings_cases import NAN, cases, check_examples, check_invalid, check_missing, with_value

from studies.augmentation.settings import Settings
from validation.sections import validate

PARAMS = {"seeds": 3, "folds": 3, "copies": 48, "rotation": 5.0, "illumination": 0.15, "crop": 0.1}
VALID = {
    "seeds": [3, 5],
    "folds": [2, 5],
    "copies": [2, 213],
    "rotation": [0.5, 45],
    "illumination": [0.15, 0.5],
    "crop": [0.1, 0.5],
}

INVALID = {
    "seeds": [2, 0, 3.0, None],
    "folds": [1, None, 3.0],
    "copies": [1, None, 2.0],
    "rotation": [0, -5, 46, "5", None, NAN],
    "illumination": [0, 0.51, "0.1", None, NAN],
    "crop": [0, 0.51, -0.1, None, NAN],
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

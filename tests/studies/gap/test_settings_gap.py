"""What each setting of the study takes and refuses."""

import pytest
from settings_cases import NAN, cases, check_examples, check_invalid, check_missing, with_value

from studies.gap.settings import Settings
from validation.sections import validate

PARAMS = {
    "reported": "WRN101:0.35714:0.44,ResNet-50:0.3846:0.375",
    "n_images": 100,
    "n_anomalous": 40,
    "working": 0.9,
    "other_private": "0.98039",
    "flag_window": 0.25,
    "coreset_ratio": 0.01,
    "seeds": 10,
    "permutations": 2000,
}
VALID = {
    "reported": ["a:0.35714:0.44,b c:1:0", "x:0.5:0.5"],
    "n_images": [41, 100],
    "n_anomalous": [1, 99],
    "working": [0.5, 0.9, 1],
    "other_private": ["", "0.98039", "1"],
    "flag_window": [0.1, 1],
    "coreset_ratio": [0.01, 1],
    "seeds": [1, 20],
    "permutations": [100, 2000],
}

INVALID = {
    "reported": ["", "a", "a:0.5", "a:0.5:high", "a:0.5:2", "a:0.5:0.5,", 0.5, None],
    "n_images": [19, 100.0, None],
    "n_anomalous": [0, 40.0, None],
    "working": [0.49, 1.01, "0.9", None, NAN],
    "other_private": [None, 0.98, "2", "high"],
    "flag_window": [0, 1.1, None],
    "coreset_ratio": [0, 1.1, "0.01", None],
    "seeds": [0, 10.0, None],
    "permutations": [99, 2000.0, None],
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


def test_a_test_set_without_normal_images():
    with pytest.raises(ValueError, match="n_anomalous=100 of n_images=100"):
        validate(with_value(PARAMS, "n_anomalous", 100), Settings)

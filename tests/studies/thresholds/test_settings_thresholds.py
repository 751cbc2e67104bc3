"""What each setting of the study takes and refuses."""

import pytest
from settings_cases import NAN, cases, check_examples, check_invalid, check_missing, with_value

from studies.thresholds.settings import Settings
from validation.sections import validate

PARAMS = {
    "outer": 5,
    "rate": 0.05,
    "seeds": 10,
    "repeats": 40,
    "clusters": 4,
    "duplicate": 0.25,
    "planted": 0.75,
    "noise": 0.05,
}
VALID = {
    "outer": [2, 5],
    "rate": [0.01, 0.24],
    "seeds": [1, 10],
    "repeats": [2, 40],
    "clusters": [1, 4],
    "duplicate": [0.25, 1],
    "planted": [0.01, 0.8],
    "noise": [0, 0.1],
}

INVALID = {
    "outer": [1, None, 5.0],
    "rate": [0, 0.25, 1, "0.05", None, NAN],
    "seeds": [0, None, 2.0],
    "repeats": [1, None, 40.0],
    "clusters": [0, None, 4.0],
    "duplicate": [0, -1, "0.25", None],
    "planted": [0, 0.81, None],
    "noise": [-0.1, None, NAN],
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

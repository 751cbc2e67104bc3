"""What each setting of the study takes and refuses."""

import pytest
from settings_cases import cases, check_examples, check_invalid, check_missing, with_value

from studies.search.settings import Settings
from validation.sections import validate

PARAMS = {
    "trials": 40,
    "normals": 96,
    "image_sizes": [224],
    "layers": [["layer2", "layer3"]],
    "patch_sizes": [3],
    "ratio": [0.002, 0.05],
    "num_neighbors": [1, 9],
}
VALID = {
    "trials": [2, 40],
    "normals": [12, 213],
    "image_sizes": [[224], [64, 32]],
    "layers": [[["layer2"]], [["layer2"], ["layer3"]], [[2], [2, 3]]],
    "patch_sizes": [[1], [3, 15]],
    "ratio": [[0.01, 0.1], [0.5, 1]],
    "num_neighbors": [[1, 2], [3, 9]],
}

INVALID = {
    "trials": [1, 0, 40.0, None],
    "normals": [11, None, 96.0],
    "image_sizes": [[], 224, None, [31], [224, 224], [224.0], ["224"]],
    "layers": [[], None, ["layer2"], [[]], [["layer2"], ["layer2"]], [["a", "a"]]],
    "patch_sizes": [[], 3, None, [2], [17], [3, 3], [3.0]],
    "ratio": [[], 0.1, None, [0.1], [0.1, 0.1], [0.1, 0.01], [0, 0.1], [0.1, 2], ["a", "b"]],
    "num_neighbors": [[], 5, None, [5], [5, 5], [9, 1], [0, 5], [1.0, 5], [1, 2, 3]],
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

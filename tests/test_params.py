"""Settings: defaults in Python, the committed file, and errors of one line."""

import subprocess
from pathlib import Path

import pytest
import yaml

from ad.params import Params, Score, read_params

ROOT = Path(__file__).resolve().parent.parent


def test_defaults_are_the_committed_parameters():
    """Of the last commit: an edit of params.yaml is no failed test."""
    command = ["git", "show", "HEAD:params.yaml"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if shown.returncode:
        pytest.skip("no git history here")
    assert read_params(yaml.safe_load(shown.stdout)) == Params()


def test_a_section_takes_a_dictionary_and_its_defaults():
    assert Score(num_neighbors=3).squared
    assert read_params({"coreset": {"ratio": "1e-2"}}).coreset.ratio == 0.01  # as YAML reads it
    assert read_params({"image": {"input_size": [96, 128]}}).image.shape == (96, 128)
    assert read_params({"image": {"input_size": 96}}).image.shape == (96, 96)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"coreset": {"ratio": 10}}, "coreset.ratio=10: input should be less than or equal to 1"),
        ({"coreset": {"size": 3}}, "coreset.size is now called coreset.n_select"),
        ({"patch": {"patch_size": 4}}, "patch.patch_size=4: it must be odd"),
        ({"cv": {"threshold": "maxx"}}, "cv.threshold='maxx': 'maxx' is no rule; write max"),
        ({"scor": {}}, "scor is no setting; there are backbone"),
        ({"cv": {"fold": 3}}, "cv.fold is no setting; there are aggregate, folds"),
        ({"seed": "a"}, "seed='a': input should be a valid integer"),
        ({"coreset": 3}, "coreset=3: input should be a valid dictionary"),
        ({"image": {"input_size": 100, "tiles": 2}}, "image.tiles=2 with image.input_size=100"),
        ({"image": {"resize": 100}}, "image.resize=100 is smaller than the crop"),
        ({"score": {"reweight": True, "num_neighbors": 1}}, "makes every score 0"),
        ({"backbone": {"weights": "x.zip"}}, "package, hub, random, or a .safetensors"),
        ({"image": {"region": [0.5, 0, 0.2, 1]}}, "left, top, right, bottom as shares"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_is_allowed(given: dict, words: str):
    with pytest.raises(ValueError) as caught:
        read_params(given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

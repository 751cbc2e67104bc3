"""What each of the pipeline's settings takes and refuses, and in which words."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from settings_cases import (
    INFINITY,
    NAN,
    cases,
    check_examples,
    check_invalid,
    check_missing,
    with_value,
)

from ad.params import Image, Params, parse_threshold_rule
from ad.sections import flatten, settings, validate

PARAMS = {
    "seed": 0,
    "data": {"path": "data", "locked": None},
    "image": {
        "size": 224,
        "tiles": 1,
        "region": None,
        "resize": 256,
        "mean": None,
        "std": None,
        "interpolation": None,
    },
    "backbone": {
        "name": "resnet18",
        "weights": "random",
        "layers": ["layer2", "layer3"],
        "batch_size": 32,
        "arithmetic": "integer",
    },
    "patch": {"size": 3, "pretrain_dim": 1024, "target_dim": 1024},
    "coreset": {"ratio": 0.1, "size": None, "projection_dim": 128},
    "score": {"num_neighbors": 5, "squared": True, "reweight": False, "index": "exact"},
    "cv": {"folds": 5, "shuffle": False, "threshold": "max", "aggregate": "max"},
    "runtime": {"device": "cpu", "threads": None, "memory_gb": 3.0},
}
VALID = {
    "seed": [0, 1, 2**32 - 1],
    "data.path": ["data", "../shared/set", "/a b/c"],
    "data.locked": [None, "data_locked"],
    "image.size": [32, 224, 256],
    "image.tiles": [1],
    "image.region": [None, [0.0, 0.1, 0.5, 1.0]],
    "image.resize": [None, 224, 256],
    "backbone.name": ["resnet18", "hf_hub:timm/resnet18"],
    "backbone.weights": ["hub", "package", "random", "a.safetensors", "../b/c.pth"],
    "backbone.layers": [["layer3"], ["layer2", "layer3"], [2, 3], ["layer2", 3]],
    "backbone.batch_size": [1, 32],
    "backbone.arithmetic": ["integer", "float32"],
    "patch.size": [1, 3, 15],
    "patch.pretrain_dim": [1, 1024],
    "patch.target_dim": [1, 1024],
    "coreset.ratio": [1e-6, 0.01, 1, 1.0, "1e-9"],
    "coreset.size": [None, 1, 100_000],
    "coreset.projection_dim": [None, 1, 128],
    "score.num_neighbors": [1, 5],
    "score.squared": [True, False],
    "score.reweight": [True, False],
    "score.index": ["exact", "faiss_flat", "faiss_hnsw"],
    "cv.folds": [2, 5, 213],
    "cv.shuffle": [True, False],
    "cv.threshold": ["max", "quantile:0.99", "quantile:1", "mean_sd:3", "mean_sd:0", "mean_sd:2.5"],
    "cv.aggregate": ["max", "mean", "median"],
    "runtime.device": ["cpu", "cuda", "auto"],
    "runtime.threads": [None, 1, 64],
    "runtime.memory_gb": [0.5, 3, 16.0, "1e1"],
    "image.mean": [None, [0.5, 0.5, 0.5]],
    "image.std": [None, [0.229, 0.224, 0.225]],
    "image.interpolation": [None, "bilinear", "bicubic"],
}

INVALID = {
    "seed": [-1, 2**32, 0.0, "0", None, True, [0]],
    "data.path": ["", "  ", None, 3, ["data"]],
    "data.locked": ["", " ", 3, ["data"]],
    "image.size": [31, 0, -224, 224.0, "224", None, True],
    "image.tiles": [0, 17, 1.0, None],
    "image.region": [0.5, [0.0, 0.0, 1.0], [0.5, 0.0, 0.4, 1.0], [-0.1, 0.0, 1.0, 1.0]],
    "image.resize": [0, -1, 256.0, "256", "null", False],
    "backbone.name": ["", None, 18],
    "backbone.weights": ["", None, "imagenet", "Hub", "a.bin", "a.pkl", True, ["hub"]],
    "backbone.layers": [
        [],
        None,
        "layer2",
        ["layer2", "layer2"],
        [2, 2],
        [-1],
        [2.0],
        [True],
        [None],
        [""],
        ["2", 2],
    ],
    "backbone.batch_size": [0, -1, 1.5, "32", None, True],
    "backbone.arithmetic": ["int8", "", None, 8, True],
    "patch.size": [0, 2, 4, -3, 17, 3.0, "3", None, True],
    "patch.pretrain_dim": [0, -1, 1024.0, "1024", True],
    "patch.target_dim": [0, -1, 1024.0, "1024", True],
    "coreset.ratio": [0, 0.0, -0.1, 1.0001, 2, "0.1", None, True, NAN, INFINITY],
    "coreset.size": [0, -1, 10.0, "10", True],
    "coreset.projection_dim": [0, -1, 128.0, "128", True],
    "score.num_neighbors": [0, -1, 5.0, "5", None, True],
    "score.squared": [0, 1, "true", None],
    "score.reweight": [0, 1, "yes", None],
    "score.index": ["", "faiss", "Exact", None, True, ["exact"]],
    "cv.folds": [1, 0, -5, 5.0, "5", None, True],
    "cv.shuffle": [0, 1, "no", None],
    "cv.threshold": [
        "",
        "maximum",
        "Max",
        "max:1",
        "quantile",
        "quantile:",
        "quantile:0",
        "quantile:1.01",
        "quantile:-0.5",
        "quantile:99",
        "quantile:nan",
        "mean_sd",
        "mean_sd:-1",
        "mean_sd:inf",
        " max",
        "max\n",
        0.99,
        None,
        True,
        ["max"],
    ],
    "cv.aggregate": ["", "sum", "Max", None, True],
    "runtime.device": ["", "gpu", "cuda:0", None, True],
    "runtime.threads": [0, -1, 1.0, "1", True, 100_000],
    "runtime.memory_gb": [0, -1, "3", None, True, NAN, INFINITY],
    "image.mean": [0.5, [0.5], [0, 0.5, 0.5], [0.5, 0.5, 2], ["a", "b", "c"]],
    "image.std": [1, [1, 1], [0.5, 0.5, 0.0]],
    "image.interpolation": ["", "nearest", 3, True],
}


def test_every_setting_has_examples():
    check_examples(Params, PARAMS, VALID, INVALID)


@pytest.mark.parametrize(("key", "value"), cases(VALID))
def test_a_valid_value(key: str, value: object):
    params = PARAMS | {"image": PARAMS["image"] | {"resize": None}}
    validate(with_value(params, key, value), Params)


@pytest.mark.parametrize(("key", "value"), cases(INVALID))
def test_an_invalid_value_names_key_value_and_what_is_allowed(
    key: str, value: object, one_line: Callable
):
    check_invalid(Params, PARAMS, key, value, one_line)


@pytest.mark.parametrize("key", list(settings(Params)))
def test_a_missing_key_is_named(key: str, one_line: Callable):
    check_missing(Params, PARAMS, key, one_line)


def test_a_number_that_yaml_reads_as_text_is_a_number():
    assert validate(with_value(PARAMS, "coreset.ratio", "1e-3"), Params).coreset.ratio == 0.001


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("coreset.ration", "coreset.ratio"),
        ("cv.agregate", "cv.aggregate"),
        ("sede", "seed"),
        ("seed2", "seed"),
    ],
)
def test_an_unknown_key_is_named_with_those_known(key: str, known: str, one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(with_value(PARAMS, key, 7), Params)
    one_line(caught, f"{key}=7", "unknown", known)


def test_a_dotted_key_beside_its_section_is_unknown(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | {"image.size": 99}, Params)
    one_line(caught, "image.size=99", "unknown")


def test_an_unknown_section_is_named(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | {"corset": {"ratio": 0.1}}, Params)
    one_line(caught, "corset.ratio=0.1", "unknown", "coreset.ratio")


@pytest.mark.parametrize("value", [5, None, "max", [1]])
def test_a_value_where_a_section_belongs(value: object, one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | {"cv": value}, Params)
    one_line(caught, f"cv={value!r}", "section", "folds", "threshold")


def test_a_section_where_a_value_belongs(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(with_value(PARAMS, "cv.folds", {"number": 5}), Params)
    one_line(caught, "cv.folds.number=5", "unknown")


def test_an_empty_section_misses_its_keys(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | {"cv": {}}, Params)
    one_line(caught, "cv.folds", "missing")


def test_a_crop_larger_than_the_picture(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | {"image": PARAMS["image"] | {"resize": 223}}, Params)
    one_line(caught, "image.resize=223", "image.size=224", "null or at least 224")
    validate(PARAMS | {"image": PARAMS["image"] | {"resize": 224}}, Params)


def test_a_reweighting_that_would_make_every_score_zero(one_line: Callable):
    params = with_value(PARAMS, "score.reweight", True)
    params["score"]["num_neighbors"] = 1
    with pytest.raises(ValueError) as caught:
        validate(params, Params)
    one_line(caught, "score.reweight=True", "score.num_neighbors=1", "at least 2")


def test_flatten_by_hand():
    nested = {"a": 1, "b": {"c": [2], "d": {"e": None}}, "f": {}}
    assert flatten(nested) == {"a": 1, "b.c": [2], "b.d.e": None}


def test_a_section_is_gathered_from_a_notebooks_parameters():
    names = {"image_size": 64, "image_resize": None, "other": 3}
    assert Image.of(names, "image_") == Image(size=64, resize=None)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("max", ("max", None)), ("quantile:0.99", ("quantile", 0.99)), ("mean_sd:3", ("mean_sd", 3))],
)
def test_threshold_rules_are_parsed(rule: str, expected: tuple):
    assert parse_threshold_rule(rule) == expected


def test_the_repositorys_own_parameters_are_valid():
    path = Path(__file__).parents[1] / "params.yaml"
    validate(yaml.safe_load(path.read_text(encoding="utf-8")), Params)

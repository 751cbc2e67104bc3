"""What each setting takes and refuses, and in which words."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ad.params import SETTINGS, Setting, flatten, parse_threshold_rule, validate

PARAMS = {
    "seed": 0,
    "data": {"path": "data"},
    "image": {"size": 224, "resize": 256},
    "backbone": {
        "name": "resnet18",
        "weights": "random",
        "layers": ["layer2", "layer3"],
        "batch_size": 32,
    },
    "patch": {"size": 3, "pretrain_dim": 1024, "target_dim": 1024},
    "coreset": {"ratio": 0.1, "projection_dim": 128},
    "score": {"num_neighbors": 5, "squared": True, "reweight": False, "index": "exact"},
    "cv": {"folds": 5, "shuffle": False, "threshold": "max", "aggregate": "max"},
    "runtime": {"device": "cpu", "threads": None, "memory_gb": 3.0},
    "synthetic": {"every": 4},
    "gap": {
        "reported": "WRN101:0.35714:0.44,ResNet-50:0.3846:0.375",
        "n_images": 100,
        "n_anomalous": 40,
        "working": 0.9,
        "coreset_ratio": 0.01,
        "seeds": 10,
        "permutations": 2000,
    },
    "reconpatch": {
        "dimensions": [128, 64],
        "seeds": 3,
        "draws": 3,
        "whitening": None,
        "learning_rate": 1e-6,
        "random_learning_rate": 1e-5,
        "epochs": 120,
        "weight_decay": 1e-2,
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
    },
    "thresholds": {"outer": 5, "rate": 0.05, "clusters": 4, "duplicate": 0.25},
    "backbones": {"names": ["resnet18"], "weights": "folder", "cost_images": 8},
    "augmentation": {
        "seeds": 3,
        "folds": 3,
        "copies": 48,
        "rotation": 5.0,
        "illumination": 0.15,
        "crop": 0.1,
    },
    "search": {
        "trials": 40,
        "normals": 96,
        "image_sizes": [224],
        "layers": [["layer2", "layer3"]],
        "patch_sizes": [3],
        "ratio": [0.002, 0.05],
        "num_neighbors": [1, 9],
    },
}
NAN, INFINITY = float("nan"), float("inf")
VALID = {
    "seed": [0, 1, 2**32 - 1],
    "data.path": ["data", "../shared/set", "/a b/c"],
    "image.size": [32, 224, 256],
    "image.resize": [None, 224, 256],
    "backbone.name": ["resnet18", "hf_hub:timm/resnet18"],
    "backbone.weights": ["hub", "random", "a.safetensors", "../b/c.pth"],
    "backbone.layers": [["layer3"], ["layer2", "layer3"], [2, 3], ["layer2", 3]],
    "backbone.batch_size": [1, 32],
    "patch.size": [1, 3, 15],
    "patch.pretrain_dim": [1, 1024],
    "patch.target_dim": [1, 1024],
    "coreset.ratio": [1e-6, 0.01, 1, 1.0],
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
    "runtime.memory_gb": [0.5, 3, 16.0],
    "synthetic.every": [2, 4],
    "gap.reported": ["a:0.35714:0.44,b c:1:0", "x:0.5:0.5"],
    "gap.n_images": [41, 100],
    "gap.n_anomalous": [1, 99],
    "gap.working": [0.5, 0.9, 1],
    "gap.coreset_ratio": [0.01, 1],
    "gap.seeds": [1, 20],
    "gap.permutations": [100, 2000],
    "reconpatch.dimensions": [[64], [1024, 512, 1]],
    "reconpatch.seeds": [2, 3],
    "reconpatch.whitening": [None, 0, 0.5, 1],
    "reconpatch.learning_rate": [1e-6, 1],
    "reconpatch.random_learning_rate": [1e-5, 1],
    "reconpatch.draws": [1, 3],
    "reconpatch.epochs": [1, 120],
    "reconpatch.weight_decay": [0, 1e-2],
    "reconpatch.neighbors": [2, 5],
    "reconpatch.alpha": [0, 0.5, 1],
    "reconpatch.sigma": [0.1, 2],
    "reconpatch.margin": [0.1, 1],
    "reconpatch.momentum": [0, 0.9],
    "reconpatch.batch_patches": [4, 512],
    "reconpatch.patches_per_image": [1, 784],
    "reconpatch.random_up_to": [0, 128],
    "reconpatch.ensemble_dimension": [1, 64],
    "reconpatch.ensemble_backbones": [["resnet18"], ["resnet18", "resnet10t"]],
    "thresholds.outer": [2, 5],
    "thresholds.rate": [0.01, 0.24],
    "thresholds.clusters": [1, 4],
    "thresholds.duplicate": [0.25, 1],
    "backbones.names": [["resnet18"], ["resnet18", "efficientnet_b1.ft_in1k"]],
    "backbones.weights": ["folder", "hub"],
    "backbones.cost_images": [1, 64, None],
    "augmentation.seeds": [3, 5],
    "augmentation.folds": [2, 5],
    "augmentation.copies": [2, 213],
    "augmentation.rotation": [0.5, 45],
    "augmentation.illumination": [0.15, 0.5],
    "augmentation.crop": [0.1, 0.5],
    "search.trials": [2, 40],
    "search.normals": [12, 213],
    "search.image_sizes": [[224], [64, 32]],
    "search.layers": [[["layer2"]], [["layer2"], ["layer3"]], [[2], [2, 3]]],
    "search.patch_sizes": [[1], [3, 15]],
    "search.ratio": [[0.01, 0.1], [0.5, 1]],
    "search.num_neighbors": [[1, 2], [3, 9]],
}
INVALID = {
    "seed": [-1, 2**32, 0.0, "0", None, True, [0]],
    "data.path": ["", "  ", None, 3, ["data"]],
    "image.size": [31, 0, -224, 224.0, "224", None, True],
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
    "patch.size": [0, 2, 4, -3, 17, 3.0, "3", None, True],
    "patch.pretrain_dim": [0, -1, 1024.0, "1024", True],
    "patch.target_dim": [0, -1, 1024.0, "1024", True],
    "coreset.ratio": [0, 0.0, -0.1, 1.0001, 2, "0.1", "1e-2", None, True, NAN, INFINITY],
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
    "runtime.threads": [0, -1, 1.0, "1", True],
    "runtime.memory_gb": [0, -1, "3", None, True, NAN, INFINITY],
    "synthetic.every": [1, 0, 4.0, None],
    "gap.reported": ["", "a", "a:0.5", "a:0.5:high", "a:0.5:2", "a:0.5:0.5,", 0.5, None],
    "gap.n_images": [19, 100.0, None],
    "gap.n_anomalous": [0, 40.0, None],
    "gap.working": [0.49, 1.01, "0.9", None, NAN],
    "gap.coreset_ratio": [0, 1.1, "0.01", None],
    "gap.seeds": [0, 10.0, None],
    "gap.permutations": [99, 2000.0, None],
    "reconpatch.dimensions": [[], 64, None, [64, 64], [0], [64.0], ["64"], [True]],
    "reconpatch.seeds": [1, 0, 3.0, None],
    "reconpatch.whitening": [-0.1, 1.1, "chosen", True, NAN],
    "reconpatch.learning_rate": [0, -1e-5, "1e-5", None, NAN],
    "reconpatch.random_learning_rate": [0, "1e-5", None],
    "reconpatch.draws": [0, None, 1.5],
    "reconpatch.epochs": [0, 1.5, None],
    "reconpatch.weight_decay": [-1, None, "0"],
    "reconpatch.neighbors": [1, None, 2.5],
    "reconpatch.alpha": [-0.1, 1.1, None],
    "reconpatch.sigma": [0, None],
    "reconpatch.margin": [0, "1"],
    "reconpatch.momentum": [1, -0.1, None],
    "reconpatch.batch_patches": [3, None],
    "reconpatch.patches_per_image": [0, None, True],
    "reconpatch.random_up_to": [-1, None, 64.0],
    "reconpatch.ensemble_dimension": [0, None],
    "reconpatch.ensemble_backbones": [[], None, ["a", "a"], [3]],
    "thresholds.outer": [1, None, 5.0],
    "thresholds.rate": [0, 0.25, 1, "0.05", None, NAN],
    "thresholds.clusters": [0, None, 4.0],
    "thresholds.duplicate": [0, -1, "0.25", None],
    "backbones.names": [[], None, "resnet18", ["a", "a"], [""], ["a b"], ["../a"], ["a/b"], [18]],
    "backbones.weights": ["", None, "random", "file", True],
    "backbones.cost_images": [0, -1, 1.5, "64", True],
    "augmentation.seeds": [2, 0, 3.0, None],
    "augmentation.folds": [1, None, 3.0],
    "augmentation.copies": [1, None, 2.0],
    "augmentation.rotation": [0, -5, 46, "5", None, NAN],
    "augmentation.illumination": [0, 0.51, "0.1", None, NAN],
    "augmentation.crop": [0, 0.51, -0.1, None, NAN],
    "search.trials": [1, 0, 40.0, None],
    "search.normals": [11, None, 96.0],
    "search.image_sizes": [[], 224, None, [31], [224, 224], [224.0], ["224"]],
    "search.layers": [[], None, ["layer2"], [[]], [["layer2"], ["layer2"]], [["a", "a"]]],
    "search.patch_sizes": [[], 3, None, [2], [17], [3, 3], [3.0]],
    "search.ratio": [[], 0.1, None, [0.1], [0.1, 0.1], [0.1, 0.01], [0, 0.1], [0.1, 2], ["a", "b"]],
    "search.num_neighbors": [[], 5, None, [5], [5, 5], [9, 1], [0, 5], [1.0, 5], [1, 2, 3]],
}


def with_value(key: str, value: object) -> dict:
    params = copy.deepcopy(PARAMS)
    *sections, name = key.split(".")
    place = params
    for section in sections:
        place = place[section]
    place[name] = value
    return params


def cases(table: dict[str, list]) -> list:
    return [
        pytest.param(key, value, id=f"{key}={value!r}")
        for key, values in table.items()
        for value in values
    ]


def test_every_setting_has_examples():
    assert set(VALID) == set(INVALID) == set(SETTINGS) == set(flatten(PARAMS))


@pytest.mark.parametrize(("key", "value"), cases(VALID))
def test_a_valid_value(key: str, value: object):
    params = with_value(key, value)
    if key == "image.size":
        params["image"]["resize"] = None
    validate(params)


@pytest.mark.parametrize(("key", "value"), cases(INVALID))
def test_an_invalid_value_names_key_value_and_what_is_allowed(
    key: str, value: object, one_line: Callable
):
    with pytest.raises(ValueError) as caught:
        validate(with_value(key, value))
    one_line(caught, f"{key}={value!r}", "must be", SETTINGS[key].allowed)


@pytest.mark.parametrize("key", list(SETTINGS))
def test_a_missing_key_is_named(key: str, one_line: Callable):
    params = copy.deepcopy(PARAMS)
    *sections, name = key.split(".")
    place = params
    for section in sections:
        place = place[section]
    del place[name]
    with pytest.raises(ValueError) as caught:
        validate(params)
    one_line(caught, key, "missing", SETTINGS[key].allowed)


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
        validate(with_value(key, 7))
    one_line(caught, f"{key}=7", "unknown", known)


def test_an_unknown_section_is_named(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | {"corset": {"ratio": 0.1}})
    one_line(caught, "corset.ratio=0.1", "unknown", "coreset.ratio")


@pytest.mark.parametrize("value", [5, None, "max", [1]])
def test_a_value_where_a_section_belongs(value: object, one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | {"cv": value})
    one_line(caught, f"cv={value!r}", "section", "folds", "threshold")


def test_a_section_where_a_value_belongs(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(with_value("cv.folds", {"number": 5}))
    one_line(caught, "cv.folds.number=5", "unknown")


def test_an_empty_section_misses_its_keys(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | {"cv": {}})
    one_line(caught, "cv.folds", "missing")


def test_a_crop_larger_than_the_picture(one_line: Callable):
    with pytest.raises(ValueError) as caught:
        validate(PARAMS | {"image": {"size": 224, "resize": 223}})
    one_line(caught, "image.resize=223", "image.size=224", "null or at least 224")
    validate(PARAMS | {"image": {"size": 224, "resize": 224}})


def test_a_reweighting_that_would_make_every_score_zero(one_line: Callable):
    params = with_value("score.reweight", True)
    params["score"]["num_neighbors"] = 1
    with pytest.raises(ValueError) as caught:
        validate(params)
    one_line(caught, "score.reweight=True", "score.num_neighbors=1", "at least 2")


def test_settings_may_be_others():
    settings = {"a.b": Setting("an even number", lambda value: value % 2 == 0)}
    validate({"a": {"b": 2}}, settings)
    with pytest.raises(ValueError, match=r"a\.b=3 is not allowed; it must be an even number"):
        validate({"a": {"b": 3}}, settings)


def test_flatten_by_hand():
    nested = {"a": 1, "b": {"c": [2], "d": {"e": None}}, "f": {}}
    assert flatten(nested) == {"a": 1, "b.c": [2], "b.d.e": None}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("max", ("max", None)), ("quantile:0.99", ("quantile", 0.99)), ("mean_sd:3", ("mean_sd", 3))],
)
def test_threshold_rules_are_parsed(rule: str, expected: tuple):
    assert parse_threshold_rule(rule) == expected


def test_the_repositorys_own_parameters_are_valid():
    path = Path(__file__).parents[1] / "params.yaml"
    validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_a_test_set_without_normal_images():
    with pytest.raises(ValueError, match=r"gap\.n_anomalous=100 of gap\.n_images=100"):
        validate(with_value("gap.n_anomalous", 100))

"""Checks of the answers to docs/exercises.md; a task without an answer is skipped."""

import json
import math

import answers
import numpy as np
import pytest

from ad.coreset import k_center_greedy
from ad.params import BackboneSettings, Image, Patch
from studies.gap.compare import Record, causes, compare_records, page
from studies.gap.records import FORMAT

TEAM = ("wide_resnet101_2", "resnet50", "efficientnet_b1", "densenet121")


def answer(name: str, *arguments: object) -> object:
    """Call an answer, or skip the task."""
    try:
        return getattr(answers, name)(*arguments)
    except NotImplementedError:
        pytest.skip(f"{name} is not written yet")


def test_1_the_forged_table_prints_044():
    table = answer("forged_table")
    assert all(isinstance(n, int) and n >= 0 for n in table.values())
    assert table["true_positive"] + table["false_negative"] == 40, "40 images are anomalous"
    assert table["false_positive"] + table["true_negative"] == 60, "60 images are normal"
    alarms = table["true_positive"] + table["false_positive"]
    printed = f"{2 * table['true_positive'] / (alarms + 40):.2f}"
    assert printed == "0.44", "F1 = 2 TP / (2 TP + FP + FN), as the table gives it"


def test_2_the_comparison_names_the_order():
    rng = np.random.default_rng(2)
    scores = {f"{n:02d}": float(score) for n, score in enumerate(rng.normal(10, 3, 40))}
    submission = [[name, int(score > 11)] for name, score in scores.items()]
    record = {"format": FORMAT, "threshold": 11.0, "scores": scores, "submission": submission}
    broken = answer("broken_order", record, rng)
    runs = [Record.model_validate_json(json.dumps(own)) for own in (record, broken)]
    assert sorted(broken["scores"]) == sorted(scores), "no image may be lost"
    assert sorted(broken["scores"].values()) == sorted(scores.values()), "nor any score changed"
    flags = [sum(flag for _, flag in each["submission"]) for each in (record, broken)]
    assert flags[0] == flags[1], "another order flags as many images"
    found = compare_records(*runs)
    assert causes(found), "the comparison sees no difference"
    told = [stage for stage, (_, words) in found.items() if "joined by position" in words]
    assert told or found["joined"][0] == "differs", page(*runs)


@pytest.mark.parametrize("seed", range(5))
def test_3_the_image_without_which_the_threshold_falls_most(seed: int):
    rng = np.random.default_rng(seed)
    folds = [
        {f"{fold}_{n}": float(score) for n, score in enumerate(rng.gamma(2, 1, 12))}
        for fold in range(5)
    ]
    found = answer("image_that_sets_the_threshold", folds)

    def without(name: str) -> float:
        return np.mean([max(s for i, s in fold.items() if i != name) for fold in folds])

    assert found == min((name for fold in folds for name in fold), key=without)


def test_4_the_conformal_rule_breaks_its_promise():
    calibration, new = map(
        np.asarray, answer("normals_that_fool_conformal", np.random.default_rng(4))
    )
    assert len(calibration) == len(new) == 200
    rank = math.ceil((len(calibration) + 1) * (1 - 0.05))
    share = np.mean(new > np.sort(calibration)[rank - 1])
    assert share > 0.2, f"it flags {share:.1%} of the new normals, not more than 20 %"


@pytest.mark.parametrize("seed", range(5))
def test_5_the_rule_is_robust_and_high(seed: int):
    scores = np.random.default_rng(seed).normal(100, 5, 40)
    plain = answer("threshold_rule", scores)
    fresh = np.random.default_rng(100 + seed).normal(100, 5, 2000)
    assert plain < 150, f"{plain:.0f} lies far above every normal"
    assert np.mean(fresh > plain) < 0.1, "it flags more than a tenth of new normals"
    strange = answer("threshold_rule", np.append(scores, 500.0))
    assert abs(strange - plain) < 15, (
        f"one strange image moves it from {plain:.0f} to {strange:.0f}"
    )


def test_6_the_backbone_loads_and_has_a_fine_grid():
    chosen = answer("new_backbone")
    assert chosen["name"] not in TEAM, "the team's report has this one"
    from ad.backbone import load_backbone
    from ad.extraction import make_extractor

    network = load_backbone(BackboneSettings(weights="random", **chosen))
    picture = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    extractor = make_extractor(network, Image(), Patch(), [picture], arithmetic="float32")
    assert min(extractor.shape[:2]) > 14, f"its grid is {extractor.shape[:2]}"


def radius(points: np.ndarray, rows: np.ndarray) -> float:
    """Return the distance of the farthest point to its nearest chosen one."""
    return np.linalg.norm(points[:, None] - points[rows], axis=2).min(axis=1).max()


@pytest.mark.parametrize("seed", range(3))
def test_7_greedy_is_beaten(seed: int):
    points = np.random.default_rng(seed).uniform(size=(400, 2)).astype(np.float32)
    rows = np.asarray(answer("better_coreset", points, 12))
    assert len(set(rows.tolist())) == 12
    greedy = k_center_greedy(points, 12, seed=0, progress=False)
    ours, theirs = radius(points, rows), radius(points, greedy)
    assert ours < theirs, f"its radius {ours:.3f} is not below greedy's {theirs:.3f}"

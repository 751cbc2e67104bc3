"""The reference: other methods against plain ones, unseen parts, differences by hand, the page."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import LedoitWolf

from ad.params import BackboneSettings
from studies.backbones import compare, detectors
from studies.common import ROOT, stretches

FOLDER = ROOT / "studies" / "backbones"
RANDOM = np.random.default_rng(0)


def drawn(n: int) -> np.ndarray:
    return RANDOM.integers(-20, 20, (n, 3, 2, 4)).astype(np.int8)


def test_pooled_neighbors_are_the_nearest_mean_features():
    normals, queries = drawn(12), drawn(5)
    means = [each.reshape(len(each), -1, 4).mean(axis=1) for each in (normals, queries)]
    for query, score in zip(means[1], detectors.pooled_neighbors(normals, queries), strict=True):
        distances = sorted(np.linalg.norm(query - normal) for normal in means[0])
        assert score == pytest.approx(np.mean(distances[:5]))


def test_a_gaussian_a_position_is_the_worst_position():
    normals, queries = drawn(12), drawn(5)
    squares = [
        LedoitWolf().fit(normals[:, row, column]).mahalanobis(queries[:, row, column])
        for row, column in np.ndindex(3, 2)
    ]
    found = detectors.gaussian_a_position(normals, queries)
    assert found == pytest.approx(np.sqrt(np.max(squares, axis=0)))


def test_another_method_goes_through_the_same_protocol():
    """A method that scores by the first value alone: threshold and flags by hand."""
    normals, queries = np.arange(10).reshape(10, 1, 1, 1), np.array([3, 9]).reshape(2, 1, 1, 1)
    found = detectors.cross_validate(lambda _, each: each[:, 0, 0, 0], normals, queries, seed=0)
    threshold = np.mean([held.max() for _, held in found.folds])
    assert sorted(np.concatenate([held for _, held in found.folds])) == list(range(10))
    assert found.threshold == threshold
    assert list(found.scores) == [3, 9]
    assert list(found.flags) == [threshold < 3, threshold < 9]


def test_a_cell_is_scored_by_the_normals_of_other_parts():
    """Normals of part 0 are all 10, of part 1 all 50: a query is judged by the other part's."""
    values = np.repeat([10, 50], 10).astype(np.uint8)
    normals = np.tile(values[:, None, None, None], (1, 8, 8, 2))
    queries = normals[[0, 0, 10, 10]]
    parts = np.repeat([0, 1], 10), np.array([0, 1, 0, 1])
    found = detectors.run_apart(parts, normals, queries, seed=0)
    assert list(found.scores) == [2 * 40**2, 0, 0, 2 * 40**2]
    assert list(found.flags) == [True, False, False, True]


def test_stretches_are_runs_of_file_numbers():
    paths = [Path(f"cell{number:04d}.png") for number in (901, 1043, 1044, 1614)]
    assert list(stretches(paths)) == [0, 0, 1, 4]


def test_figures_and_differences_of_a_table_worked_by_hand():
    """Scores that rank every pair wrongly, and scores that rank every pair rightly."""
    labels = np.array([0, 0, 1, 1])
    worst, best = np.array([3.0, 4.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0])
    rows = [
        compare.score_rows(name, seed, labels, scores, scores > threshold)
        for name, scores, threshold in (("worst", worst, 2.5), ("best", best, 1.5))
        for seed in (0, 1)
    ]
    table = pd.concat(rows)
    found = compare.figures(table, seed=0).set_index(["setting", "statistic"])
    assert list(found.loc["worst"]["value"]) == [0, 0, 0]
    assert found.loc[("best", "image AUROC"), "value"] == 1
    assert found.loc[("best", "F1"), "value"] == pytest.approx(0.8)  # TP 2, FP 1
    assert found.loc[("best", "accuracy"), "value"] == 0.75
    change = compare.differences(table, "worst", ["best"], seed=0).iloc[0]
    assert list(change[["value", "low", "high"]]) == [1, 1, 1]


def test_a_network_without_its_file_has_costs_alone():
    settings = BackboneSettings(name="resnet18", weights="weights/absent.pth", layers=["layer1"])
    assert not compare.has_weights(settings)
    assert compare.has_weights(BackboneSettings())
    assert not compare.has_weights(BackboneSettings(weights="random"))


@pytest.fixture(scope="module")
def committed() -> str:
    cells = nbformat.read(FOLDER / "13_backbones.ipynb", as_version=4).cells
    return "\n".join(c.source for c in cells if "committed" in c.metadata.get("tags", []))


def test_the_pages_figures_are_those_of_the_committed_run(committed):
    found = pd.read_csv(ROOT / "metrics" / "backbones.csv")
    costs = pd.read_csv(ROOT / "metrics" / "backbones_cost.csv")
    known = {f"{abs(v):.3f}" for v in found[["value", "low", "high"]].to_numpy().ravel()}
    known |= {f"{v / costs['seconds'][0]:.1f}" for v in costs["seconds"]}
    accuracy = found[found["statistic"] == "accuracy"][["value", "low", "high"]].to_numpy()
    known |= {f"{100 * v:.1f}" for v in accuracy[0]}
    assert not set(re.findall(r"\d+\.\d+", committed)) - known - {"88.4", "82.4"}

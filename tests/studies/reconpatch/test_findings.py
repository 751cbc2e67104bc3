"""Sentences follow their numbers: the same data with another answer says another thing."""

import numpy as np
import pytest

from studies.reconpatch.findings import compare, fewest_findings, helps
from studies.shared.uncertainty import auroc_difference

LABELS = np.repeat([0, 1], 30)


def runs(shift: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (3, 60)) + shift * LABELS


def test_comparisons_are_paired_and_hold_together():
    pairs = {("pooling", 8): (runs(0.5), runs(2.0, 1)), ("PCA", 8): (runs(1.0), runs(1.0))}
    better, same = compare(LABELS, pairs, seed=0)
    expected = auroc_difference(LABELS, *pairs["pooling", 8], seed=0, level=0.975, repeats=20_000)
    assert (better["difference"], better["low"], better["high"]) == expected
    assert better["low"] > 0
    assert same["low"] < same["difference"] == 0 < same["high"]
    assert compare(None, pairs, seed=0) == []


def row(low: float, high: float, beside: str = "PCA") -> dict[str, object]:
    return {
        "beside": beside,
        "dimensions": 8,
        "low": low,
        "high": high,
        "difference": (low + high) / 2,
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(0.1, 0.3)], "The map is better than PCA in 8 (+0.2000, +0.1000 to +0.3000)"),
        ([row(-0.3, -0.1)], "The map is worse than PCA in 8"),
        ([row(-0.1, 0.3)], "In none of 1 comparisons can the map be told"),
        ([row(0.1, 0.3), row(-0.3, -0.1, "pooling")], "and worse than pooling in 8"),
        ([row(0.1, 0.3), row(-0.3, 0.1)], "in 1 of 2 comparisons it cannot be told"),
        ([], "Without labels"),
    ],
)
def test_the_verdict_changes_with_the_intervals(rows, words):
    assert words in helps(rows, "the map")


def test_the_fewest_dimensions_are_said_with_margin_and_confidence():
    losses = {("pooling", 8): (0.0, 0.01), ("pooling", 4): (0.1, 0.2), ("PCA", 8): (0.0, 0.01)}
    losses["PCA", 4] = (0.001, 0.015)
    claim = {"margin": 0.02, "confidence": 0.95}
    said = fewest_findings(losses, "test images", **claim)
    assert "**4 dimensions** will do, by PCA" in said
    assert "less than 0.02 of AUROC with 95% confidence" in said
    assert "pooling: 8; PCA: 4" in said
    for bound in (0.01, 0.0):  # not even the features turned, or these alone
        losses["pooling", 8] = losses["PCA", 8] = (0.0, bound)
        none = fewest_findings(losses, "test images", margin=0.005, confidence=0.95)
        assert "no fewer than 8 dimensions can be shown to do" in none
        assert "excluded in fewer is 0.015" in none
    alone = {key: loss for key, loss in losses.items() if key[1] == 8}
    assert "none were tried" in fewest_findings(alone, "test images", **claim)

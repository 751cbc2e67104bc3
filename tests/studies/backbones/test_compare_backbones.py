"""Which backbone, at which cost: the words follow from the figures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from studies.backbones import compare as study

LABELS = np.repeat([0, 1], [60, 40])


def result(name: str, shift: float | None, cpu: float, *, noise_seed: int = 1) -> dict:
    """Make a network's result: normal scores, the anomalous ones ``shift`` higher."""
    own: dict = {}
    if shift is not None:
        common = np.random.default_rng(0).normal(size=100)
        scores = common + 0.3 * np.random.default_rng(noise_seed).normal(size=100)
        scores += shift * LABELS
        auroc = roc_auc_score(LABELS, scores)
        own = {
            **{"image_auroc": auroc, "auroc_low": auroc - 0.05, "auroc_high": auroc + 0.05},
            **{"f1": 0.8, "f1_low": 0.7, "f1_high": 0.9, "scores": scores.tolist()},
        }
    return {
        "name": name,
        "weights": "random" if shift is None else f"weights/{name}.pth",
        "sha256": None if shift is None else "ab" * 32,
        "missing": "" if own else "no file",
        "layers": [{"name": "layer2", "channels": 128, "reduction": 8}],
        "n_weights": 5_000_000,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "n_images": 313,
        "threads": 2,
        "seconds_per_image": cpu / 2,
        "cpu_seconds_per_image": cpu,
        "banks_cpu_seconds": 12.0,
        "grid": [28, 28],
        "feature_dim": 152,
        "feature_bytes_per_image": 476_672,
        "feature_bytes": 149_198_336,
        "peak_bytes": int(1e9 * (1 + cpu)),
        "quality": own,
    }


def said(*results: dict, pipeline: str = "mine") -> str:
    comparisons = study.compare(results, LABELS, pipeline, seed=0)
    return study.findings(results, comparisons, pipeline, synthetic=False)


def test_differences_are_those_of_the_aurocs_and_the_intervals_hold_together():
    results = [result("mine", 1.0, 0.02), result("a", 1.1, 0.03, noise_seed=2)]
    (alone,) = study.compare(results, LABELS, "mine", seed=0)
    expected = results[1]["quality"]["image_auroc"] - results[0]["quality"]["image_auroc"]
    assert alone.difference == pytest.approx(expected)
    more = study.compare([*results, result("b", 1.0, 0.1, noise_seed=3)], LABELS, "mine", seed=0)
    assert more[0].high - more[0].low > alone.high - alone.low  # of two comparisons: wider


def test_the_reference_is_the_pipelines_network_or_the_first_with_weights():
    results = [result("x", None, 1.0), result("a", 1.0, 0.1), result("mine", 1.0, 0.1)]
    assert study.reference(results, "mine")["name"] == "mine"
    assert study.reference(results, "x")["name"] == "a"


def test_a_better_network_pays_and_its_cost_is_named():
    text = said(result("mine", 0.3, 0.02), result("a", 2.0, 0.05))
    assert "better: `a` by +0." in text and "at 2.5 times its processor time" in text
    assert "So a change pays: `a`" in text


def test_a_worse_network_is_said_to_be_worse():
    text = said(result("mine", 2.0, 0.02), result("a", 0.3, 0.05))
    assert "worse: `a` by -0." in text
    assert "nothing here speaks for a dearer network than `mine`" in text


def test_a_network_that_is_not_told_apart_is_named_where_it_is_cheaper():
    text = said(result("mine", 1.0, 0.02), result("a", 1.0, 0.01, noise_seed=2))
    assert "not told apart from it: `a`" in text
    assert "`a`, which the test images do not tell from `mine`, is cheaper" in text
    assert "not the same as equal" in text


def test_networks_without_weights_stand_in_the_costs_alone():
    results = [result("mine", 1.0, 0.02), result("x", None, 1.0)]
    comparisons = study.compare(results, LABELS, "mine", seed=0)
    assert comparisons == []
    assert "`x`" not in study.quality_table(results, comparisons)
    assert "| x |" in study.cost_table(results)
    text = study.findings(results, comparisons, "mine", synthetic=True)
    assert "Cost alone is known of `x`" in text and "nothing to compare" in text
    assert "synthetic" in text and "50.0 times as much" in text
    assert "1.02 GB (`mine`) to 2.00 GB (`x`)" in text


def test_without_any_quality_there_is_the_cost():
    results = [result("x", None, 1.0), result("y", None, 0.5)]
    assert study.compare(results, LABELS, "mine", seed=0) == []
    assert "there is no quality" in study.quality_table(results, [])
    assert "No quality is known here" in said(*results)


def test_figures_and_files_hold_every_network():
    results = [result("mine", 1.0, 0.02), result("a", 1.2, 0.1), result("x", None, 1.0)]
    comparisons = study.compare(results, LABELS, "mine", seed=0)
    header, rows = study.csv_table(results)
    assert all(len(row) == len(header) for row in rows) and len(rows) == 3
    assert rows[2][header.index("image_auroc")] is None
    figures = study.summary(results, comparisons)
    assert figures["a"]["difference"] == comparisons[0].difference
    assert "image_auroc" not in figures["x"] and not figures["x"]["trained"]
    fig, axes = plt.subplots(1, 4)
    study.draw_quality(axes[0], results)
    study.draw_cost(axes[1:], results)
    assert {text.get_text() for text in axes[0].texts} == {"mine", "a"}
    assert [bar.get_width() for bar in axes[1].patches] == [0.02, 0.1, 1.0]
    plt.close(fig)
    assert "weights/a.pth, abababababababab" in study.layers_table(results)

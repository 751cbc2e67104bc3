"""The restated alternatives are what they claim to be, and the table says what was measured."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import parts, run
from benchmarks.peers import faiss_flat, textbook_coreset


def test_the_restated_loop_takes_the_farthest_point_each_time():
    points = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    picks = textbook_coreset(points, 40, seed=1, n_starts=3)
    starts = np.random.default_rng(1).choice(300, 3, replace=False)
    wide = points.astype(float)
    nearest = np.mean([np.linalg.norm(wide - wide[s], axis=1) for s in starts], axis=0)
    for pick in picks:
        assert nearest[pick] >= nearest.max() * (1 - 1e-5)
        nearest = np.minimum(nearest, np.linalg.norm(wide - wide[pick], axis=1))


def test_faiss_flat_gives_squared_distances():
    points = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    squared, columns = faiss_flat(points[:5], points, 2, 1)
    expected = np.sort(((points[:5, None] - points) ** 2).sum(axis=2), axis=1)[:, :2]
    np.testing.assert_allclose(squared, expected, rtol=1e-4, atol=1e-5)
    assert (columns[:, 0] == np.arange(5)).all()


def test_pruning_counts_the_pairs_that_the_triangle_inequality_leaves():
    points = np.random.default_rng(2).standard_normal((600, 3)).astype(np.float32)
    picks = np.random.default_rng(3).permutation(600)[:300]
    found = parts.pruning(points, picks, 100)
    wide, needed = points.astype(float), 0
    for x in wide:
        distances = np.linalg.norm(wide[picks[:100]] - x, axis=1)
        owner = wide[picks[distances.argmin()]]
        between = np.linalg.norm(wide[picks[100:300]] - owner, axis=1)
        needed += int((between < 2 * distances.min()).sum())
    assert found["points_needed"] == pytest.approx(needed / (200 * 600), abs=1e-3)
    assert found["points_needed"] <= found["blocks_needed"] <= 1


def test_most_pairs_of_a_selection_need_no_measuring():
    points = np.random.default_rng(4).standard_normal((20_000, 6)).astype(np.float32)
    assert 0 < parts.measured_share(points, 1000, 1) < 0.8
    assert parts.measured_share(points[:500], 1, 1) <= 1


def results() -> dict:
    return {
        "environment": {"threads": 2, "cpu": "a CPU"},
        "coreset": {
            "n_select": 10,
            "shape": [100, 8],
            "textbook": 6.0,
            "product": 0.05,
            "ours": 0.1,
        },
        "anomalib": None,
        "anomalib_shape": {"n_select": 10, "shape": [100, 8], "ours": 0.2, "product": 0.1},
        "scoring": [
            {"queries": 9, "bank": 10, "dim": 8, "ours": 2.0, "faiss_flat": 3.0, "product": 1.0}
        ],
        "whole": {
            "ours": {"whole": 50.0, "peak_gb": 1.0},
            "public": {"whole": 200.0, "peak_gb": 2.0},
        },
        "million": {"picks": 10_000, "selection": 20.0, "peak_gb": 1.5},
    }


def test_the_table_holds_ratios_good_and_bad_and_leaves_out_what_was_not_measured():
    text = run.table(results())
    assert "| 6.00 s | 0.10 s | 60 |" in text
    assert "| 0.05 s | 0.10 s | 0.5 |" in text
    assert "| 200.00 s | 50.00 s | 4.0 |" in text
    assert "anomalib 2" not in text


def test_the_readme_s_table_is_replaced_between_its_marks(tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    monkeypatch.setattr(run, "README", readme)
    readme.write_text("a\n<!-- benchmarks -->\n\n<!-- end of benchmarks -->\nb\n", encoding="utf-8")
    for text in ("one", "two"):
        run.into_readme(text)
        expected = f"a\n<!-- benchmarks -->\n{text}\n<!-- end of benchmarks -->\nb\n"
        assert readme.read_text(encoding="utf-8") == expected
    readme.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="lacks the marks"):
        run.into_readme("three")
    assert Path(readme).read_text(encoding="utf-8") == "no marks"

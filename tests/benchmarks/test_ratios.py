"""The tables and the words say what was measured, good and bad."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from ad.files import read_json
from benchmarks import compare

RECORDED = Path(__file__).resolve().parents[2] / "benchmarks" / "results.json"


def growth(over: str) -> list[dict]:
    """Make times that grow with the first, second and first power."""
    return [
        {"images": 10 * n, over: n, "peak_gb": n, "extraction": n, "coreset": n**2, "scores": 3 * n}
        for n in (1, 2, 4)
    ]


def results(**public: float) -> dict:
    return {
        "environment": {"threads": 2, "cpu": "a CPU"},
        "coreset": {
            "n_select": 10,
            "shape": [100, 8],
            "textbook": 6.0,
            "product": 0.05,
            "ours": 0.1,
            "measured": 0.4,
            "pruning": [{"picks": 5, "points_needed": 0.1, "blocks_needed": 0.9}],
        },
        "anomalib": None,
        "anomalib_shape": {"n_select": 10, "shape": [100, 8], "ours": 0.2, "product": 0.1},
        "scoring": [
            {"queries": 9, "bank": 10, "dim": 8, "ours": 2.0, "faiss_flat": 3.0, "product": 1.0}
        ],
        "whole": {
            "ours": {"whole": 50.0, "peak_gb": 1.0},
            "public": {
                "whole": 200.0,
                "peak_gb": 2.0,
                "extraction": 150.0,
                "coreset": 40.0,
                "scores": 10.0,
            }
            | public,
        },
        "million": {"picks": 10_000, "selection": 20.0, "peak_gb": 1.5},
        "growth": {over: growth(over) for over in ("images", "ratio")},
    }


def test_the_table_holds_ratios_good_and_bad_and_leaves_out_what_was_not_measured():
    text = compare.readme_table(results())
    assert "| 6.00 s | 0.10 s | 60 |" in text
    assert "| 50.0 ms | 0.10 s | 0.5 |" in text
    assert "| 200.00 s | 50.00 s | 4.0 |" in text
    assert "anomalib 2" not in text


def test_the_whole_ratio_stands_beside_the_one_without_repeated_extraction():
    found = results()
    _, once = compare.whole_pairs(found)
    assert (once.other, once.ratio) == (pytest.approx(80.0), pytest.approx(1.6))  # 150 / 5 + 50
    assert "| 80.00 s | 50.00 s | 1.6 |" in compare.readme_table(found)
    words = compare.whole_words(found)
    assert "mostly that (80% of the time saved)" in words and "it is 1.6" in words


def test_a_ratio_that_is_not_extraction_s_is_not_said_to_be_so():
    words = compare.whole_words(results(extraction=50.0, coreset=140.0))
    assert "partly that (27% of the time saved)" in words
    slower = compare.whole_words(results(whole=40.0, extraction=30.0, coreset=5.0, scores=5.0))
    assert "The whole ratio is 0.8, without that 0.3" in slower


def test_slower_parts_are_named_and_growth_is_the_power():
    found = results()
    assert compare.slope(found["growth"]["images"], "images", "coreset") == pytest.approx(2)
    text = compare.findings(found)
    assert "Slower than the alternative: coreset, 10 of 100 x 8, beside one bare matrix" in text
    assert "largest gain is 60 times" in text and "power of 2.0 and" in text
    assert "60% of the pairs" in text and "10% of the blocks" in text


def test_what_was_measured_on_is_said():
    found = results()
    assert "Measured before the present default network" in compare.setting_words(found)
    found["default"] = {"name": "a_network", "layers": ["b", "c"]}
    assert "Features of `a_network`, b, c: 8 dimensions" in compare.setting_words(found)


def test_the_recorded_run_can_be_read():
    recorded = read_json(RECORDED)
    assert compare.readme_table(recorded) and compare.findings(recorded)
    assert compare.whole_table(recorded).count("\n") == 3
    assert compare.pruning_table(recorded)
    fig, axes = plt.subplots(1, 4)
    compare.draw_ratios(axes[0], compare.pairs(recorded))
    compare.draw_growth(axes[1:], recorded["growth"])
    assert len(axes[0].patches) == len(compare.pairs(recorded))
    plt.close(fig)

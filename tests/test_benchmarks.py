"""Benchmarks: turns, tables and pages by hand-worked examples; the public loop by brute force."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import into_page, loop, quality, run
from benchmarks.peers import public_coreset

ROOT = Path(__file__).resolve().parents[1]


def test_tables_of_the_page_are_those_of_the_results():
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    for module in (loop, run, quality):
        results = pd.read_csv(ROOT / module.RESULTS, dtype={"commit": str})
        assert module.shown(results) in page, module.RESULTS


def test_a_text_goes_between_its_marks_alone(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end of x -->\nb\n", encoding="utf-8")
    into_page("x", "newer", page)
    assert page.read_text(encoding="utf-8") == "a\n<!-- x -->\nnewer\n<!-- end of x -->\nb\n"
    with pytest.raises(SystemExit, match="lacks <!-- y -->"):
        into_page("y", "new", page)


def test_functions_take_turns_and_the_least_time_counts(monkeypatch: pytest.MonkeyPatch):
    clock, calls = iter([0, 5, 5, 6, 6, 8, 8, 12]), []  # a 5, b 1, a 2, b 4
    monkeypatch.setattr(run.time, "process_time", lambda: next(clock))
    assert run.in_turns(lambda: calls.append("a"), lambda: calls.append("b"), repeats=2) == [2, 1]
    assert calls == ["a", "b", "a", "b"]


def test_new_rows_take_the_place_of_their_cases_rows():
    old = pd.DataFrame({"case": ["networks", "coreset", "team"], "its_seconds": [1, 2, 3]})
    new = pd.DataFrame({"case": ["coreset", "coreset"], "its_seconds": [4, 5]})
    assert run.merged(old, new)["its_seconds"].tolist() == [1, 4, 5, 3]


def test_an_edit_changes_one_value():
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    edited, old = loop.changed(text, "score", "num_neighbors", 17)
    before, after = map(yaml.safe_load, (text, edited))
    assert (old, after["score"].pop("num_neighbors")) == (before["score"].pop("num_neighbors"), 17)
    assert after == before


def test_the_public_loop_picks_the_farthest_each_time():
    points = np.random.default_rng(0).integers(-9, 9, (60, 3)).astype(np.float32)
    picks = public_coreset(points, 12, seed=0)
    between = np.linalg.norm(points[:, None] - points[None], axis=2)
    nearest = between[:, np.random.default_rng(0).choice(60, 10, replace=False)].mean(axis=1)
    for pick in picks:
        assert nearest[pick] == pytest.approx(nearest.max())
        nearest = np.minimum(nearest, between[pick])

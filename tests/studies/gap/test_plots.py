"""The gap studies' figures show the numbers that they are given."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from studies.gap import plots as gap_plots
from studies.gap.interventions import CHOICE, MISTAKE, NUMERICAL


@pytest.fixture
def ax():
    figure = Figure()
    return figure.subplots()


def ticks(ax) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_every_kind_of_factor_has_a_colour_of_its_own():
    colours = [gap_plots.KIND_COLOURS[kind] for kind in (CHOICE, MISTAKE, NUMERICAL)]
    assert len(set(colours)) == 3


def test_likelihoods_are_ordered_and_the_impossible_is_said(ax):
    gap_plots.likelihood_bars(ax, {"low": -30.0, "never": -np.inf, "best": -7.0})
    assert ticks(ax) == ["best", "low", "never"]
    assert sorted(bar.get_width() for bar in ax.patches) == [-23.0, 0.0]
    words = [text.get_text().strip() for text in ax.texts]
    assert words == ["likeliest", "-23.0", "impossible"]


def test_weights_are_ordered_and_small_ones_become_arrows(ax):
    rows = [("a", CHOICE, -3.0), ("b", MISTAKE, 0.5), ("c", NUMERICAL, -np.inf)]
    gap_plots.factor_weights(ax, rows, decisive=2.0, floor=-12.0)
    assert ticks(ax) == ["b", "a", "c"]
    drawn = [(line.get_xdata()[0], line.get_marker()) for line in ax.lines[:3]]
    assert drawn == [(0.5, "o"), (-3.0, "o"), (-12.0, "<")]


@pytest.mark.parametrize("labelled", [True, False])
def test_factors_are_ranked_by_what_is_known(ax, labelled):
    rows = [
        {"factor": name, "kind": kind, "f1": f1, "f1_low": f1, "f1_high": f1, "flags_changed": n}
        for name, kind, f1, n in (("a", CHOICE, 0.9, 1), ("b", MISTAKE, 0.3, 9))
    ]
    gap_plots.ranked_factors(ax, rows, {"x public": 0.44}, control=0.95 if labelled else None)
    assert ticks(ax) == ["b", "a"]
    assert ("F1" if labelled else "flag changes") in ax.get_xlabel()
    assert any("0.44" in str(line.get_label()) for line in ax.lines) == labelled


def test_the_grid_names_each_variant_s_best_cause(ax):
    rows = [{"variant": "base", "one": -5.0, "two": -8.0, "three": -np.inf}]
    gap_plots.variant_grid(ax, rows)
    assert [text.get_text() for text in ax.texts] == ["best", "-3.0", "no"]

"""The study's figures show the numbers that they are given."""

import pytest
from matplotlib.figure import Figure

from studies.gap import plots
from studies.gap.effects import Effect
from studies.gap.factors import GROUPS
from studies.gap.interventions import CHOICE, MISTAKE, NUMERICAL, RUN, Row
from studies.gap.row_orders import OrderEffect


@pytest.fixture
def ax():
    return Figure(figsize=(11, 6), layout="constrained").subplots()


def ticks(ax) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_every_kind_of_factor_has_a_colour_of_its_own():
    assert len({plots.KIND_COLOURS[kind] for kind in (CHOICE, MISTAKE, NUMERICAL)}) == 3


@pytest.mark.parametrize("labelled", [True, False])
def test_a_row_a_group_and_nothing_is_clipped(ax, labelled):
    rows = [Row("control", "control", RUN, f1=0.95 if labelled else None, flags_changed=0)]
    for group in GROUPS:
        for number in range(12):
            f1 = number / 11 if labelled else None
            name = f"a factor with quite a long name, number {number}"
            rows.append(Row(name, CHOICE, RUN, f1=f1, flags_changed=8 * number, group=group))
    plots.group_strip(ax, [Effect(row) for row in rows], {"x public": 0.44})
    assert ticks(ax) == list(GROUPS)
    assert ("F1" if labelled else "flag changes") in ax.get_xlabel()
    assert any("0.44" in str(line.get_label()) for line in ax.lines) == labelled
    assert len(ax.texts) == plots.NAMED * len(GROUPS)
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()[::-1]
    dots = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert all(low <= line.get_ydata()[0] <= high for line in dots)
    frame = ax.get_window_extent()
    for text in ax.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()


def test_row_orders_are_drawn_with_mean_and_intervals(ax):
    effects = [
        OrderEffect("one", "computed", 9, 90.0, 40.0, (0.4, 0.3, 0.5), (0.2, 0.6)),
        OrderEffect("two", "computed", 1, 0.0, 0.0, (0.9, 0.9, 0.9), (0.8, 1.0)),
    ]
    plots.order_intervals(ax, effects, {"by id": 0.9, "by chance": 0.41}, [0.44, 0.44, 0.35])
    assert ticks(ax) == ["one", "two"]
    labels = [str(line.get_label()) for line in ax.lines]
    assert "by id 0.900" in labels and labels.count("printed elsewhere") == 1
    means = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    assert [float(own[0]) for own in means if len(own)] == [0.4, 0.9]

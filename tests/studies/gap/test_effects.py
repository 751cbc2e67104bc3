"""Predictions from counted rates, the summary of factors, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest

from studies.gap import effects as ef
from studies.gap.effects_text import findings, folded, missed, names_table
from studies.gap.enumeration import Reading, parse_reported, reported_case, standard_reading
from studies.gap.interventions import (
    ARGUED,
    CHOICE,
    MISTAKE,
    NOT_RUN,
    NUMERICAL,
    REENACTED,
    RUN,
    Control,
    Outcome,
    Row,
)
from studies.gap.number_factors import SAME_BITS

MODELS = parse_reported("WRN101:0.35714:0.44,ResNet-50:0.3846:0.375")
READING = standard_reading(100, 40, other_private="0.98039")
LABELS = (np.arange(100) < 40).astype(int)


class Seeded:
    seed = 0


def control_of(labels):
    flags = np.arange(100) < 44
    outcome = Outcome(None, flags.astype(float), 0.5)
    return Control(Seeded(), np.empty((300, 1, 1, 1)), outcome, labels)


@pytest.fixture
def control():
    return control_of(LABELS)


def rows_of(control) -> list[Row]:
    """List the control, a factor that does nothing, one that guesses, one argued, one not run."""
    guessing = np.random.default_rng(0).permutation(control.outcome.flags)
    rows = [
        replace(control.row("control", control.outcome, kind="control"), group="control"),
        replace(control.row("harmless", control.outcome, kind=NUMERICAL), group="numbers"),
        replace(control.row("guessing", guessing, kind=MISTAKE, how=REENACTED), group="order"),
        Row("said", CHOICE, ARGUED, "because", group="weights"),
        Row("absent", CHOICE, NOT_RUN, "no hub", group="weights"),
    ]
    for group in ("decoding", "weights", "threshold"):
        rows.append(replace(control.row(group, control.outcome, kind=CHOICE, how=RUN), group=group))
    return rows


def test_predictions_do_not_collapse_at_none_or_all():
    for hits, alarms in (((40, 40), (0, 60)), ((0, 40), (0, 60)), ((40, 40), (60, 60))):
        for drawn in ef.predicted_f1(hits, alarms, READING, seed=0):
            low, high = np.quantile(drawn, ef.MIDDLE)
            assert high > low


def test_predictions_have_the_mean_worked_by_hand():
    """Rates known well: the public part's F1 is near 2 s P / (s P + f N + P)."""
    reading = Reading(100, 40, (50,), stratified=True)
    drawn = ef.predicted_f1((800_000, 1_000_000), (100_000, 1_000_000), reading, seed=1)
    for own in drawn:  # 20 anomalous and 30 normal images in each part: 32 / (16 + 3 + 20)
        assert own.mean() == pytest.approx(32 / 39, abs=0.01)
    nested = replace(reading, private="all")
    whole = ef.predicted_f1((8, 10), (1, 10), nested, seed=1)[1]
    assert whole.shape == (ef.DRAWS,)


def test_jeffreys_rates_spread_as_beta_does():
    reading = Reading(2000, 1000, (1000,), stratified=True)
    drawn = ef.predicted_f1((4, 4), (0, 1_000_000), reading, seed=0)[0]
    sensitivity = drawn / (2 - drawn)  # without alarms F1 = 2 s / (s + 1)
    assert np.quantile(sensitivity, 0.025) == pytest.approx(0.551, abs=0.02)  # Beta(4.5, 0.5)


def test_printed_values_lie_in_what_guessing_prints_and_not_in_the_control(control):
    found = {e.row.factor: e for e in ef.predict(control, rows_of(control), MODELS, READING)}
    assert found["control"].inside == ()
    assert len(found["guessing"].inside) == 4
    assert found["said"].public is None
    summary = ef.summary(list(found.values()), MODELS)
    assert summary["reach_all"] == {"guessing": MISTAKE}
    assert summary["reach_all_without_mistake"] == []
    assert (summary["argued"], summary["not_run"]) == (["said"], ["absent"])
    assert (summary["n_factors"], summary["largest_numerical_change"]) == (5, 0)


def test_other_printed_values_give_another_answer(control):
    perfect = parse_reported("a:0.95:0.95")
    effects = ef.predict(control, rows_of(control), perfect, READING)
    summary = ef.summary(effects, perfect)
    assert "harmless" in summary["reach_all"]
    assert "guessing" in summary["reach_none"]
    text = findings(effects, summary, perfect, READING)
    assert "None of what is no mistake" not in text
    effects = ef.predict(control, rows_of(control), MODELS, READING)
    text = findings(effects, ef.summary(effects, MODELS), MODELS, READING)
    assert "Mistakes: *guessing*" in text
    assert "None of what is no mistake" in text
    none = parse_reported("a:0.01:0.99")
    effects = ef.predict(control, rows_of(control), none, READING)
    assert "No factor would print all 2" in findings(
        effects, ef.summary(effects, none), none, READING
    )


def test_without_labels_nothing_is_compared():
    control = control_of(None)
    effects = ef.predict(control, rows_of(control), MODELS, READING)
    summary = ef.summary(effects, MODELS)
    assert summary["control_f1"] is None
    assert summary["reach_all"] == {}
    assert "Without labels" in findings(effects, summary, MODELS, READING)
    assert "F1" not in ef.group_rows(effects, MODELS)[0]
    ef.table(effects), ef.full_rows(effects, MODELS)


def test_tables_have_a_line_a_group_and_a_row_a_factor(control):
    effects = ef.predict(control, rows_of(control), MODELS, READING)
    groups = ef.group_rows(effects, MODELS)
    assert [line["group"] for line in groups] == list(ef.GROUPS)
    assert groups[0]["could print all 4 values"] == 1
    assert groups[3]["argued or not run"] == 2
    assert len(ef.full_rows(effects, MODELS)) == 6
    assert [row["hypothesis"] for row in ef.argued_rows(effects)] == ["said", "absent"]
    header, rows = ef.table(effects)
    assert {"public_low", "private_high", "inside"} <= set(header)
    assert all(len(row) == len(header) for row in rows)


def test_the_case_is_what_the_forensics_wrote():
    written = {
        "models": [model.__dict__ for model in MODELS],
        "reading": {"n_images": 100, "n_anomalous": 40, "other_private": "0.98039"},
    }
    assert reported_case(written) == (MODELS, READING)
    written["reading"]["other_private"] = "0.00001"  # no split prints it
    assert reported_case(written)[1] == standard_reading(100, 40)


def test_folds_and_names():
    page = folded("all", [{"a": 0.5, "b": None, "c": "<b onmouseover=alert(4)>"}])
    assert page.index("<table>") < page.index("0.500") < page.index("</details>")
    assert "<b" not in page.replace("<body", "")
    assert "a1_in1k" in names_table([])
    older = {"versions": {"timm": "0.9"}, "default_tags": {"resnet50": "other"}}
    assert "other" in names_table([older])


def test_how_many_images_would_have_to_be_missed_worked_by_hand():
    # 11 of 40 found and no false alarm: 22 / 51 = 0.431; 12: 24 / 52 = 0.46.
    assert "at least 29 of the 40" in missed(MODELS, READING)
    assert "at least 0 of the 40" in missed(parse_reported("a:1:0.5"), READING)


def whole_rows(control, *, moved: bool) -> list[Row]:
    """List the control, a machine in float32 and the same in whole numbers."""
    notes = {"an older machine": "7 of 100 scores have other bits"}
    notes |= {f"{ef.MARK}an older machine": "1 of 100 scores have other bits"}
    notes |= {} if moved else {f"{ef.MARK}an older machine": f"x; {SAME_BITS}"}
    first, *others = rows_of(control)
    machines = [
        replace(control.row(name, control.outcome, kind=NUMERICAL, note=note), group="numbers")
        for name, note in notes.items()
    ]
    return [first, *machines, *others]


@pytest.mark.parametrize("moved", [False, True])
def test_whole_numbers_are_counted_apart_and_said(control, moved):
    effects = ef.predict(control, whole_rows(control, moved=moved), MODELS, READING)
    found = ef.summary(effects, MODELS)
    assert found["n_numerical"] == 2  # harmless, and the machine in float32
    assert found["whole_numbers"] == {
        "changes": ["an older machine"],
        "same_bits": [] if moved else ["an older machine"],
        "float32_other_bits": ["an older machine"],
    }
    text = findings(effects, found, MODELS, READING)
    assert ("by construction" in text) is not moved
    assert f"{0 if moved else 1} of 1 changes of machine" in text

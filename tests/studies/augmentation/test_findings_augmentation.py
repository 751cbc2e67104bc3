"""What is said follows the numbers."""

import re
from dataclasses import replace

import numpy as np

from studies.augmentation import findings as study
from studies.augmentation.changes import CONTROL
from studies.augmentation.effects import Effect
from studies.augmentation.repeats import PLAIN, Departure, Repeats

TURN = Departure("flip_vertical", 100, 4, 100, 20, 1e-20, 1e-15)
SOFT = Departure("rotation", 100, 4, 30, 25, 1e-6, 0.2)
LIGHT = Departure("illumination", 100, 4, 80, 5, 1e-9, 1e-9)
QUIET = Departure("crop", 100, 4, 5, 4, 0.5, 0.5)
SHIFTED = Departure(CONTROL, 100, 4, 4, 4, 1.0, 1.0)


def test_verdicts_follow_tests_and_counts():
    text = study.departures_in_words([TURN, SOFT, LIGHT, QUIET, SHIFTED], CONTROL)
    turn, soft, light, quiet = text.split("\n\n")
    assert "turn a defect into a normal" in turn and "100.0% (95 % interval 97.5%" in turn
    partly = study.departures_in_words([replace(TURN, after=70), SHIFTED], CONTROL)
    assert "hide a part of it" in partly and "less likely to be told" in partly
    assert "so few copies do not hide it" in soft and "30.0% (95 % interval" in soft
    assert "and such copies hide it" in light and "defect into" not in light
    assert "crop (p 0.5)" in quiet and CONTROL not in text


def test_the_level_counts_both_tests_of_every_kind():
    departures = [Departure("turn", 50, 1, 30, 2, 0.0049, 0.0049)]
    assert study.departure_rows(departures)[0]["copies hide it"]
    assert not study.departure_rows([*departures, SHIFTED])[0]["leaves the normal set"]
    assert "No change leads out" in study.departures_in_words([QUIET, SHIFTED], CONTROL)


def test_the_control_says_what_interpolation_explains():
    assert "no more than chance" in study.control_in_words([TURN, SHIFTED], CONTROL)
    blurred = Departure(CONTROL, 100, 4, 60, 4, 1e-9, 1e-9)
    assert "is blur" in study.control_in_words([TURN, blurred], CONTROL)


EFFECTS = [
    Effect("a", PLAIN, 0.02, 0.01, 0.03),
    Effect("b", PLAIN, -0.02, -0.03, -0.01),
    Effect("c", PLAIN, 0.05, -0.01, 0.11),
    Effect("a", CONTROL, 0.01, -0.01, 0.03),
]


def test_only_what_its_interval_leaves_no_doubt_about_is_named():
    plain, control = study.effects_in_words(EFFECTS).split("\n\n")
    assert plain.endswith("Better: a; worse: b.") and "all 4 comparisons" in plain
    assert "c +0.050 (-0.010 to +0.110)" in plain
    assert control.endswith("Better: none; worse: none.")
    assert "nothing is known" in study.effects_in_words([])


def test_the_defect_that_falls_most_is_named():
    found = [
        Effect("a", PLAIN, -0.01, -0.03, 0.01, "bent"),
        Effect("b", PLAIN, -0.09, -0.15, -0.03, "cut"),
    ]
    text = study.defects_in_words(found)
    assert "falls most for `cut` with `b` (-0.090" in text and "for: `cut` with `b`." in text
    assert "For no defect" in study.defects_in_words([Effect("a", PLAIN, 0.0, -0.1, 0.1, "bent")])
    assert "nothing is known" in study.defects_in_words([])


def test_limits_name_the_plan():
    text = study.limits_in_words(Repeats(5, 3, 48), synthetic=True)
    assert re.findall(r"\d+", text) == ["5", "48"] and text.endswith("synthetic.")


def test_the_summary_has_every_kind():
    rows = [
        {
            "copies": kind,
            "false_alarms": 1,
            "unseen_normals": 4,
            "image_auroc": auroc,
            "f1": None,
        }
        for kind in (PLAIN, "a", "b", "c")
        for auroc in (0.5, 0.7)
    ]
    departures = [Departure(kind, 100, 4, 50, 10, 1e-9, 1e-9) for kind in "abc"]
    found = study.summary(rows, departures, EFFECTS)
    assert found["a"]["false_alarm_rate"] == 0.25 and found["a"]["f1"] is None
    assert np.isclose(found["a"]["image_auroc"], 0.6)
    assert found["b"]["copies_hide_it"] and "copies_hide_it" not in found[PLAIN]
    assert found["a"]["auroc_against_none"]["low"] == 0.01
    assert found["a"]["auroc_against_control"]["change"] == 0.01

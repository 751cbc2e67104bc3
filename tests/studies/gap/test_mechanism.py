"""The whole study's answer: it follows the three parts' figures."""

import copy
import json

import numpy as np
import pytest

from studies.gap import mechanism
from studies.gap.row_orders import computed_orders

LABELS, FLAGS = (np.arange(100) < 40).astype(int), np.arange(100) < 42
VALUES = {"a public": 0.4, "a private": 0.99}
WEIGHED = {
    "likeliest": "some cause",
    "fewest_flags_changed": {"a": 2, "b": 0},
    "informed_rival": "another",
    "log10_no_information_against_rival": 1.0,
    "one_order_rival": "no information",
    "log10_one_order_against_rival": 0.36,
    "information_decisively_below": 0.24,
    "information_below_with_95_percent": 0.13,
}
FORENSICS = {
    "printed": WEIGHED,
    "with_evidence": None,
    "flags_of_a_perfect_run": 40,
    "reading": {"n_images": 100, "n_anomalous": 40, "other_private": "0.98039"},
}
FACTORS = {
    "n_factors": 50,
    "n_numerical": 12,
    "largest_numerical_change": 5,
    "largest_numerical_f1_change": 0.03,
    "reach_all": {"rows by position: x": "mistake", "random weights": "mistake"},
}


@pytest.fixture(scope="module")
def effects():
    kinds = computed_orders(100, draws=100, seed=0)
    return mechanism.enact_all(kinds, FLAGS, LABELS, draws=200, seed=0)


@pytest.fixture(scope="module")
def found(effects):
    return mechanism.figures(effects, FLAGS, LABELS, VALUES)


def test_figures_are_those_of_the_orders(found):
    assert found["f1_by_id"] == pytest.approx(2 * 40 / 82)
    assert found["f1_raw_order_mean"] == pytest.approx(found["f1_by_chance"], abs=0.03)
    assert found["f1_random_order_low"] < found["f1_by_chance"] < found["f1_random_order_high"]
    assert found["printed_inside_parts"] == ["a public"]
    assert found["kinds_that_do_not"] == ["natural order, numbers padded"]
    json.dumps(found, allow_nan=False)


def test_the_answer_leads_with_what_is_certain_and_names_the_file(found):
    text = mechanism.answer(FORENSICS, FACTORS, found)
    order = ["Certain", "Likely", "A hypothesis", "Not to be known", "What would settle it"]
    places = [text.index(f"**{words}") for words in order]
    assert places == sorted(places)
    assert "a at least 2" in text and "b at least" not in text
    assert "*random weights*" in text and "*rows by position" not in text
    assert "10.0 times likelier" in text
    assert "1 of 2 printed values" in text
    assert "the submission behind the printed values" in text


def test_the_answer_follows_the_figures(found):
    other = copy.deepcopy(FORENSICS)
    other["printed"]["log10_no_information_against_rival"] = -3.0
    assert "carried information" in mechanism.answer(other, FACTORS, found)
    other["printed"]["log10_no_information_against_rival"] = 1.0
    other["printed"]["log10_one_order_against_rival"] = -0.5
    other["printed"]["information_decisively_below"] = None
    text = mechanism.answer(other, FACTORS, found)
    assert "less likely" in text
    assert "decisively excluded" not in text
    assert "another entrant's" not in text
    evident = {**FORENSICS, "with_evidence": WEIGHED}
    assert "by another entrant's 0.98039" in mechanism.answer(evident, FACTORS, found)
    none = {**FORENSICS, "printed": None}
    assert "come from no cause looked at" in mechanism.answer(none, FACTORS, found)


def test_without_labels_no_f1_is_said():
    kinds = computed_orders(100, draws=10, seed=0)
    effects = mechanism.enact_all(kinds, FLAGS, None, draws=10, seed=0)
    found = mechanism.figures(effects, FLAGS, None, VALUES)
    assert "f1_by_id" not in found
    factors = {**FACTORS, "largest_numerical_f1_change": None, "reach_all": {}}
    assert "Without labels" in mechanism.answer(FORENSICS, factors, found)
    assert "largest_numerical_f1_change" not in mechanism.metrics(FORENSICS, factors, found)


def test_metrics_carry_the_factors_against_the_likeliest_rivals(found):
    metrics = mechanism.metrics(FORENSICS, FACTORS, found)
    assert metrics["printed"]["log10_no_information_against_rival"] == 1.0
    assert metrics["printed"]["log10_one_order_against_rival"] == 0.36
    assert metrics["n_factors_that_could_print_all"] == 2
    assert "with_evidence" not in metrics
    assert metrics["f1_by_chance"] == found["f1_by_chance"]


def test_rows_say_how_the_orders_were_made(effects):
    rows = mechanism.effect_rows(effects)
    assert {row["how"] for row in rows} == {"computed"}
    assert rows[0]["rows out of place"] in ("98", "99", "100")

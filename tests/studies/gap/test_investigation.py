"""The answer: what printed values make it say, its tables, figures and notebook."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from brute_force import MODEL, SMALL

from studies.gap import forensics_plots
from studies.gap.enumeration import (
    Reading,
    Reported,
    explanations,
    flag_counts,
    matching_tables,
    parse_reported,
    splits,
    standard_reading,
)
from studies.gap.forensics import (
    IN_ORDER,
    NO_INFORMATION,
    SOME_INFORMATION,
    flag_window,
    log10_factor,
)
from studies.gap.forensics_rows import count_rows, factor_rows, information_rows, setting
from studies.gap.forensics_text import (
    evidence_sentence,
    findings,
    reordering_sentence,
)
from studies.gap.investigation import (
    ONE_ORDER,
    investigate,
    private_anomalous,
    standard_variants,
    summary,
)
from studies.gap.shared_order import (
    largest_overlap,
    shared_order_likelihood,
)

REPORTED = parse_reported("WRN101:0.35714:0.44,ResNet-50:0.3846:0.375")


def test_another_entrants_value_pins_the_split_worked_by_hand():
    reading = standard_reading(100, 40, other_private="0.98039")
    assert private_anomalous(reading) == [25, 26]
    assert sum(splits(reading)[1]) == pytest.approx(1)
    assert splits(replace(reading, private="all")) == ([], [])
    assert private_anomalous(replace(reading, private="all")) == []
    text = evidence_sentence(reading)
    assert "50/51: 25 true positives and 1 error." in text
    assert "25 or 26 of the 40" in text and "not all images" in text
    # 80/81: 40 hits, one error; so then it can be all images.
    assert "not all images" not in evidence_sentence(replace(reading, other_private="0.98765"))
    assert "several" in evidence_sentence(replace(reading, other_private="0.5"))


# The answer.


@pytest.fixture(scope="module")
def study():
    return investigate(REPORTED, 100, 40, other_private="0.98039", working=0.9, window=0.25)


def test_printed_values_that_say_nothing_of_the_images(study):
    text = findings(study)
    assert text.index("**Certain.**") < text.index("**Likely.**") < text.index("hypothesis")
    assert "WRN101's pair cannot come from exactly 40 flags under any split" in text
    assert "38 or 42" in text and "at least 2 flags changed" in text
    assert "little or no information" in text
    assert "assumption" in text and "submission" in text
    both = [summary(study)[key] for key in ("printed", "with_evidence")]
    for found in both:
        factor = found["log10_no_information_against_rival"]
        assert 0.9 < factor < 1.1  # about 10 times: the text must not say decisive of it
        assert found["informed_rival"] == SOME_INFORMATION
        assert found["log10_no_information_against_information"]["0.3"]["best_suited"] > 2
        assert found["log10_no_information_against_information"]["0.1"]["best_suited"] < 0.5
        assert 0 < found["log10_one_order_against_rival"] < 0.5
        assert found["one_order_rival"] == NO_INFORMATION
        assert found["log10_likelihood"][IN_ORDER] < -40
    assert both[0]["fewest_flags_changed"] == {"WRN101": 1, "ResNet-50": 0}
    assert both[1]["fewest_flags_changed"] == {"WRN101": 2, "ResNet-50": 4}
    impossible = [v.name for v in study.variants if v.factor is None]
    assert impossible == ["private part = all images"]
    json.dumps(summary(study), allow_nan=False)


def test_rows_and_figures(study):
    assert len(count_rows(study)) == 16
    assert factor_rows(study.main)[0]["against the likeliest"] == "likeliest"
    assert len(information_rows(study)) == 6
    assert "30 to 50" in setting(study)
    for draw in (
        lambda ax: forensics_plots.flag_count_strip(ax, study.counts, 40, 100),
        lambda ax: forensics_plots.information_curves(
            ax, {name: weighed.profile for name, weighed in study.all_weighed.items()}
        ),
        lambda ax: forensics_plots.cause_factors(ax, study.all_weighed),
        lambda ax: forensics_plots.variant_bounds(ax, study.variants),
    ):
        fig, ax = plt.subplots()
        draw(ax)
        assert ax.get_xlabel()
        assert ax.get_legend() is not None
        plt.close(fig)


@pytest.mark.parametrize(
    ("text", "evidence", "words"),
    [
        # All hits and one false alarm (10/11): a working detector in order.
        ("a:1.00000:0.90909", "", ["carried information", "worked out for two models"]),
        ("a:0.44444:0.40000,b:0.50000:0.33333", "", ["little or no information", "reorder"]),
        ("a:0.97531:0.97531", "", ["No cause looked at prints these values"]),
        ("a:0.5:0.4", "0.97531", ["No cause looked at", "0.97531"]),
    ],
)
def test_other_values_give_another_answer(text, evidence, words):
    models = parse_reported(text)
    found = investigate(models, 20, 8, other_private=evidence, working=0.9, window=0.25)
    answer = findings(found)
    for word in words:
        assert word in answer
    assert (ONE_ORDER in found.plain.likelihood) == (len(models) == 2)
    json.dumps(summary(found), allow_nan=False)
    count_rows(found), information_rows(found), factor_rows(found.main), setting(found)


def test_planted_order_is_found_by_the_number_of_flags():
    # Flags of a perfect run, rows reordered, print a pair that exactly n_anomalous flags can print.
    generator = np.random.default_rng(0)
    labels = np.array([1] * 8 + [0] * 12)
    for _ in range(20):
        flags, public = generator.permutation(labels), generator.permutation(20) < 9
        values = [
            2 * (labels & flags)[part].sum() / (labels[part].sum() + flags[part].sum())
            for part in (public, ~public)
        ]
        model = Reported("m", *(f"{value:.5f}" for value in values))
        counts = flag_counts(model, Reading(20, 8, (9,)))
        assert 8 in counts.counts
        assert "can come from exactly 8 flags" in reordering_sentence("m", [counts], 8)


def test_variants_follow_the_size_of_the_test_set():
    for n_images, n_anomalous in ((100, 40), (20, 3), (37, 30)):
        base = standard_reading(n_images, n_anomalous)
        if n_images == 100:
            assert base == Reading()
        variants = standard_variants(base, working=0.9, window=0.25)
        assert len(variants) == len(set(variants))
        for name, (reading, _, window) in variants.items():
            assert len(flag_window(reading, window)), name


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: explanations(Reported("m", "high", "0.4"), Reading()), ["high", "decimal"]),
        (lambda: Reading(private="half"), ["half", "rest"]),
        (lambda: Reading(public_sizes=(100,)), ["100", "99"]),
        (lambda: Reading(n_anomalous=0), ["n_anomalous=0"]),
        (lambda: matching_tables("0.44", 10, 4, digits=1, rounding="round"), ["0.44", "1"]),
        (lambda: matching_tables("0.44", 10, 4, rounding="up"), ["up", "truncate"]),
        (lambda: parse_reported("a:0.4"), ["a:0.4", "name:public:private"]),
        (
            lambda: shared_order_likelihood([MODEL], SMALL, overlap=largest_overlap, window=0.5),
            ["1 models", "2"],
        ),
        (lambda: log10_factor(0.0, 0.0), ["neither", "reading"]),
    ],
)
def test_bad_input_is_one_clear_line(call, parts, one_line):
    with pytest.raises(ValueError) as caught:
        call()
    one_line(caught, *parts)

"""Texts and tables of the notebooks."""

import copy

import numpy as np
import pytest
from markdown_it import MarkdownIt

from ad.report import arithmetic, inputs_note, markdown_table, score_unit

INPUTS = {
    "data": {
        "layout": "competition",
        "synthetic": False,
        "n_train": 213,
        "n_test": 100,
        "sha256": "a" * 64,
    },
    "weights": {"backbone": "resnet18", "source": "resnet18.safetensors", "sha256": "b" * 64},
}


def cells(table: str) -> list[list[str]]:
    """Read a table back with a Markdown parser."""
    rows: list[list[str]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    for number, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("th_open", "td_open"):
            parts = tokens[number + 1].children
            rows[-1].append("".join(part.content for part in parts))
    return rows


def test_a_table_is_read_back_cell_by_cell():
    rows = [
        {"name": "a", "x": 0.12345, "n": 3, "yes": True, "none": None},
        {"name": "b", "x": np.float32(2), "n": np.int64(4), "yes": np.bool_(False), "none": ""},
    ]
    assert cells(markdown_table(rows)) == [
        ["name", "x", "n", "yes", "none"],
        ["a", "0.123", "3", "yes", ""],
        ["b", "2.000", "4", "no", ""],
    ]


@pytest.mark.parametrize("text", ["bent|lead", "two\nlines", "| a | b |"])
def test_text_cannot_break_a_table(text: str):
    found = cells(markdown_table([{"defect": text, "x|y": 1}, {"defect": "cut", "x|y": 2}]))
    assert found == [["defect", "x|y"], [" ".join(text.split()), "1"], ["cut", "2"]]


def test_no_rows_no_table():
    assert markdown_table([]) == ""


def test_the_columns_are_those_of_the_first_row_in_its_order():
    rows = [{"b": 1, "a": 2}, {"a": 3, "b": 4}]
    assert cells(markdown_table(rows)) == [["b", "a"], ["1", "2"], ["4", "3"]]


def changed(section: str, **values: object) -> dict:
    inputs = copy.deepcopy(INPUTS)
    inputs[section] |= values
    return inputs


def test_the_inputs_are_stated_with_their_hashes():
    note = inputs_note(INPUTS)
    for part in ("213", "100", "competition", "resnet18.safetensors", "a" * 16, "b" * 16):
        assert part in note
    assert "RANDOM" not in note
    assert "Synthetic" not in note


def test_random_weights_are_marked_loudly_and_first():
    note = inputs_note(changed("weights", source="random", sha256=None))
    assert note.startswith("> **RANDOM WEIGHTS")
    assert "mean nothing" in note
    assert "backbone.weights" in note
    assert "None" not in note


def test_synthetic_images_are_marked():
    note = inputs_note(changed("data", synthetic=True))
    assert note.startswith("> **Synthetic images.**")


def test_the_unit_names_the_square():
    assert "squared" in score_unit(squared=True)
    assert "squared" not in score_unit(squared=False)


def test_the_arithmetic_is_said():
    assert "float32" in arithmetic("float32", 1.0, None)
    whole = arithmetic("int8", 0.25, 0.123)
    assert "12% of 2^24" in whole and "-127 to 127 in units of 0.25" in whole
    assert " 0 to 127" in arithmetic("uint8", 0.25, 0.5)

"""Plant causes in a run's record, one or two at a time: the tool names the first of them."""

import copy
import itertools
import json
from pathlib import Path

import pytest
from planted import (
    PLANTED,
    nudge,
    plant_labels_under_other_ids,
    plant_row_order,
    plant_weights,
    write_run,
)
from small_data import write_mvtec

from studies.gap.__main__ import main
from studies.gap.compare import STAGES, compare_records, page, verdict
from studies.gap.record import Record, read_record
from studies.gap.recorder import record_run
from studies.gap.write_record import write_record


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    write_mvtec(root / "data", n_train=4, n_normal=4, n_anomalous=4, size=32)
    write_run(root, root / "data")
    return root


@pytest.fixture(scope="module")
def recorded(run_folder):
    return json.loads(json.dumps(record_run(run_folder).model_dump()))


def compared(a, b):
    return compare_records(Record.model_validate(a), Record.model_validate(b))


@pytest.mark.parametrize(("plant", "stage", "words"), PLANTED)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_planted_cause_is_named_first(recorded, plant, stage, words, swapped):
    a, b = recorded, copy.deepcopy(recorded)
    plant(b)
    result = compared(*((b, a) if swapped else (a, b)))
    assert result.first is not None
    assert result.first.stage == stage, verdict(result)
    assert result.causes == [result.first]
    if not swapped:
        assert words in result.first.words
    assert verdict(result).startswith(f"The runs part first at: {stage}")


def test_of_two_planted_causes_the_earlier_is_named_first(recorded):
    order = list(STAGES)
    for (one, early, _), (two, late, _) in itertools.combinations(PLANTED, 2):
        if early == late:
            continue
        b = copy.deepcopy(recorded)
        one(b)
        two(b)
        result = compared(recorded, b)
        assert result.first.stage == early, (one.__name__, two.__name__, verdict(result))
        assert order.index(early) < order.index(late)


def test_a_second_cause_that_does_not_follow_is_named_too(recorded):
    b = copy.deepcopy(recorded)
    plant_weights(b)
    plant_row_order(b)
    words = verdict(compared(recorded, b))
    assert "part first at: weights" in words
    assert "Not explained by that: row order" in words


def test_equal_runs_are_called_identical(recorded, run_folder):
    again = json.loads(json.dumps(record_run(run_folder).model_dump()))
    result = compared(recorded, again)
    assert result.first is None
    assert result.changed_flags == 0
    assert verdict(result) == "The runs are identical in everything recorded."
    assert {f.state for f in result.findings} == {"equal"}
    assert [f.stage for f in result.findings] == list(STAGES)


@pytest.mark.parametrize("part", [name for name in Record.model_fields if name != "format"])
def test_records_that_lack_a_part_are_compared_as_far_as_they_go(recorded, part):
    bare = {**recorded, part: None}
    for pair in ((recorded, bare), (bare, recorded), (bare, bare)):
        result = compared(*pair)
        assert result.first is None or result.first.stage == "row order", verdict(result)
        assert "identical in everything" not in verdict(result) or part in (
            "environment", "listing", "folds", "sample_order")  # fmt: skip
    only = {"format": recorded["format"], part: recorded[part]}
    assert compared(only, recorded).first is None
    assert compared(only, only).first is None


def test_another_raw_listing_alone_has_no_consequence(recorded):
    b = copy.deepcopy(recorded)
    b["listing"] = {folder: order[::-1] for folder, order in b["listing"].items()}
    result = compared(recorded, b)
    assert result.first is None
    assert "listing order: no consequence" in verdict(result)


def test_rounding_is_told_apart_and_does_not_hide_a_later_cause(recorded):
    b = copy.deepcopy(recorded)
    nudge(b, 1e-6)
    for name in b["scores"]:
        b["scores"][name] *= 1 + 1e-6
    b["threshold"]["threshold"] *= 1 + 1e-6
    b["threshold"]["fold_thresholds"] = [v * (1 + 1e-6) for v in b["threshold"]["fold_thresholds"]]
    result = compared(recorded, b)
    assert result.first.stage == "features"
    assert result.first.state == "rounding"
    assert "agree to rounding" in verdict(result)
    plant_labels_under_other_ids(b)
    result = compared(recorded, b)
    assert result.first.stage == "row order"
    assert "after rounding in: features" in verdict(result)


def test_flags_alone_in_another_order(recorded):
    """What two submission files tell: as many flags, under other ids."""
    a, b = ({"format": recorded["format"], "submission": recorded["submission"]} for _ in range(2))
    b = copy.deepcopy(b)
    plant_labels_under_other_ids(b)
    result = compared(a, b)
    assert result.first.stage == "row order"
    assert "another order or other scores" in result.first.words
    assert len(page(result, Record.model_validate(a), Record.model_validate(b)).splitlines()) < 60


def test_command_line(run_folder, tmp_path, capsys):
    one, two = tmp_path / "äone.json", tmp_path / "two.json"
    assert main(["record", str(one), "--root", str(run_folder)]) == 0
    assert one.read_bytes().count(b"\r") == 0
    assert main(["compare", str(one), str(one)]) == 0
    content = json.loads(one.read_text(encoding="utf-8"))
    plant_row_order(content)
    # As an editor or mail program on Windows may leave it.
    text = json.dumps(content, indent=1).replace("\n", "\r\n")
    two.write_bytes(text.encode("utf-8-sig"))
    figure = tmp_path / "figure.png"
    assert main(["compare", str(one), str(two), "--figure", str(figure)]) == 1
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "part first at: row order" in capsys.readouterr().out
    write_record(two, {"submission": content["submission"]})
    assert main(["compare", str(one), str(two), "--figure", str(figure)]) == 1
    assert read_record(two).scores is None


EXAMPLE = Path(__file__).resolve().parents[3] / "studies/gap/example"


def test_the_order_is_named_first_in_two_runs_of_another_implementation():
    """Records that studies/gap/anomalib_example.py wrote of anomalib's PatchCore."""
    a, b = (read_record(EXAMPLE / f"{order}.json") for order in ("sorted", "hashed"))
    assert a.data == b.data and a.ids != b.ids and sorted(a.ids) == sorted(b.ids)
    result = compare_records(a, b)
    assert result.first.stage == "listing order"
    assert "107 of 110 rows moved" in page(result, a, b)
    same = compare_records(a, a)
    assert same.first is None

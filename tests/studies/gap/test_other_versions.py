"""Runs with other libraries: the case is the notebook's, and the record is found again."""

import subprocess
import sys

import pytest
from gap_case import make_case
from small_data import write_mvtec

from ad.files import read_json, write_json
from studies.gap import interventions as iv
from studies.gap import number_factors, other_versions


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mvtec(tmp_path / "data", n_train=4, n_normal=2, n_anomalous=2, size=32)
    made = make_case(tmp_path, tmp_path / "data")
    write_json(other_versions.CASE, made.model_dump())
    other_versions.RECORD.parent.mkdir(parents=True)
    return made


def test_a_run_is_recorded_once_and_found_by_the_study(case, monkeypatch):
    stale = {"case": "another", "versions": {"torch": "0"}}
    write_json(other_versions.RECORD, {"runs": [stale]})
    other_versions.main([sys.executable])
    again = {run["case"]: run for run in read_json(other_versions.RECORD)["runs"]}
    monkeypatch.setattr(
        other_versions, "run_elsewhere", lambda own, *_, **__: dict(again[own.digest()])
    )
    other_versions.main([sys.executable])
    runs = read_json(other_versions.RECORD)["runs"]
    assert len(runs) == 2  # in float32 and in whole numbers
    for arithmetic in ("float32", "integer"):
        control = iv.run_control(case.in_arithmetic(arithmetic))
        (row,) = number_factors.version_factors(control, runs)
        assert row.how == iv.RUN
        assert row.flags_changed == 0
        assert number_factors.SAME_BITS in row.note


def test_what_fails_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^error: .*gap_case\.json: not run yet"):
        other_versions.main([sys.executable])
    answer = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution")
    monkeypatch.setattr(other_versions.venv, "create", lambda *_, **__: None)
    monkeypatch.setattr(other_versions.subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(SystemExit, match=r"^error: the older libraries cannot .*No matching"):
        other_versions.main([])

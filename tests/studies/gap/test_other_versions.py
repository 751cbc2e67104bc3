"""Runs with other libraries: the case is the notebook's, and the record is found again."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_data import write_mvtec

from ad.dataset import write_manifest
from ad.files import read_json, write_json
from studies.gap import factors, other_versions
from studies.gap import interventions as iv
from tools.scan import scan

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mvtec(tmp_path / "data", n_train=4, n_normal=2, n_anomalous=2, size=32)
    write_manifest(tmp_path / "artifacts" / "manifest.csv", scan(tmp_path / "data"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["backbone"]["weights"] = "random"
    params["backbone"]["layers"] = ["layer1", "layer2"]
    params["image"]["size"] = 32
    params["cv"]["folds"] = 2
    params["gap"]["coreset_ratio"] = 0.3
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return params


def test_a_run_is_recorded_once_and_found_by_the_study(finished_run):
    stale = {"case": "another", "versions": {"torch": "0"}}
    write_json(other_versions.RECORD, {"runs": [stale]})
    other_versions.main([sys.executable])
    other_versions.main([sys.executable])
    runs = read_json(other_versions.RECORD)["runs"]
    assert len(runs) == 1
    control = iv.run_control(other_versions.case_of(finished_run))
    (row,) = factors.version_factors(control, runs)
    assert row.how == iv.RUN
    assert row.flags_changed == 0


def test_every_field_of_the_case_comes_from_the_parameters(finished_run):
    finished_run["patch"] |= {"size": 5, "pretrain_dim": 7, "target_dim": 9}
    finished_run["score"] |= {"num_neighbors": 3, "squared": False}
    finished_run["coreset"]["projection_dim"] = None
    case = other_versions.case_of(finished_run)
    assert (case.patch_size, case.pretrain_dim, case.target_dim) == (5, 7, 9)
    assert (case.num_neighbors, case.squared, case.projection_dim) == (3, False, None)
    assert (case.coreset_ratio, case.folds, case.image_size) == (0.3, 2, 32)
    assert case.layers == ("layer1", "layer2")


def test_what_fails_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^error: .*manifest\.csv: no finished run here"):
        other_versions.main([sys.executable])
    answer = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution")
    monkeypatch.setattr(other_versions.venv, "create", lambda *_, **__: None)
    monkeypatch.setattr(other_versions.subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(SystemExit, match=r"^error: the older libraries cannot .*No matching"):
        other_versions.main([])

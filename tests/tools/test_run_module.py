"""Stages that run a module: it is there, and gets the stage's parameters."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tools import run_module

ROOT = Path(__file__).resolve().parents[2]
NAMED = sorted(
    {
        stage["cmd"].partition("tools.run_module ")[2].split()[0]
        for path in sorted((ROOT / "studies").rglob("dvc.yaml"))
        for stage in yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].values()
        if "tools.run_module " in str(stage.get("cmd"))
    }
)


@pytest.mark.parametrize("name", NAMED)
def test_every_module_that_a_stage_names_can_be_run(name):
    assert callable(importlib.import_module(name).main)


def test_there_are_such_stages():
    assert "studies.backbones.measure" in NAMED and "studies.scale.__main__" in NAMED


def test_a_module_gets_its_parameters_and_its_faults_are_a_line(monkeypatch, capsys):
    module, got = ModuleType("a_stage"), []
    module.main = got.append
    monkeypatch.setitem(sys.modules, "a_stage", module)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    run_module.main(["a_stage", "name=resnet18"])
    assert got == [{"name": "resnet18"}]
    assert capsys.readouterr().out == "a_stage name=resnet18\n"

    def fails(_parameters: object) -> None:
        raise ValueError("too small")

    module.main = fails
    with pytest.raises(SystemExit, match=r"^error: a_stage: too small$"):
        run_module.main(["a_stage"])
    with pytest.raises(SystemExit, match="Usage"):
        run_module.main([])

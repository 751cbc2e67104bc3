"""The notebooks are thin, and their stages declare what they use."""

import ast
import json
from pathlib import Path

import pytest
import yaml

from tools.parameters import stage_parameters

ROOT = Path(__file__).resolve().parents[3]
ROOM = ROOT / "studies" / "gap"
STAGES = {
    "forensics": "21_forensics",
    "interventions": "22_interventions",
    "mechanism": "23_mechanism",
}
# These carry, draw or describe values; an edit of theirs does not change a number.
CARRIERS = {"dataset", "determinism", "files", "plots", "report", "progress", "params"}
CARRIERS |= {"validation", "evaluation"}


def cells(name: str) -> list[dict]:
    return json.loads((ROOM / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def code(name: str) -> list[str]:
    return ["".join(c["source"]) for c in cells(name) if c["cell_type"] == "code"]


def modules(text: str) -> set[str]:
    """List the files of this repository that a program imports by name."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            paths = [name.replace(".", "/") + ".py" for name in names]
            found |= {path for path in paths if (ROOT / path).is_file()}
    return found


def reached(texts: list[str]) -> set[str]:
    """Follow imports from module to module, of ad and of this study; carriers are left out."""
    found: set[str] = set()
    while texts:
        new = {path for text in texts for path in modules(text)} - found
        new = {path for path in new if Path(path).stem not in CARRIERS}
        found |= new
        texts = [(ROOT / path).read_text(encoding="utf-8") for path in new]
    return found


@pytest.mark.parametrize("name", STAGES.values())
def test_a_notebook_reads_like_a_page(name):
    own, programs = cells(name), code(name)
    assert len(programs) <= 10
    assert all(len(text.splitlines()) <= 25 for text in programs)
    assert not any(cell.get("outputs") for cell in own)
    first = "".join(own[0]["source"])
    assert all(word in first for word in ("Question", "Inputs", "Outputs"))
    assert own[1]["metadata"]["tags"] == ["parameters"]
    assert all("  # " in line for line in programs[0].splitlines())


@pytest.mark.parametrize(("stage", "name"), STAGES.items())
def test_parameters_are_those_that_the_stage_declares(stage, name, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(code(name)[0]).body
    }
    assert found == stage_parameters(f"studies/gap/dvc.yaml:{stage}", [])


@pytest.mark.parametrize(("stage", "name"), STAGES.items())
def test_a_stage_depends_on_every_module_that_it_computes_with(stage, name):
    declared = yaml.safe_load((ROOM / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    paths = {path for path in declared["deps"] if path.endswith(".py")}
    assert paths == reached(code(name))

"""Notebook sources are clean, and their parameters are those of dvc.yaml and params.yaml."""

import ast
import json
from pathlib import Path

import dvc.api
import pytest
import yaml
from dvc.repo import Repo

from ad.params import SETTINGS, flatten, validate
from tools.run_notebook import stage_parameters

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PIPELINES = [ROOT / "dvc.yaml", *sorted((ROOT / "studies").glob("*/dvc.yaml"))]


def cells(path: Path) -> list[dict]:
    """Read a notebook's cells."""
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def parameters(path: Path) -> dict[str, object]:
    """Evaluate the literals of a notebook's tagged parameters cell."""
    tagged = [c for c in cells(path) if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1, f"{path.name} needs one cell tagged 'parameters'"
    values = {}
    for statement in ast.parse("".join(tagged[0]["source"])).body:
        assert isinstance(statement, ast.Assign), "only assignments: papermill injects after them"
        values[statement.targets[0].id] = ast.literal_eval(statement.value)
    return values


def words(stage: dict) -> list[str]:
    """Split a stage's command, or its several commands, into words."""
    commands = stage["cmd"] if isinstance(stage["cmd"], list) else [stage["cmd"]]
    return " ".join(commands).split()


def notebook_stages() -> list[tuple[str, dict, Path]]:
    """List the stages that run a notebook: name, stage, notebook."""
    found = []
    for pipeline in PIPELINES:
        stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
        for name, stage in stages.items():
            names = [word for word in words(stage) if word.startswith("notebooks/")]
            found += [(name, stage, ROOT / word) for word in names]
    return found


STAGES = notebook_stages()
PARAMETRIZED = {name for name, stage, _ in STAGES if stage.get("params")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_sources_have_no_outputs(path):
    for cell in cells(path):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_parameter_says_what_it_means(path):
    source = next(
        "".join(c["source"]) for c in cells(path) if "parameters" in c["metadata"].get("tags", [])
    )
    for line in source.splitlines():
        assert "  # " in line, f"{path.name}: no meaning behind {line!r}"


@pytest.mark.parametrize(("name", "stage", "path"), STAGES, ids=lambda v: str(v)[:24])
def test_notebook_and_stage_agree_on_parameters(name, stage, path):
    declared = stage.get("params", [])
    whole = flatten(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    expected = {
        key.replace(".", "_"): value
        for key, value in whole.items()
        if any(key == item or key.startswith(f"{item}.") for item in declared)
    }
    extra = {word.partition("=")[0] for word in words(stage) if "=" in word and "/" not in word}
    found = parameters(path)
    assert set(found) - extra == set(expected)
    # Opened by hand, a notebook does what the pipeline does by default.
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(("name", "stage", "path"), STAGES, ids=lambda v: str(v)[:24])
def test_stage_depends_on_its_notebook_and_on_the_modules_it_computes_with(name, stage, path):
    deps = set(stage["deps"])
    assert path.relative_to(ROOT).as_posix() in deps
    tree = ast.parse(
        "\n".join("".join(c["source"]) for c in cells(path) if c["cell_type"] == "code")
    )
    modules = {
        node.module.replace(".", "/") + ".py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ad.")
    }
    modules |= {
        f"ad/{alias.name}.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "ad"
        for alias in node.names
    }
    # These carry, draw or describe values; an edit of theirs does not change a number.
    carriers = {"dataset", "determinism", "files", "plots", "report", "progress"}
    missing = {m for m in modules if Path(m).stem not in carriers} - deps
    assert not missing, f"{name} uses {sorted(missing)} and does not depend on them"


def test_params_yaml_is_valid_and_every_setting_has_a_comment():
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    validate(yaml.safe_load(text))
    lines = [line for line in text.splitlines() if ":" in line and not line.startswith("#")]
    settings = [line for line in lines if line.partition(":")[2].strip()]
    assert len(settings) == len(SETTINGS)
    assert [line for line in settings if "#" not in line] == []


def test_ad_imports_one_way():
    banned = {"yaml", "dvc", "papermill", "nbformat", "IPython", "tools", "notebooks"}
    for path in sorted((ROOT / "ad").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            roots = {name.partition(".")[0] for name in names}
            assert not roots & banned, f"{path.name} imports {roots & banned}"
            if path.stem != "plots" and path.stem not in ("gap",):
                assert "matplotlib" not in roots, f"{path.name} draws"


def test_every_pipeline_parses_and_no_two_stages_write_the_same_file():
    with Repo(str(ROOT)) as repo:
        repo.index.check_graph()  # raises on overlapping outputs, cycles and what cannot be read
        found = {Path(stage.path).relative_to(ROOT).as_posix() for stage in repo.index.stages}
    assert {pipeline.relative_to(ROOT).as_posix() for pipeline in PIPELINES} <= found


def test_the_runner_reads_the_parameters_that_dvc_gives(monkeypatch):
    monkeypatch.chdir(ROOT)
    with Repo() as repo:
        addresses = [s.addressing for s in repo.index.stages if "run_notebook" in str(s.cmd)]
    assert {"evaluate", "studies/reconpatch/dvc.yaml:reconpatch_dimension@64"} <= set(addresses)
    shown = [a for a in addresses if a.partition("@")[0].rpartition(":")[2] in PARAMETRIZED]
    for address in {a.rpartition(":")[0]: a for a in shown}.values():  # one of each pipeline
        given = flatten(dvc.api.params_show(stages=address))
        assert stage_parameters(address, ["dimension=7"]) == {
            **{key.replace(".", "_"): value for key, value in given.items()},
            "dimension": 7,
        }

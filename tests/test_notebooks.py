"""Notebook sources are clean, and their parameters are those of dvc.yaml and params.yaml."""

import ast
import json
from collections import ChainMap
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path

import dvc.api
import pytest
import yaml
from dvc.repo import Repo
from dvc.stage.cache import _get_cache_hash
from dvc.utils.hydra import apply_overrides

from tools.parameters import stage_parameters
from validation.sections import flatten

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(
    path
    for pattern in ("notebooks/*.ipynb", "studies/*/*.ipynb", "benchmarks/*.ipynb")
    for path in ROOT.glob(pattern)
)
PIPELINES = [ROOT / "dvc.yaml", *sorted((ROOT / "studies").rglob("dvc.yaml"))]


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
            names = [
                word
                for word in words(stage)
                if word.startswith(("notebooks/", "studies/")) and word.endswith(".ipynb")
            ]
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


def declared_parameters(stage: dict) -> dict[str, object]:
    """Evaluate what a stage declares, flattened as the runner does."""
    found: dict[str, object] = {}
    for item in stage.get("params", []):
        files = item if isinstance(item, dict) else {"params.yaml": [item]}
        for file, keys in files.items():
            whole = flatten(yaml.safe_load((ROOT / file).read_text(encoding="utf-8")))
            prefix = "" if file == "params.yaml" else f"{Path(file).parent.name}_"
            found |= {
                prefix + key.replace(".", "_"): value
                for key, value in whole.items()
                if keys is None or any(key == k or key.startswith(f"{k}.") for k in keys)
            }
    return found


@pytest.mark.parametrize(("name", "stage", "path"), STAGES, ids=lambda v: str(v)[:24])
def test_notebook_and_stage_agree_on_parameters(name, stage, path):
    expected = declared_parameters(stage)
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
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for name_ in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                file = f"{name_.replace('.', '/')}.py"
                if name_.startswith(("ad.", "studies.")) and (ROOT / file).is_file():
                    modules.add(file)
    # These carry, draw or describe values; an edit of theirs does not change a number.
    carriers = {"dataset", "determinism", "files", "params", "plots", "progress", "report"}
    carriers |= {"environment", "evaluation", "sections"}
    missing = {m for m in modules if Path(m).stem not in carriers} - deps
    assert not missing, f"{name} uses {sorted(missing)} and does not depend on them"


PARAMETER_FILES = [ROOT / "params.yaml", *sorted((ROOT / "studies").rglob("params.yaml"))]


@pytest.mark.parametrize("path", PARAMETER_FILES, ids=lambda p: p.parent.name)
def test_every_setting_has_a_comment(path):
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if ":" in line and not line.startswith("#")]
    settings = [line for line in lines if line.partition(":")[2].strip()]
    assert len(settings) == len(flatten(yaml.safe_load(text)))
    assert [line for line in settings if "#" not in line] == []


@pytest.mark.parametrize("path", PARAMETER_FILES, ids=lambda p: p.parent.name)
def test_setting_a_value_to_what_it_is_changes_nothing(path, tmp_path):
    """``dvc exp run -S`` writes the file with DVC's writer, which keeps this style."""
    copy = tmp_path / "params.yaml"
    copy.write_bytes(path.read_bytes())
    for key, value in flatten(yaml.safe_load(copy.read_text(encoding="utf-8"))).items():
        if "e-" not in str(value):  # 1.0e-6 comes back as 1e-06, the same number
            apply_overrides(copy, [f"{key}={json.dumps(value)}"])
    assert copy.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_every_pipeline_parses_and_no_two_stages_write_the_same_file():
    with Repo(str(ROOT)) as repo:
        repo.index.check_graph()  # raises on overlapping outputs, cycles and what cannot be read
        found = {Path(stage.path).relative_to(ROOT).as_posix() for stage in repo.index.stages}
    assert {pipeline.relative_to(ROOT).as_posix() for pipeline in PIPELINES} <= found


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda path: path.parent.name)
def test_a_changed_parameter_is_another_run_to_dvc(pipeline):
    # DVC finds earlier runs by a hash that leaves out what is called size within a section.
    for name, entry in yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"].items():
        listed = entry.get("params", [])
        files = ChainMap(*(d for d in listed if isinstance(d, dict)))
        own = {"params.yaml": [key for key in listed if isinstance(key, str)]}
        for file, keys in {**files, **own}.items():
            values = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))

            def chosen(values: dict, keys: list[str] | None = keys) -> dict:
                named = values if keys is None else keys  # a file without keys counts as a whole
                return {key: reduce(getitem, key.split("."), values) for key in named}

            for leaf in flatten(values):
                changed = deepcopy(values)
                *sections, last = leaf.split(".")
                reduce(getitem, sections, changed)[last] = "changed"
                before, after = ({"params": {file: chosen(v)}} for v in (values, changed))
                same = _get_cache_hash(before) == _get_cache_hash(after)
                assert same == (before == after), f"{name}: {leaf}"


def test_the_runner_reads_the_parameters_that_dvc_gives(monkeypatch):
    monkeypatch.chdir(ROOT)
    with Repo() as repo:
        addresses = [s.addressing for s in repo.index.stages if "tools.run_" in str(s.cmd)]
    assert "evaluate" in addresses
    for address in {a.rpartition(":")[0]: a for a in addresses}.values():  # one of each pipeline
        name = address.partition("@")[0].rpartition(":")[2]
        given = dvc.api.params_show(stages=address)
        found = stage_parameters(address, ["dimension=7"])
        assert found.pop("dimension") == 7
        values = flatten(given)
        assert len(found) == len(values), name
        for key, value in values.items():  # a study's own carry its name in front
            place = key.replace(".", "_")
            assert found.get(place, found.get(f"{Path(address).parent.name}_{place}")) == value

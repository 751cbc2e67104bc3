"""The notebooks are thin, and their stages declare what they use."""

import ast
import json
import shutil
from pathlib import Path

import matplotlib
import notebook_cells
import pytest
import yaml
from notebook_cells import run_cells
from small_data import write_competition, write_mvtec

from ad.dataset import of_split, write_manifest
from ad.files import read_json, save_array, write_csv, write_json
from studies.gap import number_factors, order_factors
from studies.gap.case import case_of
from studies.gap.enumeration import parse_reported
from studies.gap.interventions import run_control
from studies.gap.investigation import investigate, summary
from tools.parameters import stage_parameters
from tools.scan import scan

ROOT = Path(__file__).resolve().parents[3]
ROOM = ROOT / "studies" / "gap"
STAGES = {
    "forensics": "21_forensics",
    "interventions": "22_interventions",
    "mechanism": "23_mechanism",
}
# These carry, draw or describe values; an edit of theirs does not change a number.
CARRIERS = {
    "dataset",
    "determinism",
    "environment",
    "files",
    "plots",
    "report",
    "progress",
    "params",
}
CARRIERS |= {"sections", "evaluation"}


def cells(name: str) -> list[dict]:
    return json.loads((ROOM / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def code(name: str) -> list[str]:
    return notebook_cells.code(ROOM / f"{name}.ipynb")


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


@pytest.fixture(params=["labelled", "unlabelled"])
def finished_run(request, tmp_path, monkeypatch):
    """Leave what the pipeline and the forensics leave, on a tiny set; stand in the study's room."""
    if request.param == "labelled":
        write_mvtec(tmp_path / "data", n_train=6, n_normal=5, n_anomalous=5, size=32)
    else:
        write_competition(tmp_path / "data", n_train=6, n_test=10, size=32)
    artifacts = tmp_path / "artifacts"
    records = scan(tmp_path / "data")
    write_manifest(artifacts / "manifest.csv", records)
    monkeypatch.chdir(tmp_path)
    parameters = {
        "backbone_name": "resnet10t",
        "backbone_weights": "random",
        "backbone_layers": ["layer1", "layer2"],
        "image_size": 32,
        "cv_folds": 2,
        "gap_coreset_ratio": 0.2,
        "gap_seeds": 1,
        "gap_permutations": 100,
    }
    defaults: dict[str, object] = {}
    exec(code(STAGES["interventions"])[0], defaults)
    control = run_control(case_of({**defaults, **parameters}))
    save_array(artifacts / "features.npy", control.features)
    ids = [record.id for record in of_split(records, "test")]
    rows = zip(ids, control.outcome.flags.astype(int).tolist(), strict=True)
    write_csv(artifacts / "test_scores.csv", ["id", "flagged"], rows)
    data = {"n_train": 6, "n_test": 10, "layout": "x", "synthetic": True, "sha256": "0" * 64}
    weights = {"source": "random", "sha256": None, "backbone": "resnet10t"}
    write_json(artifacts / "inputs.json", {"data": data, "weights": weights})
    models = parse_reported("a:0.44444:0.40000,b:0.50000:0.33333")
    study = investigate(models, 20, 8, other_private="", working=0.9, window=0.25)
    write_json(artifacts / "studies" / "gap_forensics.json", summary(study))
    (tmp_path / "studies" / "gap").mkdir(parents=True)
    for name in STAGES.values():
        shutil.copyfile(ROOM / f"{name}.ipynb", tmp_path / "studies" / "gap" / f"{name}.ipynb")
    write_json(tmp_path / "studies" / "gap" / "other_versions.json", {"runs": []})
    return tmp_path, parameters, request.param == "labelled"


def test_the_notebooks_run_and_lead_with_the_answer(finished_run, monkeypatch):
    root, parameters, labelled = finished_run
    matplotlib.use("Agg")
    monkeypatch.setattr(number_factors, "machine_factors", lambda _control: ())  # processes: slow
    monkeypatch.setattr(order_factors, "worker_factors", lambda _control: ())
    room = root / "studies" / "gap"
    known = [
        {key: value for key, value in parameters.items() if f"{key} = " in code(name)[0]}
        for name in (STAGES["interventions"], STAGES["mechanism"])
    ]
    shown = run_cells(room / f"{STAGES['interventions']}.ipynb", known[0], monkeypatch)
    assert shown[1].startswith("**Certain, of this pipeline")
    assert ("**Likely.**" in shown[1]) == labelled
    assert any(text.startswith("<details>") for text in shown)
    shown = run_cells(room / f"{STAGES['mechanism']}.ipynb", known[1], monkeypatch)
    assert shown[1].startswith(("**In short.**", "**Certain.**"))
    metrics = read_json(root / "metrics" / "gap.json")
    assert ("f1_by_chance" in metrics) == labelled
    assert metrics["printed"]["log10_no_information_against_rival"]
    if not labelled:  # the competition's layout: its own folder is listed, too
        assert any("the data's own folder" in text for text in shown)
    for name in ("gap_factors.csv", "gap_interventions.json", "gap_case.json"):
        assert (root / "artifacts" / "studies" / name).is_file()

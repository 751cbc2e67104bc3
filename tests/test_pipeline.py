"""The whole study on a small data set: end to end, byte for byte, with hostile names."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from notebook_cells import run_cells
from small_data import SMALL, digests, draw_normal, save_png, write_competition, write_mvtec

from ad.files import load_array, read_json, write_json
from ad.params import Coreset, CrossValidation, read_params
from ad.protocol import run_protocol
from ad.tables import read_table
from tools.run_notebook import check_hashes, command

ROOT = Path(__file__).resolve().parent.parent
EVERYTHING = read_params(SMALL).model_dump()
HOSTILE = ("<b onmouseover=alert(4)>", "<script>alert(1)<", "[x](javascript:alert(1))", "$x_{$ a|b")
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# As an older processor would compute, on one thread.
ELSEWHERE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "OMP_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"]),
}


def make_repository(folder: Path) -> Path:
    """Copy the study's sources into a new repository with small parameters and no data."""
    folder.mkdir()
    for name in ("ad", "tools", "notebooks"):
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "docs").mkdir()
    for name in ("dvc.yaml", "matplotlibrc", ".dvcignore", ".gitignore", "docs/glossary.md"):
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(EVERYTHING))
    call(folder, "git", "init", "--quiet")
    call(folder, sys.executable, "-m", "dvc", "init", "--quiet")
    return folder


def call(folder: Path, *command: str, **environment: str) -> str:
    """Run a command in a repository; return what it says."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), **environment}
    ran = subprocess.run(
        command, cwd=folder, env=known, check=False, text=True, capture_output=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[Path]:
    """Run the study twice side by side, once as on another machine; names are hostile."""
    folders = []
    for name in ("here", "elsewhere"):
        folder = make_repository(tmp_path_factory.mktemp(name) / "가나 다 $(touch x) 'y'")
        write_mvtec(folder / "data", names=HOSTILE)
        write_json(folder / "data" / "about.json", {"name": HOSTILE[0]})
        rng = np.random.default_rng(1)
        for kind in ("good", "unknown_half"):
            save_png(folder / "data_locked" / "test" / kind / "a.png", draw_normal(rng, 64))
        write_json(folder / "data_locked" / "about.json", {"name": HOSTILE[0]})
        folders.append(folder)
    jobs = zip(folders, ({}, ELSEWHERE), strict=True)
    with ThreadPoolExecutor(2) as pool:
        run = (sys.executable, "-m", "dvc", "repro")
        list(pool.map(lambda job: call(job[0], *run, **job[1]), jobs))
    return folders


@pytest.fixture(scope="module")
def finished(both) -> Path:
    """Return the repository that ran here."""
    return both[0]


def test_another_machine_gives_the_same_bytes(both):
    here, elsewhere = map(digests, both)
    assert {"artifacts/detector.onnx", "metrics/evaluate.json"} <= here.keys()
    assert here == elsewhere
    said = read_json(both[1] / "artifacts/environment.json")
    assert (said["threads"], said["instruction_set"]) == (1, "DEFAULT")


def test_the_pipeline_is_run_protocol(finished):
    features = finished / "artifacts" / "features"
    found = run_protocol(
        load_array(features / "train.npy"),
        load_array(features / "test.npy"),
        coreset=Coreset(ratio=0.1),
        cv=CrossValidation(folds=3),
    )
    table = read_table(finished / "artifacts" / "test_scores.csv")
    assert table["score"].tolist() == found.scores.tolist()
    assert table["flagged"].tolist() == found.flags.tolist()
    assert read_json(finished / "artifacts" / "threshold.json")["threshold"] == found.threshold
    held = read_table(finished / "artifacts" / "validation_scores.csv")
    for fold, (_, held_out) in enumerate(found.folds):
        assert held["score"].iloc[held_out].tolist() == found.held_out[fold].tolist()
    assert read_json(finished / "metrics/evaluate.json")["n_flagged"] == found.flags.sum()


class Page(HTMLParser):
    """Collect what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_of_the_data_are_text_on_every_page(finished):
    pages = sorted((finished / "artifacts" / "pages").glob("*.html"))
    assert len(pages) == 7
    shown = ""
    for path in pages:
        page = Page(path.read_text(encoding="utf-8"))
        shown += page.text
        assert str(finished) not in page.text
        for tag, attributes in page.tags:
            assert tag not in ("script", "iframe", "form", "object", "svg")
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href"):
                assert not re.match(r"\s*(javascript|https?|//)", attributes.get(name) or "")
    for name in HOSTILE:
        assert name in shown, name
    assert shown.count("RANDOM WEIGHTS") >= 2
    assert not sorted(finished.glob("x*"))  # nobody ran $(touch x)


def test_a_second_run_has_nothing_to_do_and_an_edit_of_ad_touches_every_stage(finished):
    dvc = (sys.executable, "-m", "dvc")
    assert "Running" not in call(finished, *dvc, "repro")
    for name in ("thresholds.py", "data.py", "determinism.py", "exact/products.py"):
        path = finished / "ad" / name
        before = path.read_text(encoding="utf-8")
        path.write_text(before + "\n# An edit.\n", encoding="utf-8")
        status = json.loads(call(finished, *dvc, "status", "--json"))
        path.write_text(before, encoding="utf-8")
        stages = {stage for stage in STAGES if "ad" in STAGES[stage]["deps"]}
        assert stages <= status.keys(), name


def test_a_flipped_bit_in_what_a_stage_reads_is_found(finished, monkeypatch):
    monkeypatch.chdir(finished)
    lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
    path = Path("artifacts/features/train.npy")
    check_hashes([str(path)], lock)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(SystemExit, match=r"features/train.npy: not the bytes that its stage"):
        check_hashes([str(path)], lock)


# Sets without labels, and of normals alone


@pytest.mark.parametrize("kind", ["unlabelled", "normals"])
def test_what_labels_cannot_give_is_left_out(kind: str, tmp_path: Path, monkeypatch):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    if kind == "unlabelled":
        labels = write_competition(tmp_path / "data")
    else:
        labels, rng = {}, np.random.default_rng(0)
        for number in range(9):
            save_png(tmp_path / "data" / f"{number}.png", draw_normal(rng, 64))
    for notebook in NOTEBOOKS:
        run_cells(tmp_path / "notebooks" / notebook.name, EVERYTHING, monkeypatch)
    figures = read_json(tmp_path / "metrics/evaluate.json")
    assert figures.keys() == {"n_flagged", "threshold"}
    answers = read_table(tmp_path / "artifacts/submission.csv")
    assert answers["id"].tolist() == list(reversed(labels))  # as the sample submission has them
    assert (tmp_path / "artifacts/detector.onnx").stat().st_size > 100_000


# Parameters


def test_a_study_depends_on_its_code_and_not_on_the_folder_that_its_lock_lies_in():
    for path in sorted((ROOT / "studies").glob("*/dvc.yaml")):
        (stage,) = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].values()
        folder = path.parent.relative_to(ROOT)
        code = [p for p in path.parent.iterdir() if p.suffix in (".py", ".ipynb")]
        code = {f"{folder.as_posix()}/{p.name}" for p in code if p.stat().st_size}
        assert code - {f"{folder.as_posix()}/__main__.py"} <= set(stage["deps"])
        assert folder.as_posix() not in stage["deps"]


def test_nothing_chooses_by_the_locked_set():
    """Its features are extracted beside the others; only a page made at the end reads them."""
    readers = set()
    for path in [ROOT / "dvc.yaml", *sorted((ROOT / "studies").glob("*/dvc.yaml"))]:
        for name, stage in yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].items():
            if any("locked" in str(dep) for dep in stage["deps"]):
                readers.add(name)
    assert readers == {"features", "locked"}


def test_a_wrong_value_is_one_line_and_params_yaml_looks_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("coreset: {ratio: 10}\n", encoding="utf-8")
    os.utime("params.yaml", ns=(0, 0))
    with pytest.raises(SystemExit, match=r"params.yaml: coreset.ratio=10: input should be less"):
        command([])
    assert Path("params.yaml").stat().st_mtime_ns > 0  # git sees the value within one second

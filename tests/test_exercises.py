"""The checks of docs/exercises pass right answers, fail wrong ones; tasks 8 and 9 do as written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from notebook_cells import run_cells
from small_data import SMALL, write_mvtec

from ad.files import read_json

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "exercises.md").read_text(encoding="utf-8")
RIGHT = """
import numpy as np

def forged_table():
    return {"true_positive": 16, "false_negative": 24, "false_positive": 17, "true_negative": 43}

def broken_order(record, rng):
    names = list(record["scores"])
    order = rng.permutation(len(names))
    values, flags = list(record["scores"].values()), [flag for _, flag in record["submission"]]
    moved = [names[n] for n in order]
    return {
        **record,
        "scores": dict(zip(moved, values)),
        "submission": [[name, flag] for name, flag in zip(moved, flags)],
    }

def image_that_sets_the_threshold(held_out):
    def gap(fold):
        first, second = sorted(fold.values())[-1:-3:-1]
        return first - second
    fold = max(held_out, key=gap)
    return max(fold, key=fold.get)

def normals_that_fool_conformal(rng):
    return rng.normal(0, 1, 200), rng.normal(2, 1, 200)

def threshold_rule(scores):
    middle = np.median(scores)
    return middle + 3 * 1.4826 * np.median(np.abs(scores - middle))

def new_backbone():
    return {"name": "resnet14t", "layers": ["layer2"]}

def better_coreset(points, n_select):
    rng, best, least = np.random.default_rng(0), None, np.inf
    for _ in range(8):  # Lloyd's steps with the centre of the smallest box, then the nearest point
        centres = points[rng.choice(len(points), n_select, replace=False)]
        for _ in range(25):
            owner = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
            centres = np.array([
                (points[owner == k].min(axis=0) + points[owner == k].max(axis=0)) / 2
                if (owner == k).any() else centres[k] for k in range(n_select)
            ])
        rows = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=0)
        found = np.linalg.norm(points[:, None] - points[rows], axis=2).min(axis=1).max()
        if found < least and len(set(rows)) == n_select:
            best, least = rows, found
    return best
"""
WRONG = """
import numpy as np

def forged_table():
    return {"true_positive": 20, "false_negative": 20, "false_positive": 17, "true_negative": 43}

def broken_order(record, rng):
    return record

def image_that_sets_the_threshold(held_out):
    return "no image"

def normals_that_fool_conformal(rng):
    return rng.normal(0, 1, 200), rng.normal(0, 1, 200)

def threshold_rule(scores):
    return float(np.max(scores))

def new_backbone():
    return {"name": "resnet14t", "layers": ["layer4"]}

def better_coreset(points, n_select):
    return np.arange(n_select)
"""


def outcome(folder: Path, answers: str | None) -> list[str]:
    """Run the checks on answers; return what pytest says at its end."""
    folder.mkdir()
    for name in ("answers.py", "conftest.py", "test_answers.py"):
        shutil.copyfile(ROOT / "docs" / "exercises" / name, folder / name)
    if answers is not None:
        (folder / "answers.py").write_text(answers, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    command += ["-c", os.devnull, "--rootdir", folder, folder]
    finished = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.stdout.strip().splitlines()[-2:]


def test_right_answers_pass_wrong_ones_fail_and_missing_ones_are_skipped(tmp_path: Path):
    assert outcome(tmp_path / "right", RIGHT)[-1].startswith("17 passed")
    wrong = outcome(tmp_path / "wrong", WRONG)
    assert wrong[-1].startswith("17 failed"), wrong
    why, last = outcome(tmp_path / "empty", None)
    assert last.startswith("17 skipped")
    assert why == "7 tasks have no answer yet: write them in docs/exercises/answers.py"


def test_a_rule_changed_in_a_cell_of_notebook_03_gives_04_another_f1(tmp_path, monkeypatch):
    old, new = re.search(r'write `(rule = "quantile.*?")` for `(.*?)`', TEXT).groups()[::-1]
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    write_mvtec(tmp_path / "data", n_train=16, n_normal=6, n_anomalous=2)

    def run(*names: str) -> dict:
        for name in names:
            run_cells(tmp_path / "notebooks" / f"{name}.ipynb", SMALL, monkeypatch)
        return read_json(tmp_path / "metrics" / "evaluate.json")

    before = run("01_features", "02_coreset", "03_threshold", "04_evaluate")
    notebook = tmp_path / "notebooks" / "03_threshold.ipynb"
    source = notebook.read_text(encoding="utf-8")
    assert source.count(f'"{old}') == 1
    changed = source.replace(f'"{old}', '"' + new.replace('"', '\\"'))
    notebook.write_text(changed, encoding="utf-8")
    after = run("03_threshold", "04_evaluate")
    assert after["threshold"] < before["threshold"]
    assert after["n_flagged"] > before["n_flagged"]
    assert after["f1"] != before["f1"]
    assert after["image_auroc"] == before["image_auroc"]  # no threshold is in it


def test_the_example_of_dvc_from_code_runs(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tag,) = re.findall(r"`git (tag -a \S+ -m) ", TEXT)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")
    dvc = [sys.executable, "-m", "dvc", "init", "--quiet"]
    git = (["init", "--quiet"], ["add", "."], ["commit", "-qm", "x"], [*tag.split(), "x"])
    for command in (["git", *git[0]], dvc, *(["git", *each] for each in git[1:])):
        subprocess.run(command, check=True, capture_output=True)
    exec(example, {})
    said = capsys.readouterr().out
    assert said == f"{Path('artifacts/detector.onnx')} with a coreset ratio of 0.01\n"

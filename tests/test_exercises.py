"""The checks of docs/exercises pass right answers, fail wrong ones and skip missing ones."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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


def outcome(folder: Path, answers: str | None) -> str:
    """Run the checks on answers; return pytest's last line."""
    folder.mkdir()
    for name in ("answers.py", "test_answers.py"):
        (folder / name).write_bytes((ROOT / "docs/exercises" / name).read_bytes())
    if answers is not None:
        (folder / "answers.py").write_text(answers, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    command += ["--noconftest", "-c", os.devnull, "--rootdir", folder, folder]
    finished = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.stdout.strip().splitlines()[-1]


def test_right_answers_pass_wrong_ones_fail_and_missing_ones_are_skipped(tmp_path: Path):
    assert outcome(tmp_path / "right", RIGHT).startswith("17 passed")
    wrong = outcome(tmp_path / "wrong", WRONG)
    assert wrong.startswith("17 failed"), wrong
    assert outcome(tmp_path / "empty", None).startswith("17 skipped")

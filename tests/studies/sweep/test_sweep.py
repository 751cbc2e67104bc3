"""A sweep's rows do not depend on where, in which order or how often they are computed."""

import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from small_data import save_png

from ad.dataset import write_manifest
from ad.files import read_json
from cluster.tasks import task_map
from embedded import render_dataset
from embedded.renderer.defects import DEFECTS
from studies.sweep import table
from studies.sweep.settings import Settings
from studies.sweep.tasks import Task, list_tasks, run_task
from tools.scan import scan
from validation.sections import validate

ROOT = Path(__file__).resolve().parents[3]
GRID = ["coreset.ratio 0.1 0.2 0.3", "cv.threshold max"]
FOLDERS = ("one", "two", "three", "four")
SEEDS = 2
N_TASKS = len(FOLDERS) * 3 * SEEDS
ROWS_OF_RUNS = ("serial", "backwards", "dask", "killed")


def manifest_of(root: Path, name: str) -> Path:
    """Name a folder's manifest as the settings do."""
    found = Settings(folders=[str(root / name)], grid=GRID, seeds=1).names()
    return root / "manifests" / f"{next(iter(found))}.csv"


def draw_category(root: Path, number: int) -> None:
    """Draw a small category of the embedded set: its own seed, counts and kind of defect."""
    kind = list(DEFECTS)[number]
    counts = {"train/good": 6, "test/good": 3 + number, f"test/{kind}": 3}
    for item in render_dataset.plan():
        if item.index < counts.get(item.folder, 0):
            render_dataset.make(item, root, seed=number)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Draw four categories and scan them."""
    root = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render_dataset, "SIZE", 48)
        patch.setattr(render_dataset, "SUPERSAMPLE", 1)
        for number, name in enumerate(FOLDERS):
            draw_category(root / name, number)
            write_manifest(manifest_of(root, name), scan(root / name))
    return root


def tasks_in(folder: Path, rows: str) -> list[Task]:
    """List the tasks of a small sweep."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["image"]["size"], params["cv"]["folds"] = 32, 2
    params["backbone"] |= {"name": "resnet10t", "weights": "random", "layers": ["layer2"]}
    folders = [str(folder / name) for name in FOLDERS]
    own = {"folders": folders, "grid": GRID, "seeds": SEEDS, "cluster": None, "worker_gb": 4.0}
    settings = validate(own, Settings)
    return list_tasks(settings, params, folder / "manifests", folder / rows)


def rows_of(folder: Path, rows: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / rows).glob("*.json"))}


def table_of(folder: Path, tasks: list[Task]) -> bytes:
    """Write the table of a run, as the page does, and read it."""
    rows = table.read_rows([task.path().name for task in tasks], Path(tasks[0].rows))
    table.write_table(folder / "table.csv", rows)
    return (folder / "table.csv").read_bytes()


@pytest.fixture(scope="module")
def serial(folder) -> list[Task]:
    tasks = tasks_in(folder, "serial")
    with task_map() as run:
        assert len(list(run(run_task, tasks))) == N_TASKS
    return tasks


def test_rows_are_the_same_in_any_order_and_are_not_computed_twice(folder, serial):
    tasks = tasks_in(folder, "backwards")[::-5]
    with task_map() as run:
        list(run(run_task, tasks))
    found, expected = rows_of(folder, "backwards"), rows_of(folder, "serial")
    assert found == {task.path().name: expected[task.path().name] for task in tasks}
    marked = serial[0].path()
    before = marked.stat().st_mtime_ns
    assert run_task(serial[0]) == read_json(marked)
    assert marked.stat().st_mtime_ns == before


def kill_workers(rows: Path, after: list[int], killed: list[int]) -> None:
    """Kill a worker with -9, in the middle of its task, each time so many rows are there."""
    for number in after:
        while len(list(rows.glob("*.json"))) < number:  # any order: only counted
            time.sleep(0.02)
        workers = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
        os.kill(workers[-1].pid, signal.SIGKILL)
        killed.append(workers[-1].pid)


@pytest.mark.parametrize("after", [[], [4, 12]], ids=["quiet", "two-kills"])
def test_rows_and_table_are_the_same_on_dask(folder, serial, monkeypatch, after):
    pytest.importorskip("distributed", reason="the extra 'cluster' is missing")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, sys.path)))
    rows, killed = "killed" if after else "dask", []
    tasks = tasks_in(folder, rows)
    watch = threading.Thread(target=kill_workers, args=(folder / rows, after, killed), daemon=True)
    with task_map("local:2") as run:
        watch.start()
        list(run(run_task, tasks))
    assert len(set(killed)) == len(after)
    assert rows_of(folder, rows) == rows_of(folder, "serial")
    assert table_of(folder, tasks) == table_of(folder, serial)


def test_a_damaged_image_names_its_tasks_and_the_others_finish(folder, serial, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*ROWS_OF_RUNS))
    victim = sorted((copy / "two/train/good").iterdir())[0]
    save_png(victim, np.full((32, 32, 3), 255, np.uint8))
    for name in FOLDERS:
        shutil.copyfile(manifest_of(folder, name), manifest_of(copy, name))
    tasks = tasks_in(copy, "rows")
    with task_map() as run, pytest.raises(RuntimeError) as caught:
        list(run(run_task, tasks))
    assert "6 of 24 tasks failed" in str(caught.value)
    assert "two, coreset.ratio=0.1" in str(caught.value)
    assert len(rows_of(copy, "rows")) == 18
    with pytest.raises(FileNotFoundError, match="6 of 24 rows are missing"):
        table.read_rows([task.path().name for task in tasks], copy / "rows")


def test_other_weights_are_refused(serial):
    odd = replace(serial[0], weights="0" * 64, rows=serial[0].rows + "_odd")
    with pytest.raises(ValueError, match="this worker has other weights"):
        run_task(odd)


def test_a_row_s_name_follows_what_it_is_computed_from(serial):
    paths = {task.path() for task in serial}
    assert len(paths) == len(serial)
    first = serial[0]
    assert replace(first, inputs="x").path() != first.path()
    elsewhere = {**first.params, "runtime": {"threads": 7}, "data": {"path": "elsewhere"}}
    assert replace(first, params=elsewhere).path() == first.path()


ROWS = [
    {"folder": f, "coreset.ratio": r, "seed": s, "flagged": 1, "image_auroc": a, "f1": a}
    for f, r, s, a in (
        ("one", 0.1, 0, 0.5), ("one", 0.1, 1, 0.7), ("one", 0.3, 0, 0.8), ("one", 0.3, 1, 0.8),
        ("two", 0.1, 0, 0.9), ("two", 0.1, 1, 0.9), ("two", 0.3, 0, 0.7), ("two", 0.3, 1, 0.9),
    )
]  # fmt: skip


def test_means_are_over_seeds_then_over_folders():
    found = table.means(ROWS, ["coreset.ratio"], "f1")
    assert found["coreset.ratio=0.1"] == pytest.approx({"one": 0.6, "two": 0.9})
    text = table.table(ROWS, ["coreset.ratio"], "f1")
    assert "0.750 (sd 0.212)" in text and "0.800 (sd 0.000)" in text
    words = table.findings(ROWS, ["coreset.ratio"])
    assert "largest with **coreset.ratio=0.3** (0.800)" in words and "in 1 of 2 folders" in words


def test_without_labels_nothing_is_said_of_quality():
    bare = [{k: v for k, v in row.items() if k not in ("f1", "image_auroc")} for row in ROWS]
    assert "Without labels" in table.findings(bare, ["coreset.ratio"])
    assert "F1" not in table.tables(bare, ["coreset.ratio"])


def test_a_grid_of_unknown_parameters_is_refused(folder):
    own = {"folders": [str(folder / "one")], "grid": ["coreset.rato 1"], "seeds": 1}
    settings = validate(own | {"cluster": None, "worker_gb": 1.0}, Settings)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match=r"grid: coreset\.rato is no parameter"):
        list_tasks(settings, params, folder / "manifests", folder / "rows")

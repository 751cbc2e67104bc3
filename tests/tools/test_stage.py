"""A stage whose inputs are edited while it runs fails; a stop is one line and leaves nothing."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.exceptions import ReproductionError
from dvc.repo import Repo

from ad.files import HOST
from tools.parameters import read_stage
from tools.repro import main, remove_torn_locks, reproduce
from tools.stage import stage_command, sweep
from tools.unchanged import LAST, STAGE, inputs_state, refuse_late_edit, unchanged_inputs

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = {
    "stages": {
        "work": {
            "cmd": "python -m tools.run_notebook notebooks/work.ipynb artifacts/work.ipynb",
            "deps": ["ad/work.py", "${data.path}", "artifacts/gone.csv"],
            "params": ["image.size", "seed"],
            "outs": ["artifacts/work.ipynb", "artifacts/result.txt"],
        },
        "each": {"matrix": {"n": [1, 2]}, "cmd": "true", "deps": ["artifacts/${item.n}.csv"]},
    }
}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PARAMS["image"]["size"] = 64
# Says that it runs, waits to be let go, and then writes what it was told.
CELL = """
import os, time
from pathlib import Path
from ad.files import HOST
artifacts = Path("../artifacts")
partial = artifacts / f".result.txt.{HOST}.{os.getpid()}.part"
partial.write_text("half")
deadline = time.monotonic() + 30
while not (artifacts / "go").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
partial.unlink()
(artifacts / "result.txt").write_text(str(image_size))
"""


def cell(source: str, *tags: str) -> dict:
    """Make a notebook's code cell."""
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": tags[0] if tags else "work",
        "metadata": {"tags": list(tags)},
        "outputs": [],
        "source": source,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with a pipeline of one slow stage."""
    root = tmp_path / "repository"
    root.mkdir()
    monkeypatch.chdir(root)
    for name in ("ad", "data", "artifacts", "notebooks"):
        Path(name).mkdir()
    shutil.copytree(ROOT / "tools", "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "validation", "validation", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__", "files", "params", "tiles"):
        shutil.copyfile(ROOT / f"ad/{name}.py", f"ad/{name}.py")
    Path("ad/work.py").write_text("one = 1\n")
    Path("data/a.png").write_bytes(b"1")
    Path("dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    Path("matplotlibrc").touch()
    Path("artifacts/gone.csv").touch()
    cells = [cell("image_size = 1\nseed = 1", "parameters"), cell(CELL)]
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    Path("notebooks/work.ipynb").write_text(json.dumps(notebook))
    return root


def params_with(**changes: object) -> str:
    """Write the parameters with changed sections."""
    return yaml.safe_dump(PARAMS | changes)


def edit_there_and_back() -> None:
    """Change a module and take it back, as 'git stash' and 'git stash pop' do."""
    path = Path("ad/work.py")
    before = path.read_text()
    path.write_text("two = 2\n")
    path.write_text(before)


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (
            lambda: Path("params.yaml").write_text(
                params_with(image=PARAMS["image"] | {"size": 96})
            ),
            "image.size",
        ),
        (lambda: Path("params.yaml").write_text("seed: ["), "params.yaml"),
        (lambda: Path("ad/work.py").write_text("two = 2\n"), "ad/work.py"),
        (edit_there_and_back, "ad/work.py"),
        (lambda: Path("data/b.png").touch(), "data"),
        (lambda: Path("data/a.png").unlink(), "data"),
    ],
)
def test_an_edit_during_the_run_fails_the_stage(folder, monkeypatch, edit, name, one_line):
    monkeypatch.setenv(STAGE, "work")
    with pytest.raises(SystemExit) as caught, unchanged_inputs():
        time.sleep(0.01)
        edit()
    one_line(caught, name, "changed while work ran", "run it again")


def test_an_edit_of_what_the_stage_does_not_use_is_none_of_its_business(folder, monkeypatch):
    monkeypatch.setenv(STAGE, "work")
    with unchanged_inputs():
        Path("params.yaml").write_text(params_with(cv=PARAMS["cv"] | {"folds": 3}))
        Path("ad/params.py").touch()


def test_references_are_resolved(folder):
    assert "data" in read_stage("work")[0]["deps"]
    assert read_stage("each@2")[0]["deps"] == ["artifacts/2.csv"]
    assert inputs_state("work")["params.yaml: image.size"] == 64


def refusal(address: str, *command: str) -> str:
    """Run a stage's command as DVC does; return the one line that it fails with."""
    environment = {**os.environ, STAGE: address, "PYTHONPATH": "."}
    command = [sys.executable, "-m", *command]
    found = subprocess.run(command, env=environment, check=False, text=True, capture_output=True)
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    return found.stderr


@pytest.mark.parametrize("address", ["forensics", "../../dvc.yaml:evaluate"])
@pytest.mark.parametrize(
    "command",
    [
        ("tools.run_notebook", "notebooks/work.ipynb", "artifacts/x.ipynb"),
        ("tools.run_module", "studies.gap.identity"),
    ],
)
def test_dvc_in_a_studys_folder_is_one_line(folder, address: str, command: tuple[str, ...]):
    line = refusal(address, *command)
    assert line.startswith("error: ")
    assert "start DVC in the repository's root" in line


def test_wrong_parameters_of_a_study_are_one_line(folder):
    Path("studies/gap").mkdir(parents=True)
    shutil.copyfile(ROOT / "studies/gap/settings.py", "studies/gap/settings.py")
    Path("studies/gap/params.yaml").write_text("seeds: none\n")
    entry = {"cmd": "true", "params": [{"studies/gap/params.yaml": None}]}
    Path("studies/gap/dvc.yaml").write_text(yaml.safe_dump({"stages": {"forensics": entry}}))
    work = ("tools.run_notebook", "notebooks/work.ipynb", "artifacts/x.ipynb")
    line = refusal("studies/gap/dvc.yaml:forensics", *work)
    assert line.startswith("error: studies/gap/params.yaml: ")


def test_outside_of_dvc_nothing_is_compared(folder, monkeypatch):
    monkeypatch.delenv(STAGE, raising=False)
    with stage_command():
        Path("params.yaml").unlink()


def test_what_a_dead_process_left_half_written_goes(folder):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = Path(f"artifacts/.features.npy.{HOST}.{ended.pid}.part")
    mine = Path(f"artifacts/.features.npy.{HOST}.{os.getpid()}.part")
    elsewhere = Path(f"artifacts/.features.npy.another{HOST}.{ended.pid}.part")
    for path in (left, mine, elsewhere):
        path.touch()
    sweep()
    assert (left.exists(), mine.exists(), elsewhere.exists()) == (False, True, True)


def test_the_notebook_of_a_failure_goes_once_its_stage_has_a_result(folder):
    failed, result = Path("artifacts/work.failed.ipynb"), Path("artifacts/work.ipynb")
    result.touch()
    time.sleep(0.01)
    failed.touch()
    sweep()
    assert failed.exists()  # to be read
    time.sleep(0.01)
    result.touch()
    sweep()
    assert (failed.exists(), result.exists()) == (False, True)


@pytest.mark.parametrize("text", ["", "{", '{"a": [', "\x00\x00"])
def test_a_torn_list_of_locks_goes_and_a_whole_one_stays(tmp_path, text):
    path = tmp_path / "rwlock"
    remove_torn_locks(path)
    path.write_text(text, encoding="utf-8")
    remove_torn_locks(path)
    assert not path.exists()
    path.write_text('{"data": {"write": {"pid": 1}}}', encoding="utf-8")
    remove_torn_locks(path)
    assert path.exists()


def test_a_run_goes_on_after_a_kill_that_tore_the_list_of_locks(tmp_path, monkeypatch):
    """Killed while DVC wrote it: every run ended with 'JSON structure is corrupted'."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"work": {"cmd": "echo 1 > done"}}}))
    Path(".dvc/tmp/rwlock").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit, match="corrupted"):
        reproduce([])
    main([])
    assert Path("done").is_file()


def test_a_run_goes_on_after_a_kill_that_left_an_earlier_runs_folder_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    work = {"cmd": "cp data done", "deps": ["data"], "outs": ["done"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"work": work}}))
    Path("data").write_text("1")
    main([])
    for path in [*Path(".dvc/cache/runs").glob("*/*/*"), Path("dvc.lock"), Path("done")]:
        path.unlink()
    with Repo() as repo, pytest.raises(ReproductionError) as caught:
        repo.reproduce()
    assert isinstance(caught.value.__cause__, TypeError)  # if DVC can do it, this can go
    main([])
    assert Path("done").read_text() == "1"


DEAF = """
import os, signal, subprocess, sys, time
from tools import stage
stage.PATIENCE = 0.5
with stage.stoppable("words"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, flush=True)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(600)
    except KeyboardInterrupt:
        pass  # as a library's callback may
    time.sleep(600)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_a_swallowed_interrupt_ends_the_process_too(folder):
    done = subprocess.run(
        [sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert (done.returncode, done.stderr) == (130, "stopped; words\n")
    assert not psutil.pid_exists(int(done.stdout))


# The same with a kernel, through DVC and without


@pytest.fixture
def dvc(folder: Path) -> Iterator[subprocess.Popen]:
    """Start 'dvc repro' and wait until its notebook runs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": ""}
    environment.pop(STAGE, None)
    quiet = [sys.executable, "-m", "dvc"]
    subprocess.run([*quiet, "init", "--no-scm", "--quiet"], check=True, env=environment)
    process = subprocess.Popen(
        [*quiet, "repro", "work"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(Path("artifacts").glob(".result.txt.*.part")):  # any order: one file
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize("stop", ["interrupt", "end dvc"])
def test_a_stop_is_one_line_and_leaves_nothing(dvc, stop):
    family = psutil.Process(dvc.pid).children(recursive=True)
    assert len(family) >= 2  # the runner and its kernel
    if stop == "interrupt":
        os.killpg(dvc.pid, signal.SIGINT)
    else:
        dvc.terminate()
    output, _ = dvc.communicate(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    assert "Traceback" not in output
    assert output.count("stopped; ") == 1
    assert sorted(p.name for p in Path("artifacts").iterdir()) == ["gone.csv"]
    assert dvc.returncode != 0


def test_an_edit_during_a_run_is_not_recorded(dvc):
    Path("params.yaml").write_text(params_with(image=PARAMS["image"] | {"size": 96}))
    Path("artifacts/go").touch()
    output, _ = dvc.communicate(timeout=60)
    assert dvc.returncode != 0
    assert "params.yaml: image.size changed while work ran" in output
    assert not Path("dvc.lock").exists()
    assert Path("artifacts/result.txt").read_text() == "64"


# Ends before its second command edits what the first has read, once; the others look at it.
LATE = """
from pathlib import Path
from tools.stage import stage_command
with stage_command():
    Path("artifacts/late.txt").write_text(Path("params.yaml").read_text())
"""
EDIT = """
from pathlib import Path
once, edited = Path("once"), Path({name!r})
if not once.exists():
    once.touch()
    edited.write_text(edited.read_text().replace("7", "8"))
"""
AFTER = """
from tools.stage import stage_command
with stage_command():
    pass
"""


@pytest.mark.parametrize("edited", ["params.yaml", "ad/late.py"])
@pytest.mark.parametrize("next_stage", [True, False])
def test_an_edit_between_a_stages_end_and_dvcs_look_is_not_recorded(
    folder, monkeypatch, capfd, edited, next_stage
):
    Path("ad/late.py").write_text("seven = 7\n")
    Path("params.yaml").write_text("seed: 7\ndata: {path: data}\n")
    for name, text in (("late", LATE), ("edit", EDIT.format(name=edited)), ("after", AFTER)):
        Path(f"{name}.py").write_text(text)
    late = {
        "cmd": [f"{sys.executable} late.py", f"{sys.executable} edit.py"],
        "deps": ["ad/late.py"],
        "params": ["seed"],
        "outs": ["artifacts/late.txt"],
    }
    after = {"cmd": f"{sys.executable} after.py", "deps": ["artifacts/late.txt"]}
    stages = {"late": late} | ({"after": after} if next_stage else {})
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.delenv(STAGE, raising=False)
    Repo.init(no_scm=True).close()
    with pytest.raises(SystemExit) as caught:
        main([])
    printed = capfd.readouterr().err
    said = printed if next_stage else str(caught.value)
    assert said.count("changed as late ended") == 1 and "Traceback" not in printed
    assert "late" not in yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert not [path for path in Path(".dvc/cache/runs").rglob("*") if path.is_file()]
    main([])  # runs again, on the edited inputs
    recorded = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["late"]
    assert Path("artifacts/late.txt").read_text() == Path("params.yaml").read_text()
    assert recorded["params"]["params.yaml"]["seed"] == (8 if edited == "params.yaml" else 7)
    assert recorded["deps"][0]["md5"] == hashlib.md5(Path("ad/late.py").read_bytes()).hexdigest()
    assert not LAST.exists()


@pytest.mark.parametrize(
    ("recorded", "late"),
    [
        ({"seed": 0, "image.size": 64}, False),  # edited since, or not: DVC has read the old ones
        ({"seed": 0, "image.size": 96}, True),  # whatever has been edited since
        ({}, False),
    ],
)
def test_a_record_of_other_inputs_than_the_stages_goes(folder, monkeypatch, recorded, late):
    monkeypatch.setenv(STAGE, "work")
    Repo.init(no_scm=True).close()
    with unchanged_inputs():
        pass
    time.sleep(0.01)
    record = {"cmd": "work", "params": {"params.yaml": recorded}} if recorded else {}
    Path("dvc.lock").write_text(
        yaml.safe_dump({"stages": {"work": record, "each@1": {"cmd": "1"}}})
    )
    Path("ad/work.py").write_text("two = 2\n")
    Path("ad/new.py").touch()
    changed = PIPELINE["stages"]["work"] | {"deps": ["ad/new.py", "ad/files.py"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"work": changed}}))
    with pytest.raises(SystemExit) if late else contextlib.nullcontext():
        refuse_late_edit("each@1")
    left = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert ("work" in left, "each@1" in left, LAST.exists()) == (not late, True, False)


# DVC without its own account


@pytest.mark.parametrize(
    ("command", "target", "words"),
    [
        ("echo done", "work", None),
        ("echo its own line; exit 3", "work", 1),
        ("echo done", "nothing", "error: Stage 'nothing' not found"),
        ("echo done", None, "error: "),
    ],
)
def test_a_run_prints_what_its_stages_print_and_one_line_of_dvc(
    tmp_path, monkeypatch, capfd, command, target, words
):
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    pipeline = yaml.safe_dump({"stages": {"work": {"cmd": command}}}) if target else "stages: ["
    Path("dvc.yaml").write_text(pipeline)
    capfd.readouterr()
    with contextlib.nullcontext() if words is None else pytest.raises(SystemExit) as caught:
        reproduce([target] if target else [])
    if words is not None:
        assert str(caught.value).startswith(str(words)) and "\n" not in str(caught.value)
    printed = capfd.readouterr()
    expected = command.removeprefix("echo ").partition(";")[0] if target == "work" else ""
    assert (printed.out.strip(), printed.err) == (expected, "")

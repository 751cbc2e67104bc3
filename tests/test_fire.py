"""Kills and edits at random moments: whatever is taken as good is what an untouched run gives.

A long trial, left out unless AD_FIRE names how many kills there shall be; a third as many edits
follow them: ``AD_FIRE=30 pytest tests/test_fire.py -n 0 -s`` takes about 20 minutes on two cores.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_data import write_mvtec
from test_pipeline import digests, edit, environment, make_repository

KILLS = int(os.environ.get("AD_FIRE", "0"))
STATES = {"a": {"image": {"size": 64}}, "b": {"image": {"size": 96}}}
WAYS = ("whole group", "runner", "a child", "runner, asked", "runner, interrupted")

pytestmark = pytest.mark.skipif(not KILLS, reason="AD_FIRE is not set: a trial of 20 minutes")


def start(folder: Path) -> subprocess.Popen:
    """Start the pipeline in a group of its own; what it says is added to a file beside it."""
    with Path(f"{folder}.log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tools.repro"],
            cwd=folder,
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(folder: Path) -> None:
    """Run what is left."""
    process = start(folder)
    assert process.wait(timeout=300) == 0, Path(f"{folder}.log").read_text(encoding="utf-8")[-2000:]


def children_of(process: subprocess.Popen) -> list[psutil.Process]:
    """List the processes that a run has started."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def strike(process: subprocess.Popen, way: str, generator: random.Random) -> None:
    """Kill a run, or a part of it, and wait until all of it is gone."""
    children = children_of(process)
    if way == "a child" and children:
        generator.choice(children).kill()
    elif way == "runner, asked":
        process.terminate()
    elif way == "runner, interrupted":
        process.send_signal(signal.SIGINT)
    elif way == "runner":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=120)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, f"{way}: {[p.cmdline() for p in alive]} still run"


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> tuple[Path, dict[str, dict[str, str]], float]:
    """Run both states untouched; return the repository, what they leave, and how long one takes."""
    references, seconds = {}, 0.0
    for state, changes in STATES.items():
        folder = make_repository(tmp_path_factory.mktemp("fire") / state)
        write_mvtec(folder / "data")
        edit(folder / "params.yaml", changes)
        begun = time.monotonic()
        finish(folder)
        seconds = time.monotonic() - begun
        references[state] = digests(folder)
    assert references["a"] != references["b"]
    return folder, references, seconds


def other(folder: Path, state: str, *, fresh: bool) -> None:
    """Write a state's parameters; forget the run cache, or all artifacts."""
    edit(folder / "params.yaml", STATES[state])
    for path in sorted((folder / ".dvc/cache/runs").glob("*")) if fresh else []:
        subprocess.run(["rm", "-rf", path], check=True)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_kill_leaves_nothing_wrong(trial, number):
    folder, references, seconds = trial
    generator, state = random.Random(number), "ab"[number % 2]
    other(folder, state, fresh=True)
    way, moment = WAYS[number % len(WAYS)], generator.uniform(0, seconds)
    process = start(folder)
    time.sleep(moment)
    print(f"kill {number}: {way} after {moment:.1f} s of {seconds:.0f}", flush=True)
    strike(process, way, generator)
    finish(folder)
    assert digests(folder) == references[state], f"{way} after {moment:.1f} s"


@pytest.mark.parametrize("number", range(-(-KILLS // 3)))
def test_an_edit_leaves_nothing_wrong(trial, number):
    folder, references, seconds = trial
    generator, state, after = random.Random(1000 + number), "ab"[number % 2], "ba"[number % 2]
    other(folder, state, fresh=True)
    moment = generator.uniform(0, seconds)
    process = start(folder)
    time.sleep(moment)
    other(folder, after, fresh=False)
    print(f"edit {number}: after {moment:.1f} s of {seconds:.0f}", flush=True)
    process.wait(timeout=300)
    finish(folder)
    assert digests(folder) == references[after], f"edited after {moment:.1f} s"
    other(folder, state, fresh=False)  # and back: nothing of the edited run is taken for it
    finish(folder)
    assert digests(folder) == references[state], f"edited after {moment:.1f} s, and back"

"""Tasks give the same results here and on Dask, through lost workers; what fails is one line."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cluster import tasks
from cluster.tasks import code_sha256, task_map


def square(number: int) -> int:
    """Square a number; refuse 3."""
    if number == 3:
        raise ValueError("three is\nrefused")
    return number**2


def square_after_a_death(item: tuple[str, int]) -> int:
    """Kill the own process the first two times, as a full machine would."""
    folder, number = item
    deaths = Path(folder) / f"{number}.deaths"
    if number == 2 and (len(deaths.read_text()) if deaths.exists() else 0) < 2:
        with deaths.open("a") as stream:
            stream.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def slowly(number: int) -> int:
    """Take so long that a scheduler can be killed meanwhile."""
    time.sleep(20)
    return number


def greedy(item: tuple[str, int]) -> int:
    """Hold a gigabyte for number 2, or as much as the worker is given."""
    held = b"x" * (10**9 if item[1] == 2 else 1)
    time.sleep(3 if len(held) > 1 else 0)
    return item[1] ** 2


def process_number(_item: int) -> int:
    """Say where the task runs."""
    return os.getpid()


def slow_with_pid(item: tuple[str, int]) -> int:
    """Say in which process the first item runs, and take a second."""
    if item[1] == 0:
        Path(item[0], f"{os.getpid()}.pid").touch()
    time.sleep(1)
    return item[1] ** 2


def on_a_full_disk(item: tuple[str, int]) -> int:
    """Write to a device that is full, until somebody has made room."""
    full = item[1] == 2 and not Path(item[0], "room").exists()
    with Path("/dev/full" if full else os.devnull).open("wb") as stream:
        stream.write(b"x" * 10**5)
    return item[1] ** 2


def test_here_results_come_in_order_and_a_failure_stops_no_other():
    found = []
    with task_map() as run, pytest.raises(RuntimeError) as caught:
        for result in run(square, [4, 3, 2]):
            found.append(result)
    assert found == [16, 4]
    assert str(caught.value).startswith("1 of 3 tasks failed, the others finished: 3: three")


def test_the_variable_goes_before_the_setting(monkeypatch):
    monkeypatch.setenv(tasks.VARIABLE, "")
    with task_map(None) as run:
        assert list(run(square, [1])) == [1]


def test_nothing_of_dask_is_imported_for_a_run_here():
    code = "import sys, cluster.tasks, studies.sweep.tasks; print('dask' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def scheduler(tmp_path: Path, *, workers: int) -> tuple[str, list[subprocess.Popen]]:
    """Start a scheduler and workers as processes; return the scheduler's file."""
    file = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0"]
    command += ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(command, **quiet)]
    deadline = time.monotonic() + 30
    while not file.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1"]
    worker += ["--scheduler-file", str(file), "--no-dashboard"]
    started += [subprocess.Popen(worker, cwd=tmp_path, **quiet) for _ in range(workers)]
    return str(file), started


@pytest.fixture
def patience(monkeypatch):
    """Wait a short while for what will not come."""
    pytest.importorskip("distributed", reason="the extra 'cluster' is missing")
    from cluster import dask_client

    monkeypatch.setattr(dask_client, "PATIENCE", 5)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, sys.path)))


def one_line(caught: pytest.ExceptionInfo, *words: str) -> None:
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_on_dask_the_same_results_in_the_same_order(patience):
    found = []
    with task_map("local:2") as run, pytest.raises(RuntimeError) as caught:
        for result in run(square, [4, 3, 2, 5]):
            found.append(result)
    assert found == [16, 4, 25]
    one_line(caught, "1 of 4 tasks failed", "3: three is refused")


def test_a_worker_that_is_killed_twice_changes_nothing(patience, tmp_path):
    items = [(str(tmp_path), number) for number in range(5)]
    with task_map("local:2") as run:
        assert list(run(square_after_a_death, items)) == [0, 1, 4, 9, 16]
    assert (tmp_path / "2.deaths").read_text() == "xx"


def test_a_task_that_takes_too_much_memory_is_named_and_the_others_finish(patience, tmp_path):
    items, found = [(str(tmp_path), number) for number in range(4)], []
    with task_map("local:2", memory_gb=0.6) as run, pytest.raises(RuntimeError) as caught:
        for result in run(greedy, items):
            found.append(result)
    assert found == [0, 1, 9]
    one_line(caught, "1 of 4 tasks failed", "its worker was lost again and again")


def freeze_the_first(folder: Path, *, thaw_after: float | None) -> list[int]:
    """Stop the process of the first item as soon as it is known; return its number in a list."""
    stopped: list[int] = []

    def watch() -> None:
        while not (found := sorted(folder.glob("*.pid"))):
            time.sleep(0.05)
        stopped.append(int(found[0].stem))
        os.kill(stopped[0], signal.SIGSTOP)
        if thaw_after is not None:
            time.sleep(thaw_after)
            os.kill(stopped[0], signal.SIGCONT)

    threading.Thread(target=watch, daemon=True).start()
    return stopped


def test_a_frozen_worker_that_thaws_changes_nothing(patience, tmp_path):
    items = [(str(tmp_path), number) for number in range(4)]
    with task_map("local:2") as run:
        stopped = freeze_the_first(tmp_path, thaw_after=3)
        assert list(run(slow_with_pid, items)) == [0, 1, 4, 9]
    assert stopped


@pytest.mark.parametrize("stay", [False, True])
def test_a_worker_that_stays_frozen_loses_its_tasks(patience, tmp_path, stay, monkeypatch):
    from cluster import dask_client

    monkeypatch.setattr(dask_client, "FROZEN", 4)
    monkeypatch.setattr(dask_client, "CHECK", 1)
    items = [(str(tmp_path), number) for number in range(4)]
    with task_map("local:2") as run:
        stopped = freeze_the_first(tmp_path, thaw_after=None)
        assert list(run(slow_with_pid, items, stay=stay)) == [0, 1, 4, 9]
        with contextlib.suppress(ProcessLookupError):  # Dask may have ended it
            os.kill(stopped[0], signal.SIGKILL)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_a_line_and_a_second_run_goes_on(patience, tmp_path):
    items = [(str(tmp_path), number) for number in range(4)]
    with task_map("local:2") as run, pytest.raises(RuntimeError) as caught:
        list(run(on_a_full_disk, items))
    one_line(caught, "1 of 4 tasks failed", "No space left on device")
    (tmp_path / "room").touch()
    with task_map("local:2") as run:
        assert list(run(on_a_full_disk, items)) == [0, 1, 4, 9]


def test_an_item_stays_with_its_worker(patience, tmp_path):
    with task_map("local:2") as run:
        before, after = (list(run(process_number, range(6), stay=True)) for _ in range(2))
    assert before == after and before[0] == before[2] != before[1]


def test_no_scheduler_and_no_worker_are_a_line(patience, tmp_path):
    with pytest.raises(ConnectionError) as caught, task_map("tcp://127.0.0.1:9"):
        pass
    one_line(caught, "tcp://127.0.0.1:9", "no scheduler with a worker within 5 s", "dask worker")
    with pytest.raises(ConnectionError) as caught, task_map(str(tmp_path / "typo.json")):
        pass
    one_line(caught, "typo.json", "no such file")
    file, started = scheduler(tmp_path, workers=0)
    try:
        with pytest.raises(ConnectionError) as caught, task_map(file):
            pass
        one_line(caught, "no scheduler with a worker")
    finally:
        for process in started:
            process.kill()


def test_a_lost_scheduler_is_a_line(patience, tmp_path):
    file, started = scheduler(tmp_path, workers=1)
    try:
        with pytest.raises(ConnectionError) as caught, task_map(file) as run:
            results = run(slowly, [1, 2])
            threading.Timer(3, started[0].kill).start()
            next(results)
        one_line(caught, "the scheduler is gone")
    finally:
        for process in started:
            process.kill()


def test_workers_that_are_gone_for_good_are_a_line(patience, tmp_path, monkeypatch):
    from cluster import dask_client

    monkeypatch.setattr(dask_client, "CHECK", 1)
    file, started = scheduler(tmp_path, workers=1)
    try:
        with pytest.raises(ConnectionError) as caught, task_map(file) as run:
            results = run(slowly, [1, 2])
            threading.Timer(2, started[1].kill).start()
            next(results)
        one_line(caught, "no worker for 5 s", "start some, and run again")
    finally:
        for process in started:
            process.kill()


def test_a_worker_with_other_code_is_refused(patience):
    from cluster.dask_client import guarded

    assert guarded(square, 2, code_sha256()) == (True, 4)
    done, words = guarded(square, 2, "0" * 64)
    assert not done and "another version of the code" in words

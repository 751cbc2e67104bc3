"""New images of a folder: whole ones, each once, whatever happens to files, disk and process."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ad import files
from ad.detector import watch
from ad.detector.command import main
from ad.detector.detector import Detector
from ad.detector.inspector import PASSED, REJECTED, UNREADABLE, WRONG, Inspector
from ad.detector.output import Outputs
from ad.detector.watch import Results, Watch

unix = pytest.mark.skipif(os.name == "nt", reason="signals and names of Unix")


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in (("POLL", 0.0), ("SETTLED", 0.0), ("PATIENCE", 0.05)):
        monkeypatch.setattr(watch, name, seconds)


def watched(case: Path, folder: Path, results: Path, go_on, **where) -> Inspector:
    """Watch in this process, for so many looks or as long as a callable says."""
    inspector, kept = Inspector(Detector.load(case, threads=1)), Results(results)
    left = iter(range(go_on)) if isinstance(go_on, int) else iter(go_on, False)
    with closing(kept), closing(Outputs(earlier=kept.rows(), **where)) as outputs:
        watch_ = Watch(inspector, folder, kept, outputs)
        for _ in left:
            watch_.look()
    return inspector


def rows_of(results: Path) -> list[dict]:
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def test_each_image_is_taken_once_also_after_a_restart(case, images, tmp_path, quick, capsys):
    folder, results = tmp_path / "in", tmp_path / "r.jsonl"
    shutil.copytree(images, folder / "sub")
    watched(case, folder, results, 3)
    assert len(rows_of(results)) == 4
    with results.open("ab") as stream:
        stream.write(b'{"id": "cut off by a kill or a loss of power\0\0')
    shutil.copyfile(images / "normal_0.png", folder / "later.png")
    watched(case, folder, results, 3, report=tmp_path / "report")
    rows = rows_of(results)
    assert [row["file"] for row in rows[4:]] == ["later.png"]
    assert rows[0]["file"] == "sub/defect_0.png"
    said = capsys.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == rows
    assert said.err.count("the last line was torn") == 1
    # The CSV file and the page are made from all results, those before the restart too.
    sheet = (tmp_path / "report" / "results.csv").read_text(encoding="utf-8-sig")
    assert sheet.count("\n") == 1 + 5
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "5 pictures inspected, 2 did not pass" in page


def test_a_growing_image_waits_and_a_damaged_one_is_said_once(case, images, tmp_path, quick):
    folder, results = tmp_path / "in", tmp_path / "r.jsonl"
    content = (images / "normal_0.png").read_bytes()
    folder.mkdir()
    (folder / "growing.png").write_bytes(content[: len(content) // 2])
    watched(case, folder, results, 2)
    assert rows_of(results) == []  # it may still grow
    (folder / "growing.png").write_bytes(content)
    inspector = watched(case, folder, results, 3)
    assert [("error" in row, row["file"]) for row in rows_of(results)] == [(False, "growing.png")]
    assert inspector.exit_code() == PASSED  # that it could not be read for a while does not count
    (folder / "damaged.png").write_bytes(content[:40])
    until = time.monotonic() + 60  # a busy machine may look seldom
    watched(case, folder, results, lambda: len(rows_of(results)) < 2 and time.monotonic() < until)
    watched(case, folder, results, 3)  # and looks again say nothing more
    assert [("error" in row, row["file"]) for row in rows_of(results)[1:]] == [
        (True, "damaged.png")
    ]


def test_results_of_something_else_are_not_overwritten(tmp_path):
    notes, whole = tmp_path / "notes.txt", '{"id": "a", "file": "a", "mark": [1, 2]}\n'
    for number, text in ((1, "mine\n"), (1, "mine, without an end"), (2, whole + "mine")):
        notes.write_text(text, encoding="utf-8")
        for _ in range(2):  # nor is the file left locked
            with pytest.raises(ValueError, match=rf"notes\.txt, line {number}: no result"):
                Results(notes)
        assert notes.read_text(encoding="utf-8") == text


def test_a_second_watch_on_the_same_files_is_refused(case, images, tmp_path, capsys):
    results, state = tmp_path / "r.jsonl", tmp_path / "state.json"
    held = Results(results)
    arguments = ["--watch", str(images), "--results", str(results)]
    assert main([str(case), *arguments]) == WRONG
    assert "r.jsonl: another process writes this file" in capsys.readouterr().err
    held.close()
    first = Inspector(Detector.load(case, threads=1), drift=0.01, state=state)
    assert main([str(case), str(images), "--drift", "0.01", "--state", str(state)]) == WRONG
    assert "state.json.lock: another process" in capsys.readouterr().err
    first.close()
    assert main([str(case), str(images), "--drift", "0.01", "--state", str(state)]) == REJECTED


def test_a_disk_full_for_a_moment_loses_nothing(case, images, tmp_path, quick, monkeypatch, capsys):
    """Every third write takes a part of a line, and the next fails."""
    write, calls = os.write, []

    def full(descriptor: int, content: bytes) -> int:
        calls.append(len(content))
        if len(calls) % 3 == 1:
            return write(descriptor, bytes(content)[:20])
        if len(calls) % 3 == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(files.os, "write", full)
    watched(case, images, tmp_path / "r.jsonl", 2)
    names = sorted(path.name for path in images.iterdir())
    assert sorted(row["file"] for row in rows_of(tmp_path / "r.jsonl")) == names
    assert "no space left on the disk; nothing is lost" in capsys.readouterr().err
    assert len(calls) == 3 * 4


@pytest.mark.parametrize(("taken", "left"), [(2, b"one\n"), (4, b"one\ntwo\n")])
def test_a_stop_within_a_line_takes_it_back_and_one_after_it_does_not(
    tmp_path, monkeypatch, taken, left
):
    descriptor, write = files.open_alone(tmp_path / "r"), os.write
    files.append_whole(descriptor, b"one\n")

    def stopped(_descriptor: int, _content: bytes = b"") -> None:
        raise KeyboardInterrupt

    def partly(descriptor: int, content: bytes) -> int:
        monkeypatch.setattr(files.os, "write", stopped)
        return write(descriptor, bytes(content)[:taken])

    monkeypatch.setattr(files.os, "write", partly)
    monkeypatch.setattr(files.os, "fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        files.append_whole(descriptor, b"two\n")
    assert (tmp_path / "r").read_bytes() == left
    with pytest.raises(BlockingIOError, match="another process writes this file"):
        files.open_alone(tmp_path / "r")
    os.close(descriptor)
    os.close(files.open_alone(tmp_path / "r"))


def test_finished_files_cost_little_and_new_ones_are_seen(tmp_path, monkeypatch):
    """A folder is listed for a while after it changed, and looked at whole once in a while."""
    clock, listed = [1000.0], []
    entries_of = watch.entries_of
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(watch, "entries_of", lambda *how: listed.append(how[0]) or entries_of(*how))
    for name in ("a/1.png", "b/2.png", "b/c/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    folder = watch.Folder(tmp_path)

    def look(after: float) -> tuple[list[str], int]:
        clock[0] += after
        listed.clear()
        names = [Path(path).relative_to(tmp_path).as_posix() for path in folder.look()]
        folder.finished |= {str(tmp_path / name): (0, 0) for name in names}
        return names, len(listed)

    assert look(0) == (["a/1.png", "b/2.png", "b/c/3.png"], 4)
    assert look(1) == ([], 0)  # four times of change are all it looked at
    assert look(watch.AGAIN) == ([], 4)  # once more: a time of change may be coarse
    assert look(0.2) == ([], 0)
    (tmp_path / "b/c/4.png").write_bytes(b"")
    assert look(0.2) == (["b/c/4.png"], 1)
    (tmp_path / "b/d").mkdir()
    (tmp_path / "b/d/5.png").write_bytes(b"")
    shutil.rmtree(tmp_path / "a")
    assert look(0.2)[0] == ["b/d/5.png"]
    assert look(watch.WHOLE)[0] == ["b/2.png", "b/c/3.png", "b/c/4.png", "b/d/5.png"]


def test_an_image_written_anew_is_taken_again(case, images, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(watch, "WHOLE", 0.1)
    folder, results, until = tmp_path / "in", tmp_path / "r.jsonl", time.monotonic() + 20
    folder.mkdir()
    target = shutil.copyfile(images / "normal_0.png", folder / "a.png")

    def go_on() -> bool:
        seen = len(rows_of(results))
        if seen == 1 and target.stat().st_size == (images / "normal_0.png").stat().st_size:
            target.write_bytes((images / "defect_0.png").read_bytes())
        return seen < 2 and time.monotonic() < until

    watched(case, folder, results, go_on)
    assert [row["decision"] for row in rows_of(results)] == ["pass", "reject"]


def test_what_is_passed_over_and_a_folder_that_is_away_are_said(case, tmp_path, quick, capsys):
    folder, count = tmp_path / "in", []
    folder.mkdir()
    for name in ("a.webp", "b.webp", "c.txt"):
        (folder / name).write_bytes(b"")

    def go_on() -> bool:
        count.append(None)
        if len(count) == 3:
            folder.rename(tmp_path / "away")
        if len(count) == 5:
            (tmp_path / "away").rename(folder)
        return len(count) < 8

    watched(case, folder, tmp_path / "r.jsonl", go_on)
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == f"note: passed over in {folder}: .txt, .webp"
    assert rest == [f"note: {folder} is away; waiting for it", f"note: {folder} is back"]


NAMES = ["plain", "정상", "a\nb", "  ", "=1", "\\x41", "-o", "d/x", "\udcff"]  # the last: no UTF-8
WAYS = {"copied": 0.4, "moved": 0.2, "grown": 0.2, "vanished": 0.1, "damaged": 0.1}


@unix
def test_under_fire_every_whole_image_has_exactly_one_result(case, images, tmp_path):
    """Kills, a second watch, odd names; images grow, vanish, are damaged, are moved in."""
    folder, results, part_file = tmp_path / "in", tmp_path / "r.jsonl", tmp_path / "x.part"
    folder.mkdir()
    source = [path.read_bytes() for path in sorted(images.iterdir())]
    program = [sys.executable, "-m", "ad.inspect", case, "--watch", folder, "--results", results]
    program += ["--report", tmp_path / "report", "--threads", "1"]
    rng, whole, damaged = np.random.default_rng(0), set(), set()

    def started() -> subprocess.Popen:
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": Path.cwd()}
        return subprocess.Popen([str(each) for each in program], **how)

    def arrive(number: int) -> None:
        content, name = source[number % 4], f"{NAMES[number % len(NAMES)]}{number}.png"
        target, shown = folder / name, os.fsencode(name).decode("utf-8", "backslashreplace")
        target.parent.mkdir(exist_ok=True)
        way = rng.choice(list(WAYS), p=list(WAYS.values()))
        if way == "moved":
            part_file.write_bytes(content)
            part_file.rename(target)
        elif way == "grown":
            with target.open("wb", buffering=0) as stream:
                for start in range(0, len(content), 1000):
                    stream.write(content[start : start + 1000])
                    time.sleep(0.005)
        else:
            target.write_bytes(content[: len(content) // 2] if way == "damaged" else content)
        if way == "vanished":
            target.unlink()
        else:
            (damaged if way == "damaged" else whole).add(shown)

    for part in range(4):
        process = started()
        for number in range(part * 75, part * 75 + 75):
            arrive(number)
            time.sleep(float(rng.uniform(0, 0.01)))
        goal = len(whole | damaged) if part == 3 else part * 60 + 20
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if results.exists() and results.read_bytes().count(b"\n") >= goal:
                break
            time.sleep(0.02)
        if part == 1:
            second = started()
            assert b"another process writes this file" in second.communicate(timeout=30)[1]
            assert second.returncode == WRONG
        process.send_signal(signal.SIGKILL if part < 3 else signal.SIGTERM)
        words = process.communicate(timeout=30)[1]
    assert process.returncode == UNREADABLE, words
    rows = rows_of(results)
    assert sorted(row["file"] for row in rows) == sorted(whole | damaged)
    assert {row["file"] for row in rows if "error" in row} == damaged
    sheet = (tmp_path / "report" / "results.csv").read_text(encoding="utf-8-sig")
    assert sheet.count(",pass,") + sheet.count(",reject,") == len(whole)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert f"{len(rows)} pictures inspected" in page

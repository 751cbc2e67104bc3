"""The command: lines, tables, files and exit codes; no input and no output ends it unsaid."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from ad.detector import command
from ad.detector.detector import Detector
from ad.detector.inspector import CHANGED, NOTHING, PASSED, REJECTED, UNREADABLE, WRONG
from ad.determinism import cpu_quota

unix = pytest.mark.skipif(os.name == "nt", reason="names, pipes and devices of Unix")


def run(case: Path, capsys, *arguments: object) -> tuple[int, list[dict], str]:
    """Run the command; return its code, its lines and what it said on stderr."""
    code = command.main([str(case), *map(str, arguments)])
    said = capsys.readouterr()
    return code, [json.loads(line) for line in said.out.splitlines()], said.err


def shell(case: Path, arguments: str, **more) -> subprocess.CompletedProcess:
    """Run the command by a shell, as a process of its own; ``$A`` is the command with detector."""
    start = {"A": f"{sys.executable} -m ad.inspect {case}", "PYTHONPATH": str(Path.cwd())}
    how = {"shell": True, "capture_output": True, "timeout": 60, "executable": "/bin/bash"}
    environment = os.environ | start | more.pop("env", {})
    return subprocess.run(arguments, env=environment, **how | more)


def test_a_line_an_image_and_the_exit_code(case, images, capsys):
    code, rows, _ = run(case, capsys, images)
    assert code == REJECTED
    names = ["defect_0", "defect_1", "normal_0", "normal_1"]
    assert [Path(row["id"]).stem for row in rows] == names
    assert [row["decision"] for row in rows] == ["reject", "reject", "pass", "pass"]
    expected = Detector.load(case).score(images / "defect_0.png")
    assert (rows[0]["score"], rows[0]["sha256"]) == (expected.score, expected.sha256)
    first = expected.regions[0]
    own = {"box": list(first.box), "area": first.area, "score": first.score, "share": first.share}
    assert rows[0]["regions"][0] == own and rows[0]["size"] == [48, 48]
    assert run(case, capsys, images / "normal_0.png")[0] == PASSED


@unix
def test_what_cannot_be_read_is_a_line_and_the_rest_goes_on(case, images, capsys, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "damaged.png").write_bytes(b"no image")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    shutil.copyfile(images / "normal_0.png", tmp_path / "in" / "last.png")
    os.mkfifo(tmp_path / "pipe.png")  # waiting for it would take for ever
    given = [tmp_path / "in", tmp_path / "pipe.png", tmp_path / "none.png", "/dev/zero", "x" * 300]
    code, rows, _ = run(case, capsys, *given)
    errors = {Path(row["id"]).stem: row["error"] for row in rows if "error" in row}
    assert code == UNREADABLE
    assert list(errors) == ["damaged", "gone", "pipe", "none", "zero", "x" * 300]
    assert all(0 < len(text) < 600 and text.isprintable() for text in errors.values())
    assert "no such file or folder" in errors["none"]
    assert [row["decision"] for row in rows if "error" not in row] == ["pass"]


@pytest.mark.parametrize("error", [TypeError("x"), MemoryError(), RecursionError("\x1b[2J\n")])
def test_any_exception_of_an_image_is_its_line(case, images, capsys, monkeypatch, error):
    def score(self, path):
        raise error

    monkeypatch.setattr(Detector, "score", score)
    code, rows, _ = run(case, capsys, images)
    assert code == UNREADABLE and len(rows) == 4
    assert all(row["error"] and row["error"].isprintable() for row in rows)


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        ([], "(no images)"),
        (["a.webp", "b.webp"], "passed over: .webp, "),
        (["notes"], "names without an ending"),
        ([".a/b.png", "@eaDir/a.png"], "what is hidden"),
    ],
)
def test_nothing_inspected_is_not_all_passed(case, images, capsys, tmp_path, names, kinds):
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(images / "normal_0.png", tmp_path / "in" / name)
    code, rows, said = run(case, capsys, tmp_path / "in")
    assert (code, rows) == (NOTHING, []) and "nothing was inspected" in said
    assert kinds in said
    code, _, said = run(case, capsys, tmp_path / "in", images / "normal_0.png")
    assert code == PASSED and "passed over" in said


@unix
def test_paths_from_standard_input(case, images, tmp_path):
    """Blank lines are not the working folder, CR LF ends a line, a name need not be UTF-8."""
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    shutil.copyfile(images / "normal_0.png", odd)
    lines = b"\n  \r\n" + os.fsencode(images / "normal_1.png") + b"\r\n" + odd + b"\n"
    done = shell(case, "$A -", input=lines, cwd=images)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == PASSED, done.stderr
    assert [Path(row["id"]).name for row in rows] == ["normal_1.png", "\\xff.png"]
    assert shell(case, "$A -", input=b"\n\n", cwd=images).returncode == NOTHING


def test_the_table_has_a_header_and_prints_no_control_characters(case, images, capsys, tmp_path):
    name = "a\x1b[31m\r\nreject \u202egnp.png"
    shutil.copyfile(images / "defect_0.png", tmp_path / name)
    (tmp_path / "b\x1b.png").write_bytes(b"")
    assert command.main([str(case), str(tmp_path), "--table"]) == UNREADABLE
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["decision", "score", "p-value", "share", "ms"] and len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("reject") and r"a\x1b[31m\r\nreject \u202egnp.png" in lines[0]
    assert header.index("image") == lines[0].index(str(tmp_path))
    rows = run(case, capsys, tmp_path)[1]
    assert Path(rows[0]["id"]).name == name  # JSON holds it all, in ASCII


@unix
def test_output_that_a_code_page_lacks_is_escaped(case, images, tmp_path):
    shutil.copyfile(images / "normal_0.png", tmp_path / "정상.png")
    for table in ("", "--table"):
        done = shell(case, f"$A {table} {tmp_path}", env={"PYTHONIOENCODING": "ascii"})
        assert done.returncode == PASSED and rb"\uc815\uc0c1.png" in done.stdout


@unix
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("$A images images images | head -1; exit ${PIPESTATUS[0]}", b"nobody reads the output"),
        ("$A images > /dev/full", b"No space left"),
        ("$A images --maps normal.png", b"File exists"),
        ("$A images --drift 0.1 --state .", b"directory"),
        ("$A images --report /proc/none", b"/proc/none"),
    ],
)
def test_what_ends_the_command_is_one_line_and_its_own_code(case, images, tmp_path, line, words):
    (tmp_path / "images").symlink_to(images)
    for name in ("normal.png", "nowhere.png"):
        (tmp_path / name).write_bytes(b"")
    done = shell(case, line, cwd=tmp_path)
    assert done.returncode == WRONG, done.stderr
    assert words in done.stderr and done.stderr.count(b"\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("error", "words"), [(KeyError("x"), "'x'"), (KeyboardInterrupt(), "stopped before the end")]
)
def test_neither_a_fault_nor_a_stop_is_a_rejection(case, images, capsys, monkeypatch, error, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Detector, "load" if isinstance(error, KeyError) else "rgb", fail)
    code, rows, said = run(case, capsys, images)
    assert (code, rows, said) == (WRONG, [], f"error: {words}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give images"),
        (["x.png", "--watch", "."], "give images"),
        (["x.png", "--alarm", "0.001"], "at least 999 held-out normal images"),
        (["x.png", "--review", "nan"], "--review=nan"),
        (["x.png", "--alarm", "0.2", "--review", "0.1"], "must not be below"),
        (["x.png", "--drift", "2"], "--drift=2.0"),
        (["x.png", "--state", "s"], "--state"),
        (["x.png", "--results", "r"], "--results is of --watch"),
        (["x.png", "--threads", "0"], "threads=0"),
        (["x.png", "--maps", "m", "--report", "r"], "--maps or --report"),
        (["x.png", "--expect", "0" * 64], "not the one expected"),
        (["--watch", "nowhere"], "no such folder"),
        ([".", "--maps", "maps"], "lies inside"),
        (["--watch", ".", "--report", "report"], "lies inside"),
    ],
)
def test_wrong_use_is_one_line(case, capsys, arguments, words):
    code, rows, said = run(case, capsys, *arguments)
    assert (code, rows) == (WRONG, [])
    assert words in said and said.count("\n") == 1


def test_rates_reject_and_ask_to_look_again(case, images, capsys):
    code, rows, _ = run(case, capsys, images, "--alarm", 1 / 31, "--review", 0.9999)
    assert code == REJECTED
    assert [row["decision"] for row in rows[:2]] == ["reject", "reject"]
    assert all(row["decision"] in ("pass", "review") for row in rows[2:])


def test_maps_of_one_name_or_a_long_one_lie_below_their_folder(case, images, capsys, tmp_path):
    given = {"a/0.png": "defect_0", "b/0.png": "normal_0", f"{'n' * 240}.png": "normal_0"}
    for name, source in given.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images / f"{source}.png", tmp_path / "in" / name)
    maps = tmp_path / "maps"
    code, rows, _ = run(case, capsys, tmp_path / "in", "--maps", maps)
    assert code == REJECTED
    written = [Path(row["map"]) for row in rows]
    assert sorted(maps.iterdir()) == sorted(written) and len(set(written)) == 3
    assert written[0].read_bytes() != written[1].read_bytes()


def test_a_map_that_fails_is_a_note_in_its_line(case, images, capsys, tmp_path, monkeypatch):
    def overlay(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Detector, "overlay", overlay)
    code, rows, _ = run(case, capsys, images, "--maps", tmp_path)
    assert code == REJECTED and all("no space" in row["map_error"] for row in rows)
    assert [row["decision"] for row in rows] == ["reject", "reject", "pass", "pass"]


def test_a_report_shows_what_did_not_pass_and_a_csv_all(case, images, capsys, tmp_path):
    name = '<img src=x onerror="alert(1)">.png'
    (tmp_path / "in").mkdir()
    for source, target in (("defect_0", name), ("defect_1", "%41 #.png"), ("normal_0", "0.png")):
        shutil.copyfile(images / f"{source}.png", tmp_path / "in" / target)
    (tmp_path / "in" / "damaged.png").write_bytes(b"")
    run(case, capsys, tmp_path / "in", "--report", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "4 pictures inspected, 3 did not pass" in page and "<img src=x" not in page
    assert page.count("<img loading") == 2 and "damaged.png: cannot be decoded" in page
    links = [unquote(link) for link in re.findall(r'src="maps/([^"]+)"', page)]
    maps = sorted(path.name for path in (tmp_path / "report" / "maps").iterdir())
    assert sorted(links) == maps  # of two pictures
    with (tmp_path / "report" / "results.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = {Path(row["id"]).name: row for row in csv.DictReader(stream)}
    assert set(rows) == {name, "%41 #.png", "0.png", "damaged.png"}
    flagged, passed = rows["%41 #.png"], rows["0.png"]
    assert float(flagged["share"]) > 1 and int(flagged["right"]) > int(flagged["left"])
    assert (passed["decision"], passed["left"]) == ("pass", "")
    assert "cannot be decoded" in rows["damaged.png"]["error"]


@unix
def test_no_cell_of_the_csv_is_a_formula(case, images, tmp_path):
    """An id is a path, so a folder before it changes nothing but how a spreadsheet reads it."""
    for name in ("=1+1.png", "+1.png", "@a.png"):
        shutil.copyfile(images / "normal_0.png", tmp_path / name)
    done = shell(case, "$A --report r '=1+1.png' +1.png @a.png =none.png", cwd=tmp_path)
    assert done.returncode == UNREADABLE
    text = (tmp_path / "r" / "results.csv").read_text(encoding="utf-8-sig")
    cells = text.replace("\n", ",").split(",")
    assert {"./=1+1.png", "./+1.png", "./@a.png"} <= set(cells)
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@"))]


def test_the_command_says_that_images_have_changed(case, images, capsys, tmp_path):
    names = [images / "defect_0.png"] * 60
    state = tmp_path / "state.json"
    code, rows, said = run(case, capsys, *names, "--drift", 0.01, "--state", state)
    assert code == CHANGED
    assert "no longer like the training images" in said
    assert "changed" in rows[-1] and "changed" not in rows[0]
    seen = json.loads(state.read_text(encoding="utf-8"))["seen"]
    run(case, capsys, images, "--drift", 0.01, "--state", state)
    assert json.loads(state.read_text(encoding="utf-8"))["seen"] == seen + 4


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/a/b", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "max 100000"}, 0.5),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
        ("0::/host/path", {"cpu.max": "150000 100000"}, 1.5),  # a container sees its own as root
        ("4:cpu,cpuacct:/d", {"cpu,cpuacct/d/cpu.cfs_quota_us": "300000\n",
                              "cpu,cpuacct/d/cpu.cfs_period_us": "100000\n"}, 3),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        (None, {}, math.inf),
    ],
)  # fmt: skip
def test_quotas_of_containers_bound_the_cores(tmp_path, groups, files, cores):
    for name, text in files.items():
        (tmp_path / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/fs/cgroup" / name).write_text(text, encoding="utf-8")
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups + "\n", encoding="utf-8")
    assert cpu_quota(tmp_path) == cores

"""The command: lines, tables, exit codes; new images of a folder, each once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from line_case import write_case

from ad.detector import command, watch
from ad.detector.detector import Detector
from ad.detector.drift import Drift
from ad.detector.inspector import CHANGED, PASSED, REJECTED, UNREADABLE, WRONG, Inspector, Rates

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    return write_case(tmp_path_factory.mktemp("case"))


def run(case: Path, capsys, *arguments: object) -> tuple[int, list[dict], str]:
    """Run the command; return its code, its lines and what it said on stderr."""
    code = command.main([str(case), *map(str, arguments)])
    said = capsys.readouterr()
    return code, [json.loads(line) for line in said.out.splitlines()], said.err


def test_a_line_an_image_and_the_exit_code(case, capsys):
    images = case.parent / "images"
    code, rows, _ = run(case, capsys, images)
    assert code == REJECTED
    assert [Path(row["id"]).stem for row in rows] == [
        "defect_0",
        "defect_1",
        "normal_0",
        "normal_1",
    ]
    assert [row["decision"] for row in rows] == ["reject", "reject", "pass", "pass"]
    expected = Detector.load(case).score(images / "defect_0.png")
    assert (rows[0]["score"], rows[0]["sha256"]) == (expected.score, expected.sha256)
    assert run(case, capsys, images / "normal_0.png")[0] == PASSED


def test_a_damaged_image_is_a_line_and_the_rest_goes_on(case, capsys, tmp_path):
    shutil.copytree(case.parent / "images", tmp_path / "images")
    (tmp_path / "images" / "damaged.png").write_bytes(b"no image")
    code, rows, _ = run(case, capsys, tmp_path / "images", tmp_path / "none.png")
    assert code == UNREADABLE
    errors = [row for row in rows if "error" in row]
    assert len(rows) == 6 and len(errors) == 2
    assert all("\n" not in row["error"] for row in errors)


def test_paths_from_standard_input_a_table_and_maps(case, capsys, tmp_path, monkeypatch):
    paths = sorted((case.parent / "images").iterdir())
    lines = [f"{path}\n" for path in paths]
    monkeypatch.setattr("sys.stdin", iter(lines))
    code = command.main([str(case), "-", "--table", "--maps", str(tmp_path / "maps")])
    out = capsys.readouterr().out.splitlines()
    assert code == REJECTED and len(out) == 4
    assert out[0].startswith("reject") and out[3].startswith("pass")
    written = sorted(path.name for path in (tmp_path / "maps").rglob("*.png"))
    assert written == [f"{path.name}.png" for path in paths]


def test_rates_reject_and_ask_to_look_again(case, capsys):
    images = case.parent / "images"
    code, rows, _ = run(case, capsys, images, "--alarm", 0.04, "--review", 0.9999)
    assert code == REJECTED
    assert [row["decision"] for row in rows[:2]] == ["reject", "reject"]
    assert all(row["decision"] in ("pass", "review") for row in rows[2:])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give images"),
        (["x.png", "--watch", "y"], "give images"),
        (["x.png", "--alarm", "0.001"], "at least 999"),
        (["x.png", "--alarm", "0.2", "--review", "0.1"], "must not be below"),
        (["x.png", "--drift", "2"], "--drift=2.0"),
        (["x.png", "--state", "s"], "--state"),
        (["--watch", "nowhere"], "no such folder"),
    ],
)
def test_wrong_use_is_one_line(case, capsys, arguments, words):
    code, rows, said = run(case, capsys, *arguments)
    assert (code, rows) == (WRONG, [])
    assert words in said and said.count("\n") == 1


def inspector(case: Path, **how) -> Inspector:
    return Inspector(Detector.load(case, threads=1), Rates(), **how)


def looks(n: int):
    """Go on for n looks."""
    left = iter(range(n))
    return lambda: next(left, None) is not None


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(watch, "POLL", 0.0)
    monkeypatch.setattr(watch, "SETTLED", 0.0)
    monkeypatch.setattr(watch, "PATIENCE", 0.05)


def test_a_watch_takes_each_image_once_also_after_a_restart(case, tmp_path, quick):
    folder, results = tmp_path / "in", tmp_path / "r.jsonl"
    shutil.copytree(case.parent / "images", folder)
    seen: list[dict] = []
    how = {"show": seen.append}
    watch.watch_folder(inspector(case), folder, results, **how, go_on=looks(3))
    assert len(seen) == 4
    with results.open("ab") as stream:
        stream.write(b'{"id": "cut off by a kill')
    shutil.copyfile(folder / "normal_0.png", folder / "later.png")
    watch.watch_folder(inspector(case), folder, results, **how, go_on=looks(3))
    assert [row["file"] for row in seen[4:]] == ["later.png"]
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert rows == seen


def test_a_growing_image_waits_and_a_damaged_one_is_said_once(case, tmp_path, quick):
    folder, content = tmp_path / "in", (case.parent / "images/normal_0.png").read_bytes()
    folder.mkdir()
    growing = folder / "growing.png"
    growing.write_bytes(content[: len(content) // 2])
    seen: list[dict] = []
    watching = inspector(case)
    how = {"show": seen.append}
    watch.watch_folder(watching, folder, None, **how, go_on=looks(2))
    assert seen == []  # it may still grow
    growing.write_bytes(content)
    watch.watch_folder(watching, folder, None, **how, go_on=looks(3))
    assert [("error" in row, row["file"]) for row in seen] == [(False, "growing.png")]
    assert watching.exit_code() == PASSED  # that it could not be read for a while does not count
    (folder / "damaged.png").write_bytes(content[:40])
    until = time.monotonic() + 0.5
    watch.watch_folder(watching, folder, None, **how, go_on=lambda: time.monotonic() < until)
    assert [("error" in row, row["file"]) for row in seen[1:]] == [(True, "damaged.png")]


def test_results_of_something_else_are_not_overwritten(case, tmp_path):
    (tmp_path / "in").mkdir()
    notes, whole = tmp_path / "notes.txt", '{"id": "a", "file": "a", "mark": [1, 2]}\n'
    for number, text in ((1, "mine\n"), (1, "mine, without an end"), (2, whole + "mine")):
        notes.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=rf"notes\.txt, line {number}: no result of a watch"):
            watch.watch_folder(inspector(case), tmp_path / "in", notes, show=print, go_on=looks(1))
        assert notes.read_text(encoding="utf-8") == text


def test_maps_among_the_watched_images_are_refused(case, tmp_path):
    (tmp_path / "in").mkdir()
    watching = inspector(case, maps=tmp_path / "in" / "maps")
    with pytest.raises(ValueError, match="lies inside --watch"):
        watch.watch_folder(watching, tmp_path / "in", None, show=print, go_on=looks(1))


def test_images_of_one_name_have_a_map_each(case, capsys, tmp_path):
    for folder, name in (("a", "defect_0"), ("b", "normal_0")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        shutil.copyfile(case.parent / f"images/{name}.png", tmp_path / f"in/{folder}/0.png")
    _, rows, _ = run(case, capsys, tmp_path / "in", "--maps", tmp_path / "maps")
    one, other = (Path(row["map"]) for row in rows)
    assert one != other and one.read_bytes() != other.read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_killed_under_fire_every_whole_image_has_one_result(case, tmp_path):
    folder, results = tmp_path / "in", tmp_path / "r.jsonl"
    folder.mkdir()
    source = sorted((case.parent / "images").iterdir())
    arguments = ["-m", "ad.inspect", case, "--watch", folder, "--results", results]
    rng, n_images = np.random.default_rng(0), 60
    for part in range(3):
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        for n in range(part * 20, part * 20 + 20):
            shutil.copyfile(source[n % 4], folder / f"{n:03d}.png")
            time.sleep(float(rng.uniform(0, 0.02)))
        deadline = time.monotonic() + 30
        wanted = part * 20 + (20 if part == 2 else 7)
        while time.monotonic() < deadline:
            if results.exists() and results.read_bytes().count(b"\n") >= wanted:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL if part < 2 else signal.SIGINT)
        code = process.wait(timeout=30)
    assert code == REJECTED  # of the last part
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert sorted(row["file"] for row in rows) == [f"{n:03d}.png" for n in range(n_images)]


def stream_of(rng: np.random.Generator, n: int, *, folds: int = 3) -> np.ndarray:
    return rng.gamma(4, size=(n, folds)) * 1000


def test_drift_is_silent_while_nothing_changes_and_with_some_defects():
    rng, highest = np.random.default_rng(0), []
    for seed in range(20):
        scores = stream_of(rng, 500)
        scores[rng.random(500) < 0.05] *= 10  # defects
        watched = Drift(list(stream_of(rng, 60).T), seed=seed)
        highest.append(max(watched.add(row) for row in scores))
    assert sum(value >= 20 for value in highest) <= 4  # Ville: at most one in 20, expected
    assert max(highest) < 1000


def test_drift_speaks_soon_after_a_change_and_says_since_when():
    for seed, factor in enumerate((1.6, 0.6, 3.0)):
        rng = np.random.default_rng(seed)
        watched = Drift(list(stream_of(rng, 60).T), seed=seed)
        for row in stream_of(rng, 200):
            assert not watched.alarm(watched.add(row), 0.001)
        changed = factor * stream_of(rng, 200)
        said = (watched.alarm(watched.add(row), 0.001) for row in changed)
        words = next(text for text in said if text)
        assert watched.seen - 200 < (50 if factor == 3.0 else 150)
        since = int(words.partition("about image ")[2].split()[0])
        assert abs(since - 200) < 60, words


def test_the_state_of_a_watch_outlives_a_restart(tmp_path):
    rng = np.random.default_rng(3)
    held_out, scores = list(stream_of(rng, 60).T), stream_of(rng, 40)
    whole = Drift(held_out)
    values = [whole.add(row) for row in scores]
    first = Drift(held_out)
    for row in scores[:25]:
        first.add(row)
    first.save(tmp_path / "state.json")
    second = Drift(held_out)
    second.restore(tmp_path / "state.json")
    assert [second.add(row) for row in scores[25:]] == values[25:]
    (tmp_path / "state.json").write_text('{"counts": [{"1": "x"}]}', encoding="utf-8")
    with pytest.raises(ValueError, match="remove it to start anew"):
        second.restore(tmp_path / "state.json")


def test_the_command_says_that_images_have_changed(case, capsys, tmp_path):
    names = [case.parent / "images" / "defect_0.png"] * 60
    state = tmp_path / "state.json"
    code, rows, said = run(case, capsys, *names, "--drift", 0.01, "--state", state)
    assert code == CHANGED
    assert "no longer like the training images" in said
    assert "changed" in rows[-1] and "changed" not in rows[0]
    assert state.is_file()

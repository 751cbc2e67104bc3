"""Verification runs the last commit again, and tells other inputs from other results."""

import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from tools import verify

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = """
stages:
  double:
    cmd: python double.py
    deps: [double.py, in.txt]
    params: [seed]
    outs: [out.txt]
"""
CODE = "open('out.txt', 'w').write(open('in.txt').read() * 2)"


def git(*words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *words], check=True)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """Commit a pipeline of one stage with its result."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    Repo.init().close()
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    Path("double.py").write_text(CODE)
    Path("in.txt").write_text("one")
    Path("dvc.yaml").write_text(PIPELINE)
    Path(".gitignore").write_text("build\nout.txt\n")
    commit(run=True)

    def clone(target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        git("clone", "--quiet", ".", str(target))

    monkeypatch.setattr(verify, "clone", clone)  # there are no images to pull
    return tmp_path


def commit(*, run: bool) -> None:
    """Commit all, after a run or without."""
    if run:
        with Repo() as repo:
            repo.reproduce()
    git("add", "--all")
    git("commit", "--quiet", "--message", "x")


def test_the_same_again_is_identical(repository, capfd):
    verify.main()
    out = capfd.readouterr().out
    assert "Identical" in out and "Not part of this" not in out


def test_an_edit_that_is_not_committed_is_named(repository, capfd):
    Path("double.py").write_text(f"{CODE}  # edited")
    verify.main()
    assert "Not part of this, as not committed: double.py\n" in capfd.readouterr().out


@pytest.mark.parametrize("edited", ["in.txt", "params.yaml: seed"])
def test_inputs_that_were_committed_without_a_run_are_named(repository, edited):
    path = Path(edited.partition(":")[0])
    path.write_text(path.read_text().replace("seed: 0", "seed: 1").replace("one", "two"))
    commit(run=False)
    with pytest.raises(SystemExit) as caught:
        verify.main()
    assert f"committed with other inputs than these: {edited}; run 'make repro'" in str(
        caught.value
    )


def test_another_result_of_the_same_inputs_is_named(repository):
    lock = Path("dvc.lock")
    with Repo() as repo:
        (double,) = (s for s in repo.index.stages if s.addressing == "double")
        committed = double.outs[0].hash_info.value
    lock.write_text(lock.read_text().replace(committed, "f" * 32))
    commit(run=False)
    with pytest.raises(SystemExit, match=r"1 outputs differ .*: out\.txt\. .* is integer"):
        verify.main()

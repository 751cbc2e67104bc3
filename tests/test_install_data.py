"""A data set is checked before it replaces another, and the other can come back."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_data import write_competition, write_mvtec

from tools import install_data


def dvc(*arguments: str) -> None:
    """Run DVC in the current folder."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)


def digest(folder: Path) -> dict[str, str]:
    """Hash every file of a folder."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a DVC repository that tracks a small set with a remote of its own."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        dvc("init", "--no-scm", "--quiet")
        dvc("remote", "add", "--quiet", "store", str(folder.parent / "store"))
        write_mvtec(Path("data"), n_train=4, n_normal=2, n_anomalous=2, size=32)
        dvc("add", "--quiet", "data")
        pointer = yaml.safe_load(Path("data.dvc").read_text(encoding="utf-8"))
        pointer["outs"][0]["remote"] = "store"
        Path("data.dvc").write_text(yaml.safe_dump(pointer), encoding="utf-8")
    return folder


@pytest.fixture
def repository(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of that repository, as the current folder."""
    shutil.copytree(template, tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def test_swap_and_back(repository, tmp_path, capsys):
    before = digest(Path("data"))
    mine = tmp_path / "mine"
    write_competition(mine, n_train=4, n_test=3, size=32)
    original = digest(mine)
    install_data.install(mine)
    assert digest(Path("data")) == original
    assert digest(mine) == original
    pointer = yaml.safe_load(Path("data.dvc").read_text(encoding="utf-8"))
    assert "remote" not in pointer["outs"][0]  # a user's images do not go to the repository's store
    assert "To go back: copy data." in capsys.readouterr().out
    kept = sorted(Path().glob("data.*.dvc.bak"))
    assert len(kept) == 1
    shutil.copyfile(kept[0], "data.dvc")
    dvc("checkout", "--force", "data.dvc")
    assert digest(Path("data")) == before
    assert "remote: store" in Path("data.dvc").read_text(encoding="utf-8")


def test_a_bad_set_changes_nothing(repository, tmp_path):
    before, pointer = digest(Path("data")), Path("data.dvc").read_bytes()
    bad = tmp_path / "bad"
    write_competition(bad, n_train=4, n_test=3, size=32)
    next(iter(sorted((bad / "test").glob("*.png")))).write_bytes(b"no image")
    with pytest.raises(SystemExit, match="cannot be decoded"):
        install_data.main([str(bad)])
    assert digest(Path("data")) == before
    assert Path("data.dvc").read_bytes() == pointer
    assert not Path(".data.incoming").exists()


def test_data_itself_is_refused(repository):
    with pytest.raises(SystemExit, match="is data/ itself"):
        install_data.main(["data"])


def test_a_swap_that_was_stopped_half_way_is_put_right(repository, tmp_path):
    before = digest(Path("data"))
    Path("data").rename(".data.outgoing")
    with pytest.raises(SystemExit, match="no data here"):
        install_data.main([str(tmp_path / "nowhere")])
    assert digest(Path("data")) == before


def unchanged(call: Callable[[], None], *words: str) -> None:
    """Assert that a call ends in one line with ``words`` and leaves everything as it was."""
    before, pointer = digest(Path("data")), Path("data.dvc").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        call()
    text = str(stopped.value)
    assert "\n" not in text
    assert [word for word in words if word not in text] == []
    assert digest(Path("data")) == before
    assert Path("data.dvc").read_bytes() == pointer
    assert sorted(p.name for p in Path().glob(".data.*")) == []


@pytest.mark.parametrize("source", [".", ".."])
def test_a_folder_that_holds_the_clone_is_refused(repository, source):
    unchanged(lambda: install_data.main([source]), "holds this clone")


@pytest.mark.parametrize("name", [".data.incoming", ".data.outgoing", ".data.incoming/inner"])
def test_a_source_named_like_its_staging_folder_is_not_deleted(repository, name):
    write_mvtec(Path(name), n_train=3, n_normal=1, n_anomalous=1, size=32)
    before = digest(Path(name))
    with pytest.raises(SystemExit, match=r"is \.data\.\w+/ itself"):
        install_data.main([name])
    assert digest(Path(name)) == before


@pytest.mark.parametrize("place", ["train/good", "test"])
def test_a_name_that_is_not_utf8_changes_nothing(repository, tmp_path, place):
    write_mvtec(tmp_path / "mine", n_train=3, n_normal=1, n_anomalous=1, size=32)
    with open(os.fsencode(tmp_path / "mine" / place) + b"/\xff.txt", "wb"):  # noqa: PTH123
        unchanged(lambda: install_data.main([str(tmp_path / "mine")]), place, "not UTF-8", "rename")


def test_a_link_to_a_folder_above_ends(repository, tmp_path):
    write_mvtec(tmp_path / "mine", n_train=3, n_normal=1, n_anomalous=1, size=32)
    (tmp_path / "mine" / "train" / "loop").symlink_to("..")
    unchanged(lambda: install_data.main([str(tmp_path / "mine")]), "train/loop", "same folder")


@pytest.mark.parametrize(
    "failure", [OSError("no space"), KeyboardInterrupt()], ids=["error", "stop"]
)
def test_when_dvc_fails_the_set_before_is_back(repository, tmp_path, monkeypatch, failure):
    mine, run_dvc, calls = tmp_path / "mine", install_data.run_dvc, []
    write_competition(mine, n_train=4, n_test=3, size=32)

    def fail_the_second(*arguments: str) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            Path("data.dvc").write_text("half")
            raise failure
        run_dvc(*arguments)

    monkeypatch.setattr(install_data, "run_dvc", fail_the_second)
    unchanged(lambda: install_data.main([str(mine)]))
    if isinstance(failure, OSError):  # and the next time it goes well
        monkeypatch.setattr(install_data, "run_dvc", run_dvc)
        install_data.main([str(mine)])
        assert digest(Path("data")) == digest(mine)


def test_what_dvc_says_is_said_in_the_line(repository):
    with pytest.raises(OSError, match=r"'dvc add nothing' failed: .*nothing.* does not exist"):
        install_data.run_dvc("add", "nothing")


def test_a_full_disk_changes_nothing(repository, tmp_path, monkeypatch):
    write_mvtec(tmp_path / "mine", n_train=3, n_normal=1, n_anomalous=1, size=32)

    def full(_source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    words = ("cannot be copied", "No space left on device", "free some space")
    unchanged(lambda: install_data.main([str(tmp_path / "mine")]), *words)


def test_what_steers_git_or_dvc_is_not_copied(repository, tmp_path):
    mine = tmp_path / "mine"
    write_mvtec(mine, n_train=3, n_normal=1, n_anomalous=1, size=32)
    (mine / ".dvcignore").write_text("*.png\n")
    install_data.copy_to_incoming(mine)
    copied, whole = digest(install_data.INCOMING), digest(mine)
    assert copied == {name: value for name, value in whole.items() if name != ".dvcignore"}

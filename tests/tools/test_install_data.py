"""A data set is checked before it replaces another, and the other can come back."""

import hashlib
import shutil
import subprocess
import sys
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


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a DVC repository that tracks a small set with a remote of its own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    dvc("init", "--no-scm", "--quiet")
    dvc("remote", "add", "--quiet", "store", str(tmp_path / "store"))
    write_mvtec(Path("data"), n_train=4, n_normal=2, n_anomalous=2, size=32)
    dvc("add", "--quiet", "data")
    pointer = yaml.safe_load(Path("data.dvc").read_text(encoding="utf-8"))
    pointer["outs"][0]["remote"] = "store"
    Path("data.dvc").write_text(yaml.safe_dump(pointer), encoding="utf-8")
    return folder


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

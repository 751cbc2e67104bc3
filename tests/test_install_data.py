"""Images are checked before they replace others, and the others can come back."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_data import write_competition, write_mvtec

from ad.data import directory_hash
from tools import install_data
from tools.install_data import main, pointer_hash


def write_small(name: str, folder: Path) -> None:
    """Stand in for the solar cells."""
    write_mvtec(folder, n_train=3, n_normal=1, n_anomalous=1, size=16, seed=len(name))


def dvc(*arguments: str) -> None:
    """Run DVC in the current folder."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a DVC repository that names the default images and has none of them."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        dvc("init", "--no-scm", "--quiet")
        for name in ("data", "data_locked"):
            write_small(name, Path(name))
            dvc("add", "--quiet", name)
            shutil.rmtree(name)
        shutil.rmtree(".dvc/cache")
    return folder


@pytest.fixture
def repository(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of that repository with the default images, as the current folder."""
    monkeypatch.setattr(install_data, "write_cells", write_small)
    shutil.copytree(template, tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    main([])
    return tmp_path / "repository"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Give a folder of own images."""
    write_competition(tmp_path / "mine", n_train=4, n_test=3, size=16)
    return tmp_path / "mine"


@pytest.fixture
def unchanged(repository: Path, one_line: Callable) -> Callable:
    """Return a check that a call ends in one line with some words and leaves all as it was."""

    def check(arguments: list, *words: str) -> None:
        before, pointer = directory_hash("data"), Path("data.dvc").read_bytes()
        with one_line(SystemExit, *words):
            main([str(argument) for argument in arguments])
        assert directory_hash("data") == before
        assert Path("data.dvc").read_bytes() == pointer
        assert sorted(path.name for path in Path().glob(".data.*")) == []

    return check


def test_the_default_images_are_those_that_the_pointers_name(repository: Path):
    for name in ("data", "data_locked"):
        assert directory_hash(name) == pointer_hash(Path(f"{name}.dvc"))
    shutil.rmtree("data_locked")
    Path("data/mine.txt").touch()
    main([])  # brings what lacks, and leaves what is there
    assert Path("data_locked").is_dir() and Path("data/mine.txt").is_file()


def test_there_and_back_and_there(repository: Path, mine: Path, capsys):
    default, own = directory_hash("data"), directory_hash(mine)
    main([str(mine)])
    assert directory_hash("data") == directory_hash(mine) == own == pointer_hash(Path("data.dvc"))
    told = capsys.readouterr().out
    assert "--back" in told and "dvc gc" in told and "data_locked/ belongs to" in told
    shutil.rmtree(".dvc/cache")  # where the default images were too
    main(["--back"])
    assert directory_hash("data") == default == pointer_hash(Path("data.dvc"))
    main(["--back"])
    assert directory_hash("data") == own == pointer_hash(Path("data.dvc"))
    assert [path.name for path in Path().glob(".data.*")] == [".data.previous"]  # any order: one


def test_own_images_come_back_from_the_cache(repository: Path, mine: Path):
    main([str(mine)])
    own = directory_hash("data")
    shutil.rmtree("data")
    main([])
    assert directory_hash("data") == own


def test_a_clone_without_the_images_says_the_two_ways(repository: Path, mine: Path, one_line):
    main([str(mine)])
    shutil.rmtree("data")
    shutil.rmtree(".dvc/cache")
    with one_line(
        SystemExit, "data.dvc", "dvc remote add --default", "dvc pull", "make data FROM="
    ):
        main([])
    assert not Path("data").exists()


def test_a_download_without_git(tmp_path: Path, monkeypatch, one_line: Callable):
    monkeypatch.chdir(tmp_path)
    with one_line(SystemExit, "ZIP", "git init"):
        main([])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("--back", "nothing to go back to"),
        ("nowhere", "no such folder"),
        ("data", "is data/ itself"),
        (".", "holds this clone"),
        ("..", "holds this clone"),
    ],
)
def test_what_is_not_another_set_changes_nothing(unchanged: Callable, source: str, words: str):
    unchanged([source], words)


@pytest.mark.parametrize("name", [".data.incoming", ".data.outgoing", ".data.incoming/inner"])
def test_a_source_named_like_a_staging_folder_is_not_deleted(repository: Path, name: str):
    write_small("", Path(name))
    before = directory_hash(name)
    with pytest.raises(SystemExit, match=r"is \.data\.\w+/ itself"):
        main([name])
    assert directory_hash(name) == before


@pytest.mark.skipif(os.name == "nt", reason="names of Unix")
def test_a_bad_set_changes_nothing(unchanged: Callable, mine: Path):
    (mine / "train/loop").symlink_to("..")
    unchanged([mine], "train/loop", "same folder")
    (mine / "train/loop").unlink()
    (mine / "test/TEST_001.png").write_bytes(b"no image")
    unchanged([mine], "TEST_001.png", "cannot be decoded")
    with open(os.fsencode(mine / "test") + b"/\xff.txt", "wb"):  # noqa: PTH123 - no text
        unchanged([mine], "not UTF-8", "rename")


def test_what_steers_git_or_dvc_stays_behind(repository: Path, mine: Path):
    own = directory_hash(mine)
    (mine / ".dvcignore").write_text("*.png\n")
    main([str(mine)])
    assert directory_hash("data") == own


def test_a_full_disk_changes_nothing(unchanged: Callable, mine: Path, monkeypatch):
    def full(_source: Path, target: Path, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    unchanged([mine], "cannot be copied", "No space left on device", "free space")


@pytest.mark.parametrize(
    "failure", [OSError("no space"), KeyboardInterrupt()], ids=["error", "stop"]
)
def test_when_dvc_fails_the_set_before_is_back(unchanged, mine: Path, monkeypatch, failure):
    run_dvc, calls = install_data.run_dvc, []

    def fail_the_second(*arguments: str) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            Path("data.dvc").write_text("half")
            raise failure
        run_dvc(*arguments)

    monkeypatch.setattr(install_data, "run_dvc", fail_the_second)
    unchanged([mine])
    monkeypatch.setattr(install_data, "run_dvc", run_dvc)
    main([str(mine)])  # and the next time it goes well
    assert directory_hash("data") == directory_hash(mine)


def test_a_swap_that_was_killed_half_way_is_put_right(repository: Path):
    before = directory_hash("data")
    Path("data").rename(".data.outgoing")
    main([])
    assert directory_hash("data") == before and not Path(".data.outgoing").exists()


def test_visa_is_installed_with_its_table_from_beside(repository: Path, tmp_path: Path):
    root = tmp_path / "candle"
    write_small("", tmp_path / "small")
    shutil.copytree(tmp_path / "small/train/good", root / "Data/Images/Normal")
    rows = [f"candle,train,normal,candle/Data/Images/Normal/{n:03d}.png," for n in range(3)]
    table = "\n".join(["object,split,label,image,mask", *rows])
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text(table, encoding="utf-8")
    (root / "image_anno.csv").write_text("image,label,mask\ncandle/Data/x.png,normal,\n")
    main([str(root)])
    assert Path("data/split_csv/1cls.csv").is_file()

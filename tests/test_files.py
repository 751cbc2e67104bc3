"""Atomic writes: a file is whole under its name, or it is not there."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ad import files
from ad.files import (
    array_writer,
    atomic_path,
    load_array,
    read_csv,
    read_json,
    save_array,
    write_csv,
    write_json,
    write_text,
)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_stands_under_the_name_until_the_block_ends(tmp_path: Path):
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as partial:
        partial.write_text("whole")
        assert partial.parent == target.parent  # the same file system: a rename is enough
        assert not target.exists()
    assert target.read_text() == "whole"
    assert listing(target.parent) == ["a.txt"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), PermissionError(errno.EACCES, "not yours")])
def test_a_stop_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path, stop):
    def rows():
        yield ("half",)
        raise stop

    target = tmp_path / "a.csv"
    target.write_text("old")
    with pytest.raises(type(stop)) as caught:
        write_csv(target, ["x"], rows())
    assert caught.value is stop  # in its own words
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_line(tmp_path: Path, number: int, one_line: Callable):
    target = tmp_path / "scores.csv"
    target.write_text("old")
    words = ("no space left", "scores.csv", str(tmp_path), "free")
    with one_line(OSError, *words) as caught, atomic_path(target) as partial:
        partial.write_text("half")
        raise OSError(number, os.strerror(number))
    assert caught.value.errno == number
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["scores.csv"]


def test_text_and_json_are_utf8_with_line_feeds(tmp_path: Path):
    write_text(tmp_path / "a.txt", "a\nµ\n")
    assert (tmp_path / "a.txt").read_bytes() == b"a\n\xc2\xb5\n"
    write_json(tmp_path / "a.json", {"z": 2.5, "a": "µm"})
    expected = '{\n  "z": 2.5,\n  "a": "µm"\n}\n'.encode()
    assert (tmp_path / "a.json").read_bytes() == expected
    assert read_json(tmp_path / "a.json") == {"z": 2.5, "a": "µm"}
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", {"x": float("nan")})  # other readers refuse it
    assert listing(tmp_path) == ["a.json", "a.txt"]


def test_csv_floats_come_back_exactly(tmp_path: Path):
    values = [0.1, 1 / 3, 1e-300, float(np.float64(2) ** 0.5), float(np.float32(0.1))]
    write_csv(tmp_path / "a.csv", ["id", "x", "y"], [("a,b", value, None) for value in values])
    table = read_csv(tmp_path / "a.csv")
    assert [float(row["x"]) for row in table] == values
    assert {(row["id"], row["y"]) for row in table} == {("a,b", "")}
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()


def test_csv_of_other_programs_is_read(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfid,label\r\n"a, ""b""",1\r\n\r\nc,0')
    assert read_csv(tmp_path / "a.csv") == [
        {"id": 'a, "b"', "label": "1"},
        {"id": "c", "label": "0"},
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,name\n1,Prüfling\n".encode("cp1252"), "UTF-8"),
        (b'id,label\n"a,0\n' + b"b,0\n" * 50_000, "open quote"),
    ],
)
def test_what_is_no_table_names_the_file(tmp_path: Path, content, words, one_line: Callable):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with one_line(ValueError, "train.csv", words):
        read_csv(path)


def test_arrays_come_back_and_are_read_only(tmp_path: Path):
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    save_array(tmp_path / "a.npy", array)
    loaded = load_array(tmp_path / "a.npy")
    assert isinstance(loaded, np.memmap)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, array)
    with pytest.raises(ValueError, match="read-only"):
        loaded[0, 0] = 1


def test_pickled_objects_are_neither_written_nor_read(tmp_path: Path):
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError):
        save_array(tmp_path / "a.npy", objects)
    assert listing(tmp_path) == []
    np.save(tmp_path / "b.npy", objects, allow_pickle=True)
    with pytest.raises(ValueError):
        load_array(tmp_path / "b.npy")


def test_the_array_writer_reserves_the_space_and_shows_the_array_when_all_is_written(
    tmp_path: Path,
):
    target, expected = tmp_path / "a.npy", np.arange(2**18, dtype=np.float32).reshape(256, -1)
    with array_writer(target, expected.shape, np.float32) as array:
        (partial,) = tmp_path.iterdir()  # any order: one file
        assert partial != target and partial.stat().st_blocks * 512 >= expected.nbytes
        array[:] = expected
    np.testing.assert_array_equal(np.load(target), expected)
    assert listing(tmp_path) == ["a.npy"]


def test_the_array_writer_stopped_in_the_middle_keeps_the_old_array(tmp_path: Path):
    target = tmp_path / "a.npy"
    old = np.arange(3)
    save_array(target, old)
    closed = []
    with pytest.raises(KeyboardInterrupt), array_writer(target, (3, 4), np.float32) as array:
        closed.append(array._mmap)
        array[0] = 1
        raise KeyboardInterrupt
    np.testing.assert_array_equal(np.load(target), old)
    assert listing(tmp_path) == ["a.npy"]
    assert closed[0].closed  # an open map would keep Windows from taking the partial file away


def test_the_array_writer_on_a_full_disk(tmp_path: Path, monkeypatch, one_line: Callable):
    def full(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "posix_fallocate", full, raising=False)
    save_array(tmp_path / "a.npy", np.zeros(2))
    with (
        one_line(OSError, "no space left", "a.npy", "free"),
        array_writer(tmp_path / "a.npy", (3, 4), np.float32) as array,
    ):
        array[0] = 1
    assert np.load(tmp_path / "a.npy").shape == (2,)
    assert listing(tmp_path) == ["a.npy"]

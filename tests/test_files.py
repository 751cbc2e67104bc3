"""Atomic writes: a file is whole under its name, or it is not there."""

import errno
import json
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


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_a_stop_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path, stop):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(stop), atomic_path(target) as partial:
        partial.write_text("half")
        raise stop
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["a.txt"]


def test_rows_that_stop_coming_leave_the_old_table(tmp_path: Path):
    def rows():
        yield (1, 2)
        raise KeyboardInterrupt

    target = tmp_path / "a.csv"
    write_csv(target, ["x", "y"], [(5, 6)])
    before = target.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_csv(target, ["x", "y"], rows())
    assert target.read_bytes() == before
    assert listing(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_line(tmp_path: Path, number: int, one_line: Callable):
    target = tmp_path / "scores.csv"
    target.write_text("old")
    with pytest.raises(OSError) as caught, atomic_path(target) as partial:
        partial.write_text("half")
        raise OSError(number, os.strerror(number))
    one_line(caught, "no space left", "scores.csv", str(tmp_path), "free")
    assert caught.value.errno == number
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["scores.csv"]


def test_another_error_of_the_system_keeps_its_own_words(tmp_path: Path):
    with pytest.raises(PermissionError, match="not yours"), atomic_path(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "not yours")


def test_text_and_json_are_utf8_with_line_feeds(tmp_path: Path):
    write_text(tmp_path / "a.txt", "a\nµ\n")
    assert (tmp_path / "a.txt").read_bytes() == b"a\n\xc2\xb5\n"
    value = {"z": [1, 2.5, None], "a": "µm"}
    write_json(tmp_path / "a.json", value)
    content = (tmp_path / "a.json").read_bytes()
    assert json.loads(content) == value
    assert list(json.loads(content)) == ["z", "a"]  # the order given
    assert b"\r" not in content
    assert content.endswith(b"}\n")
    assert "µm".encode() in content
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_that_other_readers_refuse_is_not_written(tmp_path: Path, value: float):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": value})
    assert listing(tmp_path) == []


def test_csv_floats_come_back_exactly(tmp_path: Path):
    values = [0.1, 1 / 3, 1e-300, float(np.float64(2) ** 0.5), float(np.float32(0.1))]
    rows = [(f"a,{number}", value, None) for number, value in enumerate(values)]
    write_csv(tmp_path / "a.csv", ["id", "x", "y"], rows)
    table = read_csv(tmp_path / "a.csv")
    assert [float(row["x"]) for row in table] == values
    assert [row["id"] for row in table] == [f"a,{number}" for number in range(len(values))]
    assert {row["y"] for row in table} == {""}
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()


def test_csv_of_other_programs_is_read(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfid,label\r\n"a, ""b""",1\r\n\r\nc,0')
    assert read_csv(tmp_path / "a.csv") == [
        {"id": 'a, "b"', "label": "1"},
        {"id": "c", "label": "0"},
    ]


@pytest.mark.parametrize("content", ["id,name\n1,Prüfling\n".encode("cp1252"), b"\xff\xfei\0d\0"])
def test_csv_in_another_encoding_names_the_file(tmp_path: Path, content, one_line: Callable):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_csv(path)
    one_line(caught, "train.csv", "UTF-8")


def test_csv_with_a_quote_that_never_ends_names_the_file(tmp_path: Path, one_line: Callable):
    path = tmp_path / "train.csv"
    path.write_text('id,label\n"a,0\n' + "b,0\n" * 50_000)
    with pytest.raises(ValueError) as caught:
        read_csv(path)
    one_line(caught, "train.csv")


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


def test_the_array_writer_shows_the_array_when_all_is_written(tmp_path: Path):
    target = tmp_path / "a.npy"
    expected = np.arange(12, dtype=np.float32).reshape(3, 4)
    with array_writer(target, (3, 4), np.float32) as array:
        for row in range(3):
            array[row] = expected[row]
        assert not target.exists()
    written = np.load(target)
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, expected)
    assert listing(tmp_path) == ["a.npy"]


def test_the_array_writer_reserves_the_space_first(tmp_path: Path):
    shape = (256, 1024)
    with array_writer(tmp_path / "a.npy", shape, np.float32):
        (partial,) = tmp_path.iterdir()  # any order: one file
        assert partial.stat().st_blocks * 512 >= 4 * np.prod(shape)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_the_array_writer_stopped_in_the_middle_keeps_the_old_array(tmp_path: Path, stop):
    target = tmp_path / "a.npy"
    old = np.arange(3)
    save_array(target, old)
    closed = []
    with pytest.raises(stop), array_writer(target, (3, 4), np.float32) as array:
        closed.append(array._mmap)
        array[0] = 1
        raise stop
    np.testing.assert_array_equal(np.load(target), old)
    assert listing(tmp_path) == ["a.npy"]
    assert closed[0].closed  # an open map would keep Windows from taking the partial file away


def test_the_array_writer_on_a_full_disk(tmp_path: Path, monkeypatch, one_line: Callable):
    def full(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "posix_fallocate", full, raising=False)
    save_array(tmp_path / "a.npy", np.zeros(2))
    with (
        pytest.raises(OSError) as caught,
        array_writer(tmp_path / "a.npy", (3, 4), np.float32) as array,
    ):
        array[0] = 1
    one_line(caught, "no space left", "a.npy", "free")
    assert np.load(tmp_path / "a.npy").shape == (2,)
    assert listing(tmp_path) == ["a.npy"]

"""Writes of plain formats: a file, or a line at its end, is whole or not there."""

import csv
import errno
import json
import os
import platform
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

if os.name == "nt":
    import msvcrt
else:
    import fcntl

import numpy as np

HOST = re.sub(r"\W", "-", platform.node())[:40]  # process numbers are a host's own
NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows knows no quota error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; rename it into place on success.

    Raises
    ------
    OSError
        When the disk or the user's quota is full; the message names the file and its folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    short = (
        path.name[:40] + f"-{zlib.crc32(os.fsencode(path.name)):08x}"
    )  # a name may fill 255 bytes
    partial = path.with_name(f".{short}.{HOST}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise OSError(
                error.errno,
                f"no space left for {path.name}: free some of the disk of {path.parent}",
            ) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def open_alone(path: str | Path) -> int:
    """Open a file to append to, make it if need be, and keep every other process from it.

    Returns
    -------
    int
        The descriptor; closing it, or the end of the process, frees the file.

    Raises
    ------
    BlockingIOError
        When another process has it.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0))
    try:
        if os.name == "nt":  # a byte far behind the end: what is written stays readable to others
            os.lseek(descriptor, 2**40, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise
        raise BlockingIOError(f"{path}: another process writes this file; stop it first") from None
    return descriptor


def append_whole(descriptor: int, content: bytes) -> None:
    """Append to a file and flush it to the disk; what fails halfway leaves it as it was."""
    before, rest = os.fstat(descriptor).st_size, memoryview(content)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]  # it may take a part only
        os.fsync(descriptor)
    except BaseException as error:
        if rest or isinstance(error, OSError):
            os.ftruncate(descriptor, before)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 with line feeds on every system."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: object) -> None:
    """Write JSON, indented, keys in the given order; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> dict:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table; floats keep the digits that bring them back exactly, ``None`` is empty."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read a CSV table with a header; a byte-order mark is tolerated.

    Raises
    ------
    ValueError
        When the file is not UTF-8 or no table; the message names it.
    """
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:
        try:
            return list(csv.DictReader(stream))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from None
        except csv.Error as error:
            raise ValueError(f"{path}: no CSV table ({error}); look for an open quote") from None


def save_array(path: str | Path, array: np.ndarray) -> None:
    """Write one array as ``.npy``."""
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def load_array(path: str | Path) -> np.ndarray:
    """Map a ``.npy`` file read-only into memory; nothing is read until it is used."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


@contextmanager
def array_writer(
    path: str | Path, shape: tuple[int, ...], dtype: np.dtype | type
) -> Iterator[np.memmap]:
    """Give a memory-mapped array to fill; it appears under ``path`` only when all is written.

    The space is reserved first, so that a full disk is an error here and not a crash later.
    """
    with atomic_path(path) as partial:
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with partial.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, partial.stat().st_size)
        try:
            yield array  # not flushed: the system writes in its own time, and others see it now
        finally:
            array._mmap.close()  # Windows neither renames nor deletes a file that is mapped

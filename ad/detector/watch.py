"""Take new images of a folder as they arrive: whole ones only, each once, also after a restart.

The results' file is the memory: a line an image, written whole and flushed to the disk before the
next.  A line that a kill cut off is removed at the start, and its image is done again.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from ad.detector.inspector import Inspector, is_image

POLL = 0.2  # seconds between two looks at the folder
SETTLED = 0.5  # seconds for which a file's size and time must stay before it is opened
PATIENCE = 10.0  # seconds after which a file that stays as it is and cannot be read is damaged

START = b'{"id": "'  # of every line; a line that a kill cut off starts so, too

Mark = tuple[int, int]  # size in bytes, time of the last change in nanoseconds


class Results:
    """The results' file, appended to a whole line at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, Mark] = {}
        whole = 0
        if path.exists():
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            lines = content[:whole].splitlines()
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                    self.done[row["file"]] = tuple(row["mark"])
                except (ValueError, KeyError, TypeError):
                    raise self._foreign(number) from None
            if not START.startswith(content[whole:][: len(START)]):
                raise self._foreign(len(lines) + 1)
        self.stream = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.ftruncate(self.stream, whole)
        os.lseek(self.stream, 0, os.SEEK_END)

    def _foreign(self, line: int) -> ValueError:
        return ValueError(f"{self.path}, line {line}: no result of a watch; name another --results")

    def write(self, row: dict[str, object]) -> None:
        """Append a line and flush it to the disk."""
        os.write(self.stream, (json.dumps(row, ensure_ascii=False) + "\n").encode())
        os.fsync(self.stream)
        self.done[row["file"]] = tuple(row["mark"])


def marks(folder: Path) -> dict[str, Mark]:
    """Return size and time of every image in a folder and below, sorted by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if is_image(path.name):
            try:
                status = path.stat()
            except OSError:  # gone between the listing and the look
                continue
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns)
    return found


def watch_folder(
    inspector: Inspector,
    folder: Path,
    results: Path | None,
    *,
    show: Callable[[dict[str, object]], None],
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Inspect images as they come, until stopped by a KeyboardInterrupt.

    Parameters
    ----------
    folder : path
    results : path, optional
        By default beside the folder: its name and ``.jsonl``.
    show : callable
        Called with each line.
    go_on : callable
        Asked before each look.

    Raises
    ------
    NotADirectoryError, ValueError
        When there is no such folder, or the results' file holds something else.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"--watch={folder}: no such folder")
    if inspector.maps and inspector.maps.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--maps={inspector.maps} lies inside --watch={folder}; choose another")
    kept = Results(results or folder.with_name(f"{folder.name}.jsonl"))
    since: dict[str, tuple[Mark, float]] = {}
    try:
        while go_on():
            now = time.monotonic()
            for name, mark in marks(folder).items():
                if kept.done.get(name) == mark:
                    since.pop(name, None)
                    continue
                if since.get(name, (None,))[0] != mark:
                    since[name] = mark, now
                    continue
                age = now - since[name][1]
                if age < SETTLED:
                    continue
                row = inspector.inspect(folder / name)
                if "error" in row and age < PATIENCE:
                    continue  # it may still grow
                row |= {"file": name, "mark": list(mark)}
                kept.write(row)
                inspector.count(row)
                show(row)
            time.sleep(POLL)
    except KeyboardInterrupt:
        pass
    finally:
        os.close(kept.stream)

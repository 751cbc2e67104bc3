"""Take new images of a folder as they arrive: whole ones only, each once, also after a restart.

The results' file is the memory: a line an image, written whole and flushed to the disk before the
next.  A line that a kill cut off is removed at the start, and its image is done again.
"""

import json
import math
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ad.detector.inspector import Inspector, entries_of, written
from ad.detector.output import Outputs, json_line, note
from ad.files import NO_SPACE, append_whole, open_alone
from ad.images import shown

POLL = 0.2  # seconds between two looks at the folder
AGAIN = 3.0  # seconds to another look at a folder that changed: some systems' times are coarse
WHOLE = 10.0  # seconds between two looks at every file: one may be written anew under its name
SETTLED = 0.5  # seconds for which a file's size and time must stay before it is opened
PATIENCE = 10.0  # seconds after which a file that stays as it is and cannot be read is damaged
REFRESH = 5.0  # seconds from a report's page to the next

START = b'{"id": "'  # of every line; a line that a kill cut off starts so, too

Mark = tuple[int, int]  # size in bytes, time of the last change in nanoseconds


class Results:
    """The results' file, this process's alone, appended to a whole line at a time.

    Raises
    ------
    ValueError, BlockingIOError
        When the file holds something else, or another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.stream = path, open_alone(path)
        self.done: set[tuple[str, Mark]] = set()
        whole = 0
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                # A loss of power may leave zeros.
                if not line.endswith(b"\n") and START.startswith(line.strip(b"\0")[: len(START)]):
                    os.ftruncate(self.stream, whole)
                    note(f"{shown(path)}: the last line was torn and is removed; it is done again")
                    break
                try:
                    row = json.loads(line)
                    self.done.add((row["file"], tuple(row["mark"])))
                except (ValueError, KeyError, TypeError):
                    os.close(self.stream)
                    raise ValueError(
                        f"{path}, line {number}: no result of a watch; name another --results"
                    ) from None
                whole += len(line)

    def rows(self) -> Iterator[dict[str, object]]:
        """Give all results so far."""
        with self.path.open("rb") as stream:
            yield from map(json.loads, stream)

    def close(self) -> None:
        """Leave the file to others."""
        os.close(self.stream)

    def write(self, row: dict[str, object]) -> None:
        """Append a line and flush it to the disk."""
        append_whole(self.stream, f"{json_line(row)}\n".encode())
        self.done.add((row["file"], tuple(row["mark"])))


class Folder:
    """A folder's images, looked at as rarely as finds each soon, however many are finished.

    A folder's time of change tells of new names; sizes and times of finished files are looked at
    every `WHOLE` seconds only.  This needs no events of the system, which network folders lack.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.finished: dict[str, Mark] = {}
        self.passed_over: set[str] = set()
        self.folders: dict[str, tuple[int, float, list[str]]] = {}  # changed, again at, inside
        self.last_whole = -WHOLE

    def look(self) -> Iterator[str]:
        """Give the images that may be new, by folder and sorted."""
        now = time.monotonic()
        whole = now - self.last_whole >= WHOLE
        if whole:
            self.last_whole = now
        left = [self.root]
        while left:
            folder = left.pop()
            try:
                changed = Path(folder).stat().st_mtime_ns
            except OSError:  # gone
                self.folders.pop(folder, None)
                continue
            before, again, inside = self.folders.get(folder, (None, now, []))
            if whole or changed != before or now >= again:
                again = now + AGAIN if changed != before else math.inf
                entries = entries_of(folder, self.passed_over)
                inside = [path for path, is_folder in reversed(entries) if is_folder]
                images = (path for path, is_folder in entries if not is_folder)
                yield from (path for path in images if whole or path not in self.finished)
            self.folders[folder] = changed, again, inside
            left += inside


def mark_of(path: str) -> Mark | None:
    """Return a file's size and time; None where there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


class Watch:
    """Inspects images of a folder as they come, but for those whose results are kept already."""

    def __init__(self, inspector: Inspector, folder: Path, kept: Results, outputs: Outputs) -> None:
        self.inspector, self.folder, self.kept, self.outputs = inspector, folder, kept, outputs
        self.looked, self.away, self.told = Folder(folder), False, set()
        self.waiting: dict[str, tuple[Mark, float]] = {}  # since when a file is as it is
        self.stopped = False

    def stop(self, *_: object) -> None:
        """Stop after the image that is inspected now, as a signal's handler."""
        self.stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait

    def run(self) -> None:
        """Look again and again, until stopped."""
        while not self.stopped:
            self.look()
            time.sleep(POLL)

    def look(self) -> None:
        """Inspect what is new and whole."""
        if self.folder.is_dir() == self.away:
            self.away = not self.away
            note(f"{shown(self.folder)} is {'away; waiting for it' if self.away else 'back'}")
        for path in [*dict.fromkeys([*self.waiting, *self.looked.look()])]:
            if self.stopped:
                break
            self._take(path)
        if new := self.looked.passed_over - self.told:
            self.told |= new
            note(f"passed over in {shown(self.folder)}: {shown(', '.join(sorted(new)))}")
        self._patiently(self.outputs.write_page, REFRESH)

    def _take(self, path: str) -> None:
        """Inspect a file, if it is new and has not changed for a while."""
        now, mark = time.monotonic(), mark_of(path)
        if mark is None or mark == self.looked.finished.get(path):
            self.waiting.pop(path, None)
            return
        name = written(Path(path).relative_to(self.folder))
        if (name, mark) not in self.kept.done:
            if self.waiting.get(path, (None,))[0] != mark:
                self.waiting[path] = mark, now
            age = now - self.waiting[path][1]
            if age < SETTLED:
                return
            row = self.inspector.inspect(Path(path))
            if "error" in row and age < PATIENCE:
                return  # it may still grow
            row |= {"file": name, "mark": mark}
            for keep in (self.kept.write, self.inspector.count, self.outputs.keep):
                self._patiently(keep, row)
            self.outputs.show(row)
        self.looked.finished[path] = mark
        self.waiting.pop(path, None)

    def _patiently(self, step: Callable[[object], None], what: object) -> None:
        """Take a step that writes; while the disk is full, wait and say so once."""
        said = False
        while True:
            try:
                return step(what)
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                if self.stopped:
                    raise KeyboardInterrupt from None
                if not said:
                    note(f"no space left on the disk; nothing is lost, the watch waits ({error})")
                said = True
                time.sleep(POLL)

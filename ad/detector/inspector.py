"""What is done with an image: scored, decided on, watched for drift; and the exit code."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ad.detector.detector import Detector, Verdict
from ad.detector.drift import Drift
from ad.files import atomic_path, open_alone
from ad.images import SUFFIXES, shown

PASSED, REJECTED, AGAIN, UNREADABLE, CHANGED, WRONG, NOTHING = range(7)
CODES = {"pass": PASSED, "review": AGAIN, "reject": REJECTED, "error": UNREADABLE}
REGION = ("box", "area", "score", "share")
URGENT = ("error", "reject", "review", "pass")  # the first that happened gives the code


@dataclass(frozen=True)
class Rates:
    """Rates of false alarms: reject at ``alarm``, look again at ``review``; None: the threshold."""

    alarm: float | None = None
    review: float | None = None

    def decision(self, verdict: Verdict) -> str:
        """Decide: pass, review or reject."""
        if self.alarm is None and self.review is None:
            return "reject" if verdict.flagged else "pass"
        if self.alarm is not None and verdict.p_value <= self.alarm:
            return "reject"
        if self.review is not None and verdict.p_value <= self.review:
            return "review"
        return "pass"

    def check(self, detector: Detector) -> None:
        """Refuse rates that the detector's normals cannot tell, or in the wrong order."""
        for name, rate in (("--alarm", self.alarm), ("--review", self.review)):
            if rate is not None:
                detector.check_rate(name, rate)
        if None not in (self.alarm, self.review) and self.review < self.alarm:
            raise ValueError(f"--review={self.review} must not be below --alarm={self.alarm}")


class Inspector:
    """Scores one image after another and keeps what outlives an image: drift, the exit code.

    Parameters
    ----------
    detector : Detector
    rates : Rates
    maps : path, optional
        Folder that overlays are written to.
    passes : bool
        Also those of images that pass.
    min_area : float
        Smaller regions are left out, pixels.
    drift : float, optional
        Rate of false alarms of the watch for changed images; by default there is none.
    state : path, optional
        File that keeps this watch over restarts.
    """

    def __init__(
        self,
        detector: Detector,
        rates: Rates,
        *,
        maps: Path | None = None,
        passes: bool = True,
        min_area: float = 0,
        drift: float | None = None,
        state: Path | None = None,
    ) -> None:
        self.detector, self.rates, self.drift, self.state = detector, rates, drift, state
        self.maps, self.passes, self.min_area = maps, passes, min_area
        self.seen: set[str] = set()  # decisions so far
        self.changed = ""
        if maps is not None:
            maps.mkdir(parents=True, exist_ok=True)
        self.watch = Drift(detector.references) if drift is not None else None
        self.lock = open_alone(f"{state}.lock") if state else None
        if state is not None:
            if state.exists():
                self.watch.restore(state)
            self.watch.save(state)  # that it cannot be written shows here

    def inspect(self, path: Path) -> dict[str, object]:
        """Score an image; return its line.  What cannot be read is a line with its error."""
        row: dict[str, object] = {"id": written(path)}
        try:
            verdict = self.detector.score(path)
        except FileNotFoundError:
            return row | {"decision": "error", "error": f"{shown(path)}: no such file or folder"}
        except Exception as error:  # whatever it is, the next image is looked at
            reason = shown(" ".join(str(error).split()) or type(error).__name__)
            return row | {"decision": "error", "error": reason}
        regions = [each for each in verdict.regions if each.area >= self.min_area]
        row |= {
            "decision": self.rates.decision(verdict),
            "score": verdict.score,
            "flagged": verdict.flagged,
            "p_value": verdict.p_value,
            "milliseconds": round(verdict.milliseconds, 2),
            "sha256": verdict.sha256,
            "size": verdict.size,
            "regions": [{name: getattr(own, name) for name in REGION} for own in regions],
        }
        if self.maps is not None and (self.passes or row["decision"] != "pass"):
            row |= self._write_map(path, verdict, regions)
        if self.watch is not None:
            value = self.watch.add(np.append(verdict.fold_scores, verdict.appearance))
            row["drift"] = round(value, 6)
            if words := self.watch.alarm(value, self.drift):
                self.changed = row["changed"] = words
        return row

    def count(self, row: dict[str, object]) -> None:
        """Let a line that `inspect` returned enter the exit code, and the state of drift."""
        self.seen.add(row["decision"])
        if self.state is not None:
            self.watch.save(self.state)

    def _write_map(self, path: Path, verdict: Verdict, regions: list) -> dict[str, str]:
        """Write an overlay; a failure is a note, since the verdict stands without it."""
        # Short, and one for each image: names alone may be as long as a system takes, or the same.
        own = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        target = self.maps / f"{written(path.name)[:60]}-{own}.png"
        try:
            with atomic_path(target) as partial:
                self.detector.overlay(path, verdict, regions).save(partial, format="png")
        except Exception as error:  # a full disk, an image that is gone again
            return {"map_error": shown(" ".join(str(error).split()))}
        return {"map": written(target)}

    def close(self) -> None:
        """Leave the state to others."""
        if self.lock is not None:
            os.close(self.lock)

    def exit_code(self) -> int:
        """Return the code of everything inspected."""
        worst = next((CODES[each] for each in URGENT if each in self.seen), NOTHING)
        return CHANGED if self.changed else worst


def written(path: str | Path) -> str:
    """Return a path as JSON can hold it; bytes that are no UTF-8 are escaped."""
    return os.fsencode(Path(path).as_posix()).decode("utf-8", "backslashreplace")


def entries_of(folder: str, passed_over: set[str]) -> list[tuple[str, bool]]:
    """List a folder's images and folders, sorted, and tell the folders.

    Files of other endings, and folders that begin with a dot or an @, join ``passed_over``; hidden
    files are half-written ones of other programs.
    """
    found = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:  # gone since it was listed
        return []
    except OSError:
        passed_over.add(folder + os.sep)
        return []
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name.startswith((".", "@")) and is_folder:
            passed_over.add(entry.path + os.sep)
        elif is_folder or is_image(entry.name):
            found.append((entry.path, is_folder))
        elif not entry.name.startswith("."):
            passed_over.add(entry.path)
    return found


def is_image(name: str) -> bool:
    """Tell by a file's name whether it is taken from a folder; hidden files are half-written."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def image_files(names: Iterable[str], passed_over: set[str]) -> Iterator[Path]:
    """Give the images named, and those of folders and below, in sorted order."""
    for name in names:
        if not name.strip():  # a blank line would be the working folder
            continue
        empty = os.path.isdir(name)  # noqa: PTH112 - of any name
        left = [(name, empty)]
        while left:
            path, is_folder = left.pop()
            if is_folder:
                left += reversed(entries_of(path, passed_over))
            else:
                empty = False
                yield Path(path)
        if empty:
            passed_over.add(name + os.sep)


def kinds_of(passed_over: Iterable[str]) -> Counter:
    """Count what was passed over by its ending."""

    def kind(path: str) -> str:
        if path.endswith(os.sep):
            return "folder hidden, unreadable or without images"
        return shown(Path(path).suffix.lower()) or "without an ending"

    return Counter(map(kind, passed_over))

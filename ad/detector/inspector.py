"""What is done with an image: scored, decided on, watched for drift; and the exit code."""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ad.detector.detector import Detector, Verdict
from ad.detector.drift import Drift
from ad.files import atomic_path, open_alone
from ad.images import SUFFIXES, reason_of, shown

PASSED, REJECTED, AGAIN, UNREADABLE, CHANGED, WRONG, NOTHING = range(7)
# The first that happened gives the exit code.
CODES = {"error": UNREADABLE, "reject": REJECTED, "review": AGAIN, "pass": PASSED}
REGION = ("box", "area", "score", "share")


class Inspector:
    """Scores one image after another and keeps what outlives an image: drift, the exit code.

    Parameters
    ----------
    detector : Detector
    alarm, review : float, optional
        Rates of false alarms at which an image is rejected, or to be looked at again; without
        either, the detector's threshold rejects.
    maps : path, optional
        Folder that overlays are written to.
    passes : bool
        Also those of images that pass.
    drift : float, optional
        Rate of false alarms of the watch for changed images; by default there is none.
    state : path, optional
        File that keeps this watch over restarts.

    Raises
    ------
    ValueError, BlockingIOError
        When the detector's normals cannot tell such a rate, or the state is another detector's, or
        another process writes it.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        alarm: float | None = None,
        review: float | None = None,
        maps: Path | None = None,
        passes: bool = True,
        drift: float | None = None,
        state: Path | None = None,
    ) -> None:
        check_rates(detector.n_normals, {"--alarm": alarm, "--review": review})
        self.detector, self.alarm, self.review = detector, alarm, review
        self.maps, self.passes = maps, passes
        self.seen: set[str] = set()  # decisions so far
        self.drift, self.state, self.changed = drift, state, ""
        if maps is not None:
            maps.mkdir(parents=True, exist_ok=True)
        self.watch = Drift(detector.references) if drift is not None else None
        self.lock = open_alone(f"{state}.lock") if state else None
        if state is not None:
            if state.exists():
                self.watch.restore(state)
            self.watch.save(state)  # that it cannot be written shows here

    def decision(self, verdict: Verdict) -> str:
        """Decide: pass, review or reject."""
        if self.alarm is None and self.review is None:
            return "reject" if verdict.flagged else "pass"
        if self.alarm is not None and verdict.p_value <= self.alarm:
            return "reject"
        if self.review is not None and verdict.p_value <= self.review:
            return "review"
        return "pass"

    def inspect(self, path: Path) -> dict[str, object]:
        """Score an image; return its line.  What cannot be read is a line with its error."""
        row: dict[str, object] = {"id": written(path)}
        try:
            verdict = self.detector.score(path)
        except FileNotFoundError:
            return row | {"decision": "error", "error": f"{shown(path)}: no such file or folder"}
        except Exception as error:  # whatever it is, the next image is looked at
            return row | {"decision": "error", "error": reason_of(error)}
        row |= {
            "decision": self.decision(verdict),
            "score": verdict.score,
            "flagged": verdict.flagged,
            "p_value": verdict.p_value,
            "milliseconds": round(verdict.milliseconds, 2),
            "sha256": verdict.sha256,
            "size": verdict.size,
            "regions": [{name: getattr(own, name) for name in REGION} for own in verdict.regions],
        }
        if self.maps is not None and (self.passes or row["decision"] != "pass"):
            row |= self._write_map(path, verdict)
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

    def _write_map(self, path: Path, verdict: Verdict) -> dict[str, str]:
        """Write an overlay; a failure is a note, since the verdict stands without it."""
        # Names alone may be as long as a system takes, or the same in two folders.
        target = self.maps / f"{written(path.name)[:60]}-{verdict.sha256[:12]}.png"
        try:
            with atomic_path(target) as partial:
                self.detector.overlay(path, verdict).save(partial, format="png")
        except Exception as error:  # a full disk, an image that is gone again
            return {"map_error": reason_of(error)}
        return {"map": written(target)}

    def close(self) -> None:
        """Leave the state to others."""
        if self.lock is not None:
            os.close(self.lock)

    def exit_code(self) -> int:
        """Return the code of everything inspected."""
        worst = next((code for decision, code in CODES.items() if decision in self.seen), NOTHING)
        return CHANGED if self.changed else worst


def check_rates(n_normals: int, rates: dict[str, float | None]) -> None:
    """Refuse rates of false alarms that so few held-out normals cannot tell."""
    for name, rate in rates.items():
        if rate is not None and rate * (1 + n_normals) < 1 - 1e-9:
            raise ValueError(
                f"{name}={rate} needs at least {math.ceil(1 / rate - 1 - 1e-9)} held-out normal "
                f"images; this detector has {n_normals}, so no rate below "
                f"{1 / (1 + n_normals):.2g} can be told"
            )


def written(path: str | Path) -> str:
    """Return a path as JSON can hold it; bytes that are no UTF-8 are escaped."""
    return os.fsencode(Path(path).as_posix()).decode("utf-8", "backslashreplace")


def entries_of(folder: str, passed_over: set[str]) -> list[tuple[str, bool]]:
    """List a folder's images and folders, sorted, and tell the folders.

    What kinds of files are not images joins ``passed_over``.  Hidden files are half-written ones of
    other programs, folders with an @ hold the thumbnails of network storage.
    """
    found = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:  # gone since it was listed
        return []
    except OSError as error:
        passed_over.add(f"{folder} ({error.strerror})")
        return []
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name.startswith((".", "@") if is_folder else "."):
            passed_over.add("what is hidden")
        elif is_folder or entry.name.lower().endswith(SUFFIXES):
            found.append((entry.path, is_folder))
        else:
            passed_over.add(Path(entry.name).suffix.lower() or "names without an ending")
    return found


def images_below(folder: str, passed_over: set[str]) -> Iterator[Path]:
    """Give the images of a folder and of those in it, in sorted order."""
    for path, is_folder in entries_of(folder, passed_over):
        if is_folder:
            yield from images_below(path, passed_over)
        else:
            yield Path(path)


def image_files(names: Iterable[str], passed_over: set[str]) -> Iterator[Path]:
    """Give the images named, and those of folders and below."""
    for name in filter(str.strip, names):  # a blank line would be the working folder
        if not os.path.isdir(name):  # noqa: PTH112 - of any name
            yield Path(name)
            continue
        empty = True
        for path in images_below(name, passed_over):
            empty = False
            yield path
        if empty:
            passed_over.add(f"{name} (no images)")

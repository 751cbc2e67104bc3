"""What is done with an image: scored, decided on, watched for drift; and the exit code."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ad.files import atomic_path
from ad.images import SUFFIXES
from ad.detector.detector import Detector, Verdict
from ad.detector.drift import Drift

PASSED, REJECTED, AGAIN, UNREADABLE, CHANGED, WRONG = range(6)
CODES = {"pass": PASSED, "review": AGAIN, "reject": REJECTED, "error": UNREADABLE}
URGENT = ("error", "reject", "review")  # the first of them that happened gives the code


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
        drift: float | None = None,
        state: Path | None = None,
    ) -> None:
        self.detector, self.rates, self.maps = detector, rates, maps
        self.drift, self.state = drift, state
        self.seen: set[str] = set()  # decisions so far
        self.watch = Drift(detector.references) if drift is not None else None
        if self.watch and state and state.is_file():
            self.watch.restore(state)
        self.changed = ""

    def inspect(self, path: Path) -> dict[str, object]:
        """Score an image; return its line.  What cannot be read is a line with its error."""
        row: dict[str, object] = {"id": path.as_posix()}
        try:
            verdict = self.detector.score(path)
        except (OSError, ValueError, MemoryError) as error:
            return row | {"decision": "error", "error": " ".join(str(error).split())}
        row |= {
            "decision": self.rates.decision(verdict),
            "score": verdict.score,
            "flagged": verdict.flagged,
            "p_value": verdict.p_value,
            "milliseconds": round(verdict.milliseconds, 2),
            "sha256": verdict.sha256,
        }
        if self.maps is not None:
            row["map"] = self._write_map(path, verdict).as_posix()
        if self.watch is not None:
            value = self.watch.add(np.append(verdict.fold_scores, verdict.appearance))
            row["drift"] = round(value, 6)
            if words := self.watch.alarm(value, self.drift):
                self.changed = row["changed"] = words
            if self.state is not None:
                self.watch.save(self.state)
        return row

    def count(self, row: dict[str, object]) -> None:
        """Let a line that `inspect` returned enter the exit code."""
        self.seen.add(row["decision"])

    def _write_map(self, path: Path, verdict: Verdict) -> Path:
        # Folders are kept: images of one name must not overwrite each other's maps.
        inside = [part for part in path.parts if part not in (path.anchor, "..")]
        target = self.maps.joinpath(*inside[:-1], f"{inside[-1]}.png")
        with atomic_path(target) as partial:
            self.detector.overlay(path, verdict).save(partial, format="png")
        return target

    def exit_code(self) -> int:
        """Return the code of everything inspected."""
        worst = next((each for each in URGENT if each in self.seen), "pass")
        return CHANGED if self.changed else CODES[worst]


def image_files(names: Iterable[str]) -> Iterator[Path]:
    """Give the images named, and those of folders, in sorted order."""
    for name in names:
        path = Path(name)
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (p for p in found if p == path or (is_image(p.name) and p.is_file()))


def is_image(name: str) -> bool:
    """Tell by a file's name whether it is taken from a folder; hidden files are half-written."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)

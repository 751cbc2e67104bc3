"""The command of a line: images in, a line of JSON an image out.

Exit codes: 0 all passed; 1 at least one rejected; 2 at least one to look at again, none rejected; 3
at least one unreadable; 4 the images have changed (--drift); 5 wrong use, or no detector.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ad.files import atomic_path
from ad.images import SUFFIXES
from line.detector import Detector, Verdict
from line.drift import Drift

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
    """Scores one image after another and keeps what outlives an image: drift, the exit code."""

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
        self.watch = Drift(detector.held_out) if drift is not None else None
        if self.watch and state and state.is_file():
            self.watch.restore(state)
        self.changed = ""

    def inspect(self, path: Path) -> dict[str, object]:
        """Score an image; return its line.  What cannot be read is a line with its error."""
        row: dict[str, object] = {"id": path.as_posix()}
        try:
            verdict = self.detector.score(path)
        except (OSError, ValueError, MemoryError) as error:
            self.seen.add("error")
            return row | {"error": " ".join(str(error).split())}
        decision = self.rates.decision(verdict)
        self.seen.add(decision)
        row |= {
            "decision": decision,
            "score": verdict.score,
            "flagged": verdict.flagged,
            "p_value": verdict.p_value,
            "milliseconds": round(verdict.milliseconds, 2),
            "sha256": verdict.sha256,
        }
        if self.maps is not None:
            row["map"] = self._write_map(path, verdict).as_posix()
        if self.watch is not None:
            value = self.watch.add(verdict.fold_scores)
            row["drift"] = round(value, 6)
            if words := self.watch.alarm(value, self.drift):
                self.changed = row["changed"] = words
            if self.state is not None:
                self.watch.save(self.state)
        return row

    def _write_map(self, path: Path, verdict: Verdict) -> Path:
        target = self.maps / f"{path.stem}.{path.suffix.lstrip('.').lower()}.png"
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
        if path.is_dir():
            yield from sorted(
                p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()
            )
        else:
            yield path


TABLE = "{decision:<8} {score:>14} {p_value:>8} {milliseconds:>9}  {id}"


def in_words(row: dict[str, object]) -> str:
    """Write a line for people."""
    if "error" in row:
        return f"{'error':<8} {'':>14} {'':>8} {'':>9}  {row['error']}"
    return TABLE.format(
        **row | {"score": f"{row['score']:,.1f}", "p_value": f"{row['p_value']:.3f}"}
    )


def parser() -> argparse.ArgumentParser:
    """Describe the command."""
    made = argparse.ArgumentParser(
        prog="python -m ad.inspect",
        description="Score images with a detector file: a line of JSON an image.",
        epilog="exit codes: 0 all passed, 1 one rejected, 2 one to look at again, 3 one "
        "unreadable, 4 the images have changed, 5 wrong use or no detector",
    )
    made.add_argument("detector", type=Path, help="detector.onnx of a finished run")
    made.add_argument("images", nargs="*", help="images or folders; - reads paths from stdin")
    made.add_argument("--table", action="store_true", help="a table for people, no JSON")
    made.add_argument("--maps", type=Path, metavar="FOLDER", help="write overlays there")
    made.add_argument("--watch", type=Path, metavar="FOLDER", help="take new images as they come")
    made.add_argument(
        "--results", type=Path, metavar="FILE", help="of --watch (default: FOLDER.jsonl)"
    )
    made.add_argument("--alarm", type=float, metavar="RATE", help="reject at this false-alarm rate")
    made.add_argument("--review", type=float, metavar="RATE", help="look again at this rate")
    made.add_argument("--drift", type=float, metavar="RATE", help="say when images have changed")
    made.add_argument("--state", type=Path, metavar="FILE", help="of --drift, over restarts")
    made.add_argument("--threads", type=int, help="default: every core; no result depends on it")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    made = parser()
    try:
        given = made.parse_args(arguments)
    except SystemExit as error:
        return WRONG if error.code else PASSED
    try:
        if bool(given.images) == (given.watch is not None):
            raise ValueError("give images, folders or -, or --watch FOLDER")
        if given.drift is not None and not 0 < given.drift < 1:
            raise ValueError(f"--drift={given.drift} must be above 0 and below 1")
        if given.state is not None and given.drift is None:
            raise ValueError("--state is of --drift")
        detector = Detector.load(given.detector, threads=given.threads)
        rates = Rates(given.alarm, given.review)
        rates.check(detector)
        how = {"maps": given.maps, "drift": given.drift, "state": given.state}
        inspector = Inspector(detector, rates, **how)
        if given.watch is not None:
            from line.watch import watch_folder

            watch_folder(inspector, given.watch, given.results, show=show(given.table))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG
    say = show(given.table)
    names = (line.rstrip("\n") for line in sys.stdin) if given.images == ["-"] else given.images
    for path in image_files(names):
        say(inspector.inspect(path))
    if inspector.changed:
        print(inspector.changed, file=sys.stderr)
    return inspector.exit_code()


def show(table: bool):
    """Return what prints a line as it comes."""

    def say(row: dict[str, object]) -> None:
        print(in_words(row) if table else json.dumps(row, ensure_ascii=False), flush=True)

    return say

"""The command of a line: images in, a line of JSON an image out.

Exit codes: 0 all passed; 1 at least one rejected; 2 at least one to look at again, none rejected; 3
at least one unreadable; 4 the images have changed (--drift); 5 wrong use, or no detector.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ad.detector.detector import Detector
from ad.detector.inspector import PASSED, WRONG, Inspector, Rates, image_files
from ad.detector.watch import watch_folder

TABLE = "{decision:<8} {score:>14} {p_value:>8} {milliseconds:>9}  {id}"


def in_words(row: dict[str, object]) -> str:
    """Write a line for people."""
    if "error" in row:
        return f"{row['decision']:<8} {'':>14} {'':>8} {'':>9}  {row['error']}"
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
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # as services are stopped
            watch_folder(inspector, given.watch, given.results, show=show(given.table))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG
    say = show(given.table)
    names = (line.rstrip("\n") for line in sys.stdin) if given.images == ["-"] else given.images
    for path in image_files(names):
        row = inspector.inspect(path)
        inspector.count(row)
        say(row)
    if inspector.changed:
        print(inspector.changed, file=sys.stderr)
    return inspector.exit_code()


def show(table: bool) -> Callable[[dict[str, object]], None]:
    """Return what prints a line as it comes."""

    def say(row: dict[str, object]) -> None:
        print(in_words(row) if table else json.dumps(row, ensure_ascii=False), flush=True)

    return say

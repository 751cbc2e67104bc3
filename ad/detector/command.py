"""The command of a line: images in, a line of JSON an image out.

Exit codes: 0 all passed; 1 at least one rejected; 2 at least one to look at again, none rejected; 3
at least one unreadable; 4 the images have changed (--drift); 5 wrong use, no detector, or an error
that ended it; 6 nothing was inspected.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from ad.detector.detector import Detector
from ad.detector.inspector import NOTHING, PASSED, WRONG, Inspector, image_files
from ad.detector.output import Outputs, note
from ad.detector.watch import Results, Watch
from ad.images import reason_of, shown


def parser() -> argparse.ArgumentParser:
    """Describe the command."""
    made = argparse.ArgumentParser(
        prog="ad-inspect",
        description="Score images with a detector file: a line of JSON an image.",
        epilog="exit codes: 0 all passed, 1 one rejected, 2 one to look at again, 3 one "
        "unreadable, 4 the images have changed, 5 wrong use or an error, 6 nothing was inspected",
    )
    add = made.add_argument
    add("detector", type=Path, help="detector.onnx of a finished run")
    add("images", nargs="*", help="images or folders; - reads paths from standard input")
    add("--expect", metavar="SHA256", help="refuse any other detector file")
    add("--table", action="store_true", help="a table for people, no JSON")
    add("--maps", type=Path, metavar="FOLDER", help="write overlays there")
    add("--report", type=Path, metavar="FOLDER", help="a page of what did not pass, a CSV of all")
    add("--watch", type=Path, metavar="FOLDER", help="take new images as they come")
    add("--results", type=Path, metavar="FILE", help="of --watch (default: FOLDER.jsonl)")
    add("--alarm", type=float, metavar="RATE", help="reject at this false-alarm rate")
    add("--review", type=float, metavar="RATE", help="look again at this rate")
    add("--drift", type=float, metavar="RATE", help="say when images have changed")
    add("--state", type=Path, metavar="FILE", help="of --drift, over restarts")
    add("--threads", type=int, help="default and most: every core; no result depends on it")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # what a code page lacks is escaped
    try:
        given = parser().parse_intermixed_args(arguments)
        check(given)
        return run(given)
    except SystemExit as error:  # of argparse, which has said why
        return WRONG if error.code else PASSED
    except KeyboardInterrupt:
        reason = "stopped before the end"
    except BrokenPipeError:
        reason = "nobody reads the output any more"
    except Exception as error:  # a traceback's exit code, 1, would mean "one rejected"
        reason = reason_of(error)
    try:
        sys.stdout.flush()
    except OSError:  # nor may Python try it once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        print(f"error: {reason}", file=sys.stderr)
    return WRONG


def check(given: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if bool(given.images) == (given.watch is not None):
        raise ValueError("give images, folders or -, or --watch FOLDER")
    for name in ("alarm", "review", "drift"):
        rate = getattr(given, name)
        if rate is not None and not 0 < rate < 1:
            raise ValueError(f"--{name}={rate} must be above 0 and below 1")
    if None not in (given.alarm, given.review) and given.review < given.alarm:
        raise ValueError(f"--review={given.review} must not be below --alarm={given.alarm}")
    if given.state is not None and given.drift is None:
        raise ValueError("--state is of --drift")
    if given.results is not None and given.watch is None:
        raise ValueError("--results is of --watch; --report takes results of folders")
    if given.maps is not None and given.report is not None:
        raise ValueError("give --maps or --report, which writes the maps of its page itself")
    if given.watch is not None and not given.watch.is_dir():
        raise NotADirectoryError(f"--watch={given.watch}: no such folder")
    for name in ("maps", "report"):
        for folder in (given.watch, *map(Path, given.images)):
            own = getattr(given, name)
            if own and folder and own.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"--{name}={own} lies inside {folder}; choose another")


def run(given: argparse.Namespace) -> int:
    """Inspect what the command names."""
    detector = Detector.load(given.detector, threads=given.threads, expect=given.expect)
    how = {name: getattr(given, name) for name in ("alarm", "review", "drift", "state", "maps")}
    if given.report is not None:
        how |= {"maps": given.report / "maps", "passes": False}
    where = {"table": given.table, "report": given.report}
    with ExitStack() as stack:
        inspector = stack.enter_context(closing(Inspector(detector, **how)))
        if given.watch is not None:
            default = given.watch.with_name(f"{given.watch.name}.jsonl")
            kept = stack.enter_context(closing(Results(given.results or default)))
            outputs = stack.enter_context(closing(Outputs(**where, earlier=kept.rows())))
            watch = Watch(inspector, given.watch, kept, outputs)
            for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and as services are stopped
                signal.signal(number, watch.stop)
            watch.run()
        else:
            outputs = stack.enter_context(closing(Outputs(**where)))
            inspect_all(inspector, given.images, outputs)
    if inspector.exit_code() == NOTHING:
        note("nothing was inspected")
    if inspector.changed:
        note(inspector.changed)
    return inspector.exit_code()


def inspect_all(inspector: Inspector, names: Sequence[str], outputs: Outputs) -> None:
    """Inspect images and folders, or those that standard input names."""
    passed_over: set[str] = set()
    if list(names) == ["-"]:
        sys.stdin.reconfigure(errors="surrogateescape")  # names need not be UTF-8
        names = (line.rstrip("\r\n") for line in sys.stdin)
    for path in image_files(names, passed_over):
        row = inspector.inspect(path)
        outputs.keep(row)
        inspector.count(row)
        outputs.show(row)
    if passed_over:
        note(f"passed over: {shown(', '.join(sorted(passed_over)))}")

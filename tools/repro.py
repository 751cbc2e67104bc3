"""Run stages through DVC as 'dvc repro' does, with a line a stage instead of DVC's own account.

Usage: python -m tools.repro [dvc.yaml or stage ...]

A stage that fails says so itself in its line; what fails in DVC is one line here.
"""

import json
import logging
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from dvc.exceptions import DvcException
from dvc.logger import set_loggers_level
from dvc.repo import Repo
from dvc.stage.exceptions import StageCmdFailedError

from tools.stage import stoppable
from tools.unchanged import refuse_late_edit, remove_empty_runs


def pass_on(number: int, _frame: object) -> None:
    """Stop the stage that runs, which prints its line; stop here if none does."""
    running = False
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(word.startswith("tools.") for word in child.cmdline()):
                child.send_signal(number)
                running = True
    if not running:
        raise KeyboardInterrupt


def remove_torn_locks(path: Path = Path(".dvc/tmp/rwlock")) -> None:
    """Remove DVC's list of locks where a kill tore it, which would stop every later run."""
    for _ in range(2):  # another run may just be writing it
        with suppress(ValueError):  # neither UTF-8 nor JSON
            if path.is_file():
                json.loads(path.read_text(encoding="utf-8"))
            return
        time.sleep(0.5)
    path.unlink(missing_ok=True)


def reproduce(targets: list[str]) -> None:
    """Run what is not up to date.

    Raises
    ------
    SystemExit
        With DVC's reason in one line, or without words where the stage gave them.
    """
    try:
        with Repo() as repo, set_loggers_level(logging.CRITICAL):
            remove_empty_runs(Path(repo.stage_cache.cache_dir))
            repo.reproduce(targets=targets or None)
    except (DvcException, OSError) as error:
        causes: list[BaseException] = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        if any(isinstance(cause, StageCmdFailedError) for cause in causes):
            raise SystemExit(1) from None
        words = dict.fromkeys(" ".join(str(cause).split()) for cause in causes)
        raise SystemExit(f"error: {': '.join(filter(None, words))}") from None


def main(targets: list[str]) -> None:
    """Run the stages; end with one line."""
    with stoppable("finished stages stay; run it again to go on"):
        signal.signal(signal.SIGTERM, pass_on)
        remove_torn_locks()
        reproduce(targets)
        refuse_late_edit()


if __name__ == "__main__":
    main(sys.argv[1:])

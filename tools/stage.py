"""What every stage's command shares: its inputs stay as they are, and a stop is one line.

Use: ``with stage_command(): main(...)``. Outside of DVC only the second half applies.
"""

import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ad.files import HOST
from tools.unchanged import STAGE, WRITTEN, unchanged_inputs

PATIENCE = 10.0  # seconds for a clean end
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
SHELLS = ("sh", "bash", "dash", "zsh", "fish", "ksh", "busybox", "cmd.exe")


def sweep() -> None:
    """Remove what processes that are gone left half written (see `ad.files.atomic_path`).

    And the notebooks of failed stages whose results are there by now.
    """
    for folder in WRITTEN:
        for path in Path(folder).rglob("*.failed.ipynb"):  # any order: each one is looked at alone
            result = path.with_name(f"{path.name.removesuffix('.failed.ipynb')}.ipynb")
            with suppress(OSError):  # there is no result, or another run was faster
                if result.stat().st_mtime_ns > path.stat().st_mtime_ns:
                    path.unlink()
        for path in Path(folder).rglob(".*.part"):  # any order: each one is looked at alone
            *_, host, number, _ = path.name.split(".")
            if host == HOST and number.isdigit() and not psutil.pid_exists(int(number)):
                path.unlink(missing_ok=True)


def end_children(*, younger_than: float = math.inf, patience: float = PATIENCE) -> None:
    """Interrupt children, so that they can clean up, and kill what is left; kill young ones."""
    children = psutil.Process().children(recursive=True)
    with suppress(psutil.Error):
        children = [c for c in children if time.time() - c.create_time() < younger_than]
    for gently in (True, False) if math.isinf(younger_than) else (False,):
        for child in children:
            with suppress(psutil.Error, ValueError):  # Windows knows no interrupt for a process
                child.send_signal(signal.SIGINT) if gently else child.kill()
        _, children = psutil.wait_procs(children, timeout=patience)


def follow_dvc() -> None:
    """Stop this process when DVC is gone: a signal that ends DVC does not reach its commands."""
    parents = psutil.Process().parents()
    dvc = next((parent for parent in parents if parent.name() not in SHELLS), None)

    def watch() -> None:
        while dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    if dvc is not None:
        threading.Thread(target=watch, daemon=True).start()


@contextmanager
def stoppable(words: str) -> Iterator[None]:
    """End on Ctrl-C and SIGTERM with one line, without children and half-written files."""

    def tidy() -> None:
        end_children()
        sweep()
        with suppress(OSError):  # the terminal may be gone
            print(f"stopped; {words}", file=sys.stderr, flush=True)

    def give_up() -> None:
        tidy()
        os._exit(130)

    def stop(*_unused: object) -> None:
        for number in before:  # once is enough
            signal.signal(number, signal.SIG_IGN)
        # An exception that a library's callback swallows would stop nothing.
        last_resort.start()
        # A process that still imports has nothing to tidy, and would print a traceback.
        end_children(younger_than=2.0)
        logging.disable(logging.CRITICAL)  # libraries log the tracebacks of their own threads
        raise KeyboardInterrupt

    last_resort = threading.Timer(PATIENCE, give_up)
    last_resort.daemon = True
    before = {}
    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and background jobs have it
            before[number] = signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt:
        last_resort.cancel()
        tidy()
        raise SystemExit(130) from None
    finally:
        last_resort.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stage_command() -> Iterator[None]:
    """Run a stage's command: `unchanged_inputs` and `stoppable`, for as long as DVC is there."""
    # Threads that spin while they wait take a hundred times as long on busy cores; ones that sleep
    # at once, a fifth longer on quiet ones. Read by an OpenMP that is loaded from here on.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    with stoppable("finished stages stay; run it again to go on"):
        if os.environ.get(STAGE):
            follow_dvc()
            sweep()
        try:
            with unchanged_inputs():
                yield
        except (ValueError, OSError) as error:  # parameters; a full disk, a folder kept from us
            raise SystemExit(f"error: {error}") from None

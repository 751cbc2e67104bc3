"""Tasks in this process, on its cores or on a cluster.

Where a task runs changes nothing of its result, so nothing is run again because of it.  Workers
start as ``dask worker ADDRESS --nthreads 1``: a task sets how many threads its process uses.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

VARIABLE = "AD_CLUSTER"
PATIENCE = 30  # seconds for a first worker
FROZEN = 60  # seconds after which a worker of local:N that says nothing is given up
RETRIES = 3  # of a task whose worker was lost
ROOMS = ("ad", "cluster", "integer", "pretrained", "validation", "studies")


@cache
def code_sha256() -> str:
    """Hash the code that tasks run, so that no worker runs another."""
    root, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(p for room in ROOMS for p in (root / room).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def finish(failed: Sequence[str], count: int) -> None:
    """Raise for tasks that failed, when all others are done."""
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {count} tasks failed, the others finished: {failed[0]}"
        )


class Map(Protocol):
    """A ``map`` over tasks.

    Parameters
    ----------
    workers : int
        Processes that run tasks.
    """

    workers: int

    def __call__(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, stay: bool = False
    ) -> Iterator[Result]:
        """Run a function on every item.

        With ``stay`` item number i of every call goes to the same worker while there is one: what
        it remembers saves work, and changes no result.
        """


class _Here:
    workers = 1

    def __call__(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, stay: bool = False
    ) -> Iterator[Result]:
        failed = []
        for item in items:
            try:
                result = function(item)
            except (ValueError, OSError, MemoryError, EOFError) as error:
                failed.append(f"{item}: {error}")
                continue
            yield result
        finish(failed, len(items))


@contextmanager
def task_map(cluster: str | None = None, *, memory_gb: float | None = None) -> Iterator[Map]:
    """Give a ``map`` that yields results in the order of their items.

    Parameters
    ----------
    cluster : str, optional
        By default this process; ``local:N`` for N processes here, ``tcp://HOST:8786``, or a
        scheduler's ``.json`` file.  The variable ``AD_CLUSTER`` goes before it.
    memory_gb : float, optional
        Of a worker of ``local:N``; one that takes more is ended and its task tried again.

    Raises
    ------
    RuntimeError
        After all other tasks, when some failed; the first is named.
    ConnectionError
        Without a scheduler or worker, or when the scheduler is lost; in one line.
    """
    address = os.environ.get(VARIABLE) or cluster
    if not address:
        yield _Here()
        return
    from cluster.dask_client import connected  # an extra, which the default run does without

    with connected(address, memory_gb) as run:
        yield run

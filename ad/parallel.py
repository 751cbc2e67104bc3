"""Chunks of work on several threads, each operation on one: the same bits on any thread count."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from ad.determinism import one_thread_per_operation

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def chunk_map(
    threads: int | None = None,
) -> Iterator[Callable[[Callable[[Item], Result], Iterable[Item]], Iterator[Result]]]:
    """Give a ``map`` that runs chunks on ``threads`` threads and keeps their order.

    A matrix product that one library call spreads over threads may sum in another order on
    another thread count.  Here a chunk's operations run on one thread, and the chunks' borders
    do not depend on ``threads``, so neither do the results.  PyTorch and NumPy let go of the
    interpreter's lock in their operations, so threads are enough.

    Parameters
    ----------
    threads : int, optional
        Number of threads; by default PyTorch's current number.
    """
    with one_thread_per_operation() as available:
        workers = threads or available
        with ThreadPoolExecutor(workers) as pool:

            def run(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
                # A short queue keeps memory bounded: results wait for their reader.
                remaining = iter(items)
                waiting = [pool.submit(function, item) for item in islice(remaining, 2 * workers)]
                while waiting:
                    result = waiting.pop(0).result()
                    waiting.extend(pool.submit(function, i) for i in islice(remaining, 1))
                    yield result

            yield run

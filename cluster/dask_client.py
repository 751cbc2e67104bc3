"""The one module that imports Dask: its client, with the contract of `cluster.tasks.task_map`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from cluster.tasks import FROZEN, PATIENCE, RETRIES, Item, Map, Result, code_sha256, finish

try:
    import dask
    from distributed import (
        CancelledError,
        Client,
        Future,
        KilledWorker,
        LocalCluster,
        TimeoutError,
        get_worker,
    )
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
except ImportError as missing:
    raise ImportError(
        f"{missing.name} is not installed; a cluster needs the extra: pip install '.[cluster]'"
    ) from None

LOST = (CancelledError, FutureCancelledError, CommClosedError, TimeoutError, OSError)
CHECK = 5  # seconds until it is looked whether a task's worker is still there
CROWDED = "a worker runs several tasks in one process; start it with --nthreads 1"
GONE = "the scheduler is gone; finished rows stay, run it again to go on"


def guarded(function: Callable[[Item], Result], item: Item, code: str) -> tuple[bool, object]:
    """Run a task on a worker; give its result, or what is wrong in one line."""
    if code_sha256() != code:
        return False, "a worker has another version of the code; install the same on all"
    with suppress(ValueError):  # called outside a worker
        if get_worker().state.nthreads > 1:
            return False, CROWDED
    try:
        return True, function(item)
    except (ValueError, OSError, MemoryError, EOFError) as error:
        return False, " ".join(str(error).split())


class NoWorkers(ConnectionError):
    """All workers are gone, and none came back."""


class _OnDask:
    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def workers(self) -> int:
        return max(1, len(self.client.nthreads()))

    def _wait(self, future: Future, place: str | None, again: Callable[[], Future]) -> object:
        """Wait for a task; one that is bound to a worker that is gone starts again, anywhere.

        Dask itself gives it to another worker only if there is one at the moment of the loss.
        """
        alone = 0  # seconds without any worker
        while True:
            try:
                return future.result(timeout=CHECK)
            except TimeoutError:
                workers = self.client.nthreads()
                alone = 0 if workers else alone + CHECK
                if alone >= PATIENCE:
                    raise NoWorkers(f"no worker for {alone} s; start some, and run again") from None
                if workers and place is not None and place not in workers:
                    future.cancel()
                    future, place = again(), None

    def __call__(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, stay: bool = False
    ) -> Iterator[Result]:
        failed, code = [], code_sha256()
        submit = partial(self.client.submit, guarded, function, pure=False, retries=RETRIES)
        try:
            workers = sorted(self.client.nthreads()) if stay else []
            places = [workers[n % len(workers)] if workers else None for n in range(len(items))]
            futures = [
                submit(item, code, workers=place and [place], allow_other_workers=bool(place))
                for item, place in zip(items, places, strict=True)
            ]
            for item, place, future in zip(items, places, futures, strict=True):
                again = partial(submit, item, code)
                try:
                    done, result = self._wait(future, place, again)
                except KilledWorker:  # maybe by a task beside it, which Dask cannot tell
                    try:
                        done, result = self._wait(again(), None, again)
                    except KilledWorker:
                        done, result = False, "its worker was lost again and again"
                if done:
                    yield result
                else:
                    failed.append(f"{item}: {result}")
        except NoWorkers:
            raise
        except LOST:
            raise ConnectionError(GONE) from None
        finish(failed, len(items))


@contextmanager
def connected(address: str, memory_gb: float | None) -> Iterator[Map]:
    """Connect to a cluster, or start ``local:N``; see `cluster.tasks.task_map`."""
    with ExitStack() as stack:
        stack.enter_context(
            dask.config.set(
                {
                    "distributed.comm.timeouts.connect": f"{PATIENCE}s",
                    "distributed.scheduler.allowed-failures": RETRIES,
                    "distributed.nanny.environ.TQDM_DISABLE": "1",
                    "distributed.nanny.pre-spawn-environ.OMP_WAIT_POLICY": "passive",
                    "distributed.scheduler.worker-ttl": f"{FROZEN}s",
                }
            )
        )
        try:
            if address.startswith("local:"):
                local = LocalCluster(
                    n_workers=int(address.removeprefix("local:")),
                    threads_per_worker=1,
                    memory_limit=memory_gb and int(memory_gb * 1e9),
                    dashboard_address="127.0.0.1:0",
                )
                client = Client(stack.enter_context(local))
            elif Path(address).suffix == ".json":
                if not Path(address).is_file():  # Dask would wait for it without end
                    raise FileNotFoundError("no such file")
                client = Client(scheduler_file=address, timeout=PATIENCE)
            else:
                client = Client(address, timeout=PATIENCE)
            stack.enter_context(client)
            client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConnectionError(
                f"{address}: no scheduler with a worker within {PATIENCE} s ({reason}); start "
                f"'dask scheduler' and 'dask worker {address} --nthreads 1'"
            ) from None
        if max(client.nthreads().values()) > 1:
            raise ConnectionError(CROWDED)
        yield _OnDask(client)

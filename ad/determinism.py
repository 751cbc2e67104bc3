"""Seeds, threads, deterministic algorithms and hashes."""

import contextlib
import hashlib
import math
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# PyTorch is imported where it is used: a line decodes images without it.


def set_determinism(seed: int, threads: int | None = None) -> int:
    """Seed every generator, ask for deterministic algorithms, and set and return the threads.

    Parameters
    ----------
    seed : int
        Seed of Python's, NumPy's and PyTorch's global generators.  The library itself draws from
        explicit generators only; this covers what other libraries may draw.
    threads : int, optional
        Number of threads; by default as many as cores are given to this process.
    """
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - other libraries may draw from it
    torch.manual_seed(seed)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # As use_deterministic_algorithms(True), which loads PyTorch's compiler first: seconds a stage.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    threads = threads or available_cores()
    torch.set_num_threads(threads)
    return threads


def silence_warnings(module: str) -> None:
    """Show no warnings of modules whose names match a regular expression, in this process."""
    warnings.filterwarnings("ignore", module=module)


def available_cores() -> int:
    """Count the cores this process may use: affinity, containers' quotas, ``OMP_NUM_THREADS``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, int(min(cores or 1, cpu_quota(), int(said) if said.isdigit() else math.inf)))


def cpu_quota(root: Path = Path("/")) -> float:
    """Return how many cores Linux's control groups (v1 and v2) grant; infinity where they do not.

    A group's limit holds for all inside it, so the least of a group and those above it counts.
    """
    least, own = math.inf, root / "proc/self/cgroup"
    for line in own.read_text().splitlines() if own.is_file() else ():
        group = Path(line.split(":", 2)[2].lstrip("/"))  # a line is number:controllers:/group
        for mount in ("", "cpu", "cpu,cpuacct"):
            for inside in (group, *group.parents):
                least = min(least, _quota(root / "sys/fs/cgroup" / mount / inside))
    return least


def _quota(folder: Path) -> float:
    """Read one group's microseconds a period; infinity where there is no limit, or no group."""
    two, one = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max", or not there
        for names in (two, one):
            if (folder / names[0]).is_file():
                quota, period = " ".join((folder / name).read_text() for name in names).split()
                return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf


@contextmanager
def one_thread_per_operation() -> Iterator[int]:
    """Run each PyTorch and BLAS operation on one thread; yield the number that was in force."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield before
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Seed PyTorch's global CPU generator for the block only (module initialisers draw from it)."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_array(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's dtype, shape and C-ordered values, in hexadecimal."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(memoryview(array).cast("B") if array.size else b"")
    return digest.hexdigest()


def resolve_device(device: str) -> str:
    """Turn ``auto`` into ``cuda`` or ``cpu``; refuse ``cuda`` where there is none."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("runtime.device=cuda, but PyTorch sees no GPU here; use auto or cpu")
    return device

"""The most memory that a process held, by one definition wherever a study or benchmark says it."""

import sys
from pathlib import Path

import psutil

DEFINITION = (
    "The peak is the largest resident memory of any one process of the whole protocol (extraction, "
    "banks, scores; Python and PyTorch included), mapped files included, in 1e9 bytes."
)


def peak_resident_bytes() -> int:
    """Return the most memory that this process has held resident, mapped files included."""
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage: after vfork its peak begins with the parent's
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    import resource  # not on Windows

    return _bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def peak_of_worker(_item: object = None) -> int:
    """Return `peak_resident_bytes` as a task of a worker's."""
    return peak_resident_bytes()


def peak_of_children_bytes() -> int:
    """Return the peak of the largest process that this one has started and waited for."""
    import resource  # not on Windows

    return _bytes(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def _bytes(maxrss: int) -> int:
    return int(maxrss if sys.platform == "darwin" else maxrss * 1024)

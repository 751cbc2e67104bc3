"""Describe the machine and the libraries of a run."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from threadpoolctl import threadpool_info

from ad.determinism import available_cores

REPORTED_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow", "faiss-cpu")


def cpu_model() -> str:
    """Name the CPU as the operating system does."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def file_system(path: str | Path) -> str:
    """Name the type of the file system that holds ``path`` (ext4, overlay, NTFS, apfs, ...)."""
    path = Path(path).resolve()
    mounts = [
        part
        for part in psutil.disk_partitions(all=True)
        if path.is_relative_to(Path(part.mountpoint).resolve())
    ]
    if not mounts:
        return "unknown"
    return max(mounts, key=lambda part: len(Path(part.mountpoint).parts)).fstype or "unknown"


def listing_is_sorted(folder: str | Path) -> bool:
    """Tell whether the system happens to list ``folder`` and all folders below in sorted order."""
    for _, folders, names in os.walk(folder, topdown=False):  # any order: it is the question
        if folders != sorted(folders) or names != sorted(names):
            return False
    return True


def fingerprint(*, images: str | Path, threads: int, device: str) -> dict[str, object]:
    """Describe what a run's numbers may depend on beside its parameters and its inputs.

    Parameters
    ----------
    images : path
        A folder of images; its file system and raw listing order are recorded.
    threads : int
        Number of threads in force.
    device : str
        The device in force (``"cpu"`` or ``"cuda"``).

    Returns
    -------
    dict
        Plain values only; no host names, users or paths.
    """
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    blas = sorted({f"{library['internal_api']} {library['version']}" for library in libraries})
    packages = {name: version(name) for name in REPORTED_PACKAGES}
    return {
        "os": f"{platform.system()} {platform.release()}",
        "cpu": cpu_model(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "threads": threads,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "file_system": file_system(images),
        "listing_is_sorted": listing_is_sorted(images),
        "python": platform.python_version(),
        "byte_order": sys.byteorder,
        "blas": "; ".join(blas),
        "onednn": torch.backends.mkldnn.is_available(),
        **packages,
    }

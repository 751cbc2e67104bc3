"""Describe the machine and the libraries of a run; no result depends on them."""

import platform
import sys
from importlib.metadata import version
from pathlib import Path

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


def fingerprint(*, threads: int, device: str) -> dict[str, object]:
    """Describe what a float32 run's numbers may depend on; no host names, users or paths.

    Parameters
    ----------
    threads : int
        Number of threads in force.
    device : str
        ``"cpu"`` or ``"cuda"``.
    """
    import torch

    return {
        "os": f"{platform.system()} {platform.release()}",
        "cpu": cpu_model(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "threads": threads,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "python": platform.python_version(),
        "byte_order": sys.byteorder,
        **{name: version(name) for name in REPORTED_PACKAGES},
    }

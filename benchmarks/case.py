"""One measurement in a process of its own, so that its peak memory can be told.

Usage: python -m benchmarks.case million THREADS
       python -m benchmarks.case public THREADS
       python -m benchmarks.case study THREADS TIMES RATIO

``study`` takes the embedded images TIMES times over, and a coreset of RATIO.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ad.backbone import load_backbone
from ad.coreset import k_center_greedy, project
from ad.dataset import of_split
from tools.scan import scan
from ad.features import PatchSettings, extract_features
from ad.memory_bank import score_images
from benchmarks.parts import DATA, SEED, WEIGHTS
from benchmarks.peers import public_protocol


def peak_gb() -> float | None:
    """Return this process's largest resident memory; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    # Not getrusage: after vfork its peak begins with the parent's.
    line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def million(threads: int) -> dict:
    """Select 10,000 of 1,000,000 x 128 points that lie near 24 dimensions, as patches do."""
    generator = np.random.default_rng(SEED)
    points = np.empty((1_000_000, 128), dtype=np.float32)
    directions = generator.standard_normal((24, 128), dtype=np.float32)
    for start in range(0, len(points), 50_000):
        inside = generator.standard_normal((50_000, 24), dtype=np.float32)
        noise = generator.standard_normal((50_000, 128), dtype=np.float32)
        points[start : start + 50_000] = inside @ directions + np.float32(0.3) * noise
    start = time.perf_counter()
    k_center_greedy(points, 10_000, seed=SEED, threads=threads, progress=False)
    return {"selection": time.perf_counter() - start}


def public(threads: int) -> dict:
    """Run the team's protocol as written with the public implementation."""
    records = scan(DATA)
    train, test = (
        [DATA / record.path for record in of_split(records, split)] for split in ("train", "test")
    )
    network = load_backbone("wide_resnet101_2", weights="random", layers=["layer3"], seed=SEED)
    return public_protocol(
        network, train, test, folds=5, ratio=0.1, projection_dim=128, threads=threads
    )


def study(threads: int, times: int, ratio: float) -> dict:
    """Extract, select and score ``times`` the embedded images, the default settings otherwise."""
    records = scan(DATA)
    train, test = (
        [DATA / record.path for record in of_split(records, split)] * times
        for split in ("train", "test")
    )
    network = load_backbone("resnet10t", weights=WEIGHTS, layers=["layer2", "layer3"], seed=SEED)
    seconds, clock = {}, time.perf_counter()

    def done(part: str) -> None:
        nonlocal clock
        seconds[part], clock = time.perf_counter() - clock, time.perf_counter()

    with tempfile.TemporaryDirectory(dir="build") as folder:
        output = Path(folder) / "features.npy"
        extract_features(
            network,
            train + test,
            output,
            PatchSettings(3, None, None),
            image_size=224,
            image_resize=None,
            batch_size=32,
            memory_gb=3.0,
            threads=threads,
        )
        done("extraction")
        features = np.load(output, mmap_mode="r")
        patches = features[: len(train)].reshape(-1, features.shape[-1])
        points = project(patches, 128, seed=SEED)
        # Repeated images are moved a little: exact copies would make the selection easier.
        generator = np.random.default_rng(SEED)
        points += 0.01 * points.std() * generator.standard_normal(points.shape, dtype=np.float32)
        picks = k_center_greedy(
            points, round(ratio * len(points)), seed=SEED, threads=threads, progress=False
        )
        done("coreset")
        score_images(
            features[len(train) :],
            patches[np.sort(picks)],
            num_neighbors=5,
            squared=True,
            reweight=False,
            threads=threads,
        )
        done("scores")
    return {
        **seconds,
        "images": len(train) + len(test),
        "patches": len(points),
        "picks": len(picks),
    }


def main(arguments: list[str]) -> None:
    """Run the case named and print its figures as JSON."""
    name, threads = arguments[0], int(arguments[1])
    torch.set_num_threads(threads)
    if name == "million":
        result = million(threads)
    elif name == "public":
        result = public(threads)
    elif name == "study":
        result = study(threads, int(arguments[2]), float(arguments[3]))
    else:
        raise SystemExit(__doc__)
    print(json.dumps({**result, "peak_gb": peak_gb()}))


if __name__ == "__main__":
    main(sys.argv[1:])

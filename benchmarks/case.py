"""One measurement in a process of its own, so that its peak memory can be told.

Usage: python -m benchmarks.case million THREADS
       python -m benchmarks.case public THREADS
       python -m benchmarks.case networks THREADS
       python -m benchmarks.case line THREADS
       python -m benchmarks.case study THREADS [--times N] [--ratio SHARE]

``line`` needs a finished run. ``study`` takes the embedded images N times over, and a coreset of
SHARE.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ad.backbone import load_backbone
from ad.coreset import k_center_greedy
from ad.memory_bank import score_images
from ad.params import Score
from ad.projection import project
from benchmarks.line import line
from benchmarks.networks import networks
from benchmarks.parts import DEFAULT, SEED, K, extract, images
from benchmarks.peers import FOLDS, TEAM, public_protocol
from studies.shared.peak_memory import peak_resident_bytes


def million_points() -> np.ndarray:
    """Draw 1,000,000 x 128 points that lie near 24 dimensions, as patches do."""
    generator = np.random.default_rng(SEED)
    points = np.empty((1_000_000, 128), dtype=np.float32)
    directions = generator.standard_normal((24, 128), dtype=np.float32)
    for start in range(0, len(points), 50_000):
        inside = generator.standard_normal((50_000, 24), dtype=np.float32)
        noise = generator.standard_normal((50_000, 128), dtype=np.float32)
        points[start : start + 50_000] = inside @ directions + np.float32(0.3) * noise
    return points


def million() -> dict:
    """Select 10,000 of a million points."""
    points = million_points()
    start = time.perf_counter()
    k_center_greedy(points, 10_000, seed=SEED, progress=False)
    return {"selection": time.perf_counter() - start, "picks": 10_000}


def public() -> dict:
    """Run the team's protocol as written with the public implementation."""
    train, test = images()
    network = load_backbone(TEAM, seed=SEED)
    return public_protocol(network, train, test, folds=FOLDS, ratio=0.1, projection_dim=128)


def study(times: int, ratio: float) -> dict:
    """Extract, select and score ``times`` the embedded images, the default network's."""
    train, test = (part * times for part in images())
    seconds, clock = {}, time.perf_counter()

    def done(part: str) -> None:
        nonlocal clock
        seconds[part], clock = time.perf_counter() - clock, time.perf_counter()

    with tempfile.TemporaryDirectory(dir="build") as folder:
        features = extract(train + test, Path(folder) / "features.npy", DEFAULT, None)
        done("extraction")
        patches = features[: len(train)].reshape(-1, features.shape[-1])
        # Repeated images are moved a little: exact copies would make the selection easier.
        generator = np.random.default_rng(SEED)
        points = project(patches, None, seed=SEED).astype(np.float32)
        points += 0.01 * points.std() * generator.standard_normal(points.shape, dtype=np.float32)
        picks = k_center_greedy(points, round(ratio * len(points)), seed=SEED, progress=False)
        done("coreset")
        score_images(features[len(train) :], patches[np.sort(picks)], Score(num_neighbors=K))
        done("scores")
        del features, patches  # Windows cannot delete what is mapped
    count = {"images": len(train) + len(test), "patches": len(points), "picks": len(picks)}
    return {**seconds, **count, "ratio": ratio}


def main(arguments: list[str] | None = None) -> None:
    """Run the case named and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["million", "public", "networks", "line", "study"])
    parser.add_argument("threads", type=int)
    parser.add_argument("--times", type=int, default=1, help="the images, so many times over")
    parser.add_argument("--ratio", type=float, default=0.01, help="of the coreset")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.name == "study":
        result = study(given.times, given.ratio)
    else:
        result = {"million": million, "public": public, "networks": networks, "line": line}[
            given.name
        ]()
    print(json.dumps({**result, "peak_gb": peak_resident_bytes() / 1e9}))


if __name__ == "__main__":
    main()

"""One image on the line: the detector file beside the same scores in PyTorch's float32.

Both start from the pixels of the network's size, as a line hands them over.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ad.backbone import load_backbone
from ad.data import of_split, read_manifest
from ad.extraction import make_extractor
from ad.files import read_json
from ad.params import Params
from ad.detector.detector import Detector
from ad.detector.export import banks_of
from tools.parameters import read_yaml
from ad.sections import validate

PICTURES = 20  # taken in turn
WARM, REPEATS = 3, 50  # scores that are not timed, and scores that are


def median_of(score: Callable[[np.ndarray], object], pictures: list[np.ndarray]) -> float:
    """Return the median seconds of an image, after a few that are not counted."""
    seconds = []
    for number in range(WARM + REPEATS):
        start = time.perf_counter()
        score(pictures[number % len(pictures)])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM:])


def float32_score(root: Path, params: Params) -> Callable[[np.ndarray], float]:
    """Return the finished run's detector in float32: PyTorch's network, cdist and topk."""
    backbone = load_backbone(params.backbone, seed=params.seed, root=root)
    plain = make_extractor(backbone, params.image, params.patch, [], arithmetic="float32")
    drawn = banks_of(root / "artifacts", params.cv.folds)
    unit = np.float32(read_json(root / "artifacts/features.json")["unit"])
    banks = [torch.from_numpy(bank.astype(np.float32) * unit) for bank in drawn]
    k = params.score.num_neighbors

    def score(pixels: np.ndarray) -> float:
        features = torch.from_numpy(plain(pixels[None])).flatten(0, 2)
        means = [
            torch.cdist(features, bank).topk(k, largest=False).values.square().mean(dim=1)
            for bank in banks
        ]
        return float(torch.stack(means).max())

    return score


def line(root: Path = Path()) -> dict:
    """Time a finished run's detector file beside float32; needs ``artifacts/detector.onnx``."""
    params = validate(read_yaml(root / "params.yaml"), Params)
    detector = Detector.load(root / "artifacts/detector.onnx", threads=torch.get_num_threads())
    records = of_split(read_manifest(root / "artifacts/manifest.csv"), "test")[:PICTURES]
    pictures = [detector.pixels(root / params.data.path / record.path) for record in records]
    banks = banks_of(root / "artifacts", params.cv.folds)
    return {
        "backbone": params.backbone.name,
        "layers": params.backbone.layers,
        "size": detector.size,
        "bank": sum(map(len, banks)),
        "neighbors": detector.k,
        "ours": median_of(detector.score, pictures),
        "float32": median_of(float32_score(root, params), pictures),
        "repeats": REPEATS,
    }

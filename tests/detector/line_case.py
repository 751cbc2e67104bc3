"""A detector file of a small network, and images that it knows and does not."""

from pathlib import Path

import numpy as np
from small_data import draw_anomalous, draw_normal, extractor, save_png

from ad.extraction import features_of
from ad.memory_bank import score_images
from ad.params import Patch, Runtime, Score
from ad.detector.decision import Decision
from ad.detector.detector import appearance
from ad.detector.make import write_detector

SIZE = 48


def write_case(folder: Path, *, n_normal: int = 30) -> Path:
    """Write detector.onnx and images/: two normal ones and two with a defect; return the file."""
    rng = np.random.default_rng(0)
    normals = [draw_normal(rng, SIZE) for _ in range(n_normal)]
    tiny = extractor(normals, Patch(size=3), size=SIZE)
    features = features_of(tiny, normals, Runtime(threads=1))
    halves = np.arange(n_normal) % 2
    banks, held_out = [], []
    for half in (0, 1):
        bank = features[halves != half].reshape(-1, features.shape[-1])[::3]
        banks.append(bank)
        own = score_images(features[halves == half], bank, Score(num_neighbors=2))
        held_out.append(own.images.tolist())
    threshold = float(np.mean([max(own) for own in held_out]))
    about = {
        "held_out": held_out,
        "appearance": [appearance(own).tolist() for own in normals],
    }
    path = folder / "detector.onnx"
    write_detector(path, tiny.whole, Decision(banks, 2, threshold), tiny.rule, about)
    rng = np.random.default_rng(1)
    for n in range(2):
        save_png(folder / "images" / f"normal_{n}.png", draw_normal(rng, SIZE))
        defect = draw_anomalous(rng, SIZE, "blob")[0]
        save_png(folder / "images" / f"defect_{n}.png", defect)
    return path

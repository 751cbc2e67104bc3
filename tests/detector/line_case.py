"""A detector file of a small network, and images that it knows and does not."""

from pathlib import Path

import numpy as np
from small_data import draw_anomalous, draw_normal, extractor, save_png

from ad.detector.decision import Decision
from ad.detector.make import write_detector
from ad.detector.network import write_network
from ad.params import Patch, Score
from ad.scores import score_images

SIZE = 48
K = 2


def write_case(folder: Path, *, n_normal: int = 30) -> Path:
    """Write detector.onnx and images/: two normal ones and two with a defect; return the file."""
    rng = np.random.default_rng(0)
    normals = [folder / "normals" / f"{n:03d}.png" for n in range(n_normal)]
    for path in normals:
        save_png(path, draw_normal(rng, SIZE))
    tiny = extractor(normals, Patch(), size=SIZE)
    features = tiny(np.stack([tiny.rule.read(path) for path in normals]))
    halves = np.arange(n_normal) % 2
    banks, held_out, patches = [], [], []
    for half in (0, 1):
        bank = features[halves != half].reshape(-1, features.shape[-1])[::3]
        own = score_images(features[halves == half], bank, Score(num_neighbors=K))
        banks.append(bank)
        held_out.append(own.images.tolist())
        patches.append(own.patches.ravel())
    decision = Decision(banks, K, float(np.mean([max(own) for own in held_out])))
    write_network(folder / "network.onnx", tiny)
    write_detector(
        folder / "detector.onnx",
        folder / "network.onnx",
        decision,
        held_out=held_out,
        patch_threshold=float(np.quantile(np.concatenate(patches), 0.999)),
        normals=normals,
    )
    rng = np.random.default_rng(1)
    for n in range(2):
        save_png(folder / "images" / f"normal_{n}.png", draw_normal(rng, SIZE))
        defect = draw_anomalous(rng, SIZE, "blob")[0]
        save_png(folder / "images" / f"defect_{n}.png", defect)
    return folder / "detector.onnx"

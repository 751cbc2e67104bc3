"""The alternatives that are measured beside ours, restated from their public descriptions.

``public_coreset`` follows the sampling loop of amazon-science/patchcore-inspection
(``ApproximateGreedyCoresetSampler``): one pass over all features a pick.  ``public_protocol`` is
the student team's protocol as one writes it with that implementation: every fold extracts its
images again, patches are unfolded and pooled, and FAISS searches the bank.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ad.backbone import Backbone
from ad.params import BackboneSettings, Image
from ad.protocol import aggregate_folds, final_threshold, fold_indices

# The student team's network; the weights do not change the cost.
TEAM = BackboneSettings(name="wide_resnet101_2", weights="random", layers=["layer3"])
FOLDS, DIM = 5, 1024


def public_coreset(
    points: np.ndarray, n_select: int, *, seed: int, n_starts: int = 10
) -> np.ndarray:
    """Select greedily, one pass over all points a pick; starts from the mean of a few points."""
    features = torch.from_numpy(points)
    norms = features.square().sum(dim=1)

    def distances(rows: Tensor) -> Tensor:
        products = features @ features[rows].T
        return (norms[:, None] + norms[rows] - 2 * products).clamp_(min=0).sqrt_()

    starts = np.random.default_rng(seed).choice(len(points), n_starts, replace=False)
    nearest = distances(torch.from_numpy(starts)).mean(dim=1)
    picks = []
    for _ in range(n_select):
        pick = int(nearest.argmax())
        picks.append(pick)
        nearest = torch.minimum(nearest, distances(torch.tensor([pick]))[:, 0])
    return np.array(picks)


def faiss_flat(queries: np.ndarray, bank: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Search FAISS's exact flat index, as the wheel ships it; squared distances and rows."""
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    return index.search(queries, k)


def unfolded_patches(
    backbone: Backbone, paths: Sequence[Path], *, size: int, batch: int, dim: int
) -> np.ndarray:
    """Extract patches as the public implementation does: unfold, then pool twice to ``dim``.

    Returns
    -------
    array of float32, shape (n_images * h * w, dim)
    """
    rule, result = backbone.input_rule(Image(size=size)), []
    for start in range(0, len(paths), batch):
        images = [rule.normalised(rule.read(path)) for path in paths[start : start + batch]]
        with torch.inference_mode():
            (maps,) = backbone(torch.from_numpy(np.stack(images)))
            n, channels, height, width = maps.shape
            unfolded = F.unfold(maps, 3, padding=1).transpose(1, 2)  # (n, h * w, channels * 9)
            flat = unfolded.reshape(n * height * width, 1, channels * 9)
            pooled = F.adaptive_avg_pool1d(flat, dim)
            result.append(F.adaptive_avg_pool1d(pooled, dim)[:, 0].numpy())
    return np.concatenate(result)


def public_protocol(
    backbone: Backbone,
    train: Sequence[Path],
    test: Sequence[Path],
    *,
    folds: int,
    ratio: float,
    projection_dim: int,
    size: int = 224,
) -> dict[str, float]:
    """Run the protocol fold by fold and give the seconds of each part."""
    seconds = {"extraction": 0.0, "coreset": 0.0, "scores": 0.0}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[part] += time.perf_counter() - start

    held_out, scores = [], []
    for inside, outside in fold_indices(len(train), folds, shuffle=False, seed=0):
        images = [[train[i] for i in inside], [train[i] for i in outside], list(test)]
        with timed("extraction"):
            how = {"size": size, "batch": 32, "dim": DIM}
            patches = [unfolded_patches(backbone, paths, **how) for paths in images]
        with timed("coreset"):
            projection = np.random.default_rng(0).standard_normal((DIM, projection_dim))
            reduced = patches[0] @ projection.astype(np.float32)
            picks = public_coreset(reduced, round(ratio * len(reduced)), seed=0)
        with timed("scores"):
            bank = np.ascontiguousarray(patches[0][picks])
            both = [
                faiss_flat(part, bank, 5)[0].mean(axis=1).reshape(len(paths), -1).max(axis=1)
                for part, paths in zip(patches[1:], images[1:], strict=True)
            ]
        held_out.append(both[0])
        scores.append(both[1])
    flagged = aggregate_folds(np.array(scores)) > final_threshold(held_out)
    return {**seconds, "whole": sum(seconds.values()), "n_flagged": int(flagged.sum())}

"""The alternatives that are measured beside ours, restated from their public descriptions.

``public_coreset`` follows the sampling loop of amazon-science/patchcore-inspection
(``ApproximateGreedyCoresetSampler``): one pass over all features a pick.  ``public_protocol`` is
the student team's protocol as one writes it with that implementation: every fold extracts its
images again, patches are unfolded and pooled, and FAISS searches the bank.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ad.backbone import Backbone, load_backbone
from ad.extraction import make_extractor
from ad.images import InputRule
from ad.params import BackboneSettings, CrossValidation, Image, Params
from ad.protocol import aggregate_folds, fold_indices
from ad.thresholds import final_threshold

# The student team's network; the weights do not change the cost.
TEAM = BackboneSettings(name="wide_resnet101_2", weights="random", layers=["layer3"])
FOLDS, DIM, RATIO, PROJECTED, K = 5, 1024, 0.1, 128, 5


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


def float32_detector(
    params: Params, banks: Sequence[np.ndarray], unit: float
) -> Callable[[np.ndarray], float]:
    """Return a finished run's detector in float32: PyTorch's network, cdist and topk."""
    backbone = load_backbone(params.backbone, seed=params.seed)
    plain = make_extractor(backbone, params.image, params.patch, [], arithmetic="float32")
    scaled = [torch.from_numpy(bank.astype(np.float32) * np.float32(unit)) for bank in banks]

    def score(pixels: np.ndarray) -> float:
        features = torch.from_numpy(plain(pixels[None])).flatten(0, 2)
        nearest = (
            torch.cdist(features, bank).topk(params.score.num_neighbors, largest=False).values
            for bank in scaled
        )
        return float(max(own.square().mean(dim=1).max() for own in nearest))

    return score


def unfolded_patches(backbone: Backbone, rule: InputRule, paths: Sequence[Path]) -> np.ndarray:
    """Extract patches as the public implementation does: unfold, then pool twice to `DIM`.

    Returns
    -------
    array of float32, shape (n_images * h * w, DIM)
    """
    result = []
    for start in range(0, len(paths), 32):
        images = [rule.normalised(rule.read(path)) for path in paths[start : start + 32]]
        with torch.inference_mode():
            (maps,) = backbone(torch.from_numpy(np.stack(images)))
            n, channels, height, width = maps.shape
            unfolded = F.unfold(maps, 3, padding=1).transpose(1, 2)  # (n, h * w, channels * 9)
            flat = unfolded.reshape(n * height * width, 1, channels * 9)
            pooled = F.adaptive_avg_pool1d(F.adaptive_avg_pool1d(flat, DIM), DIM)
            result.append(pooled[:, 0].numpy())
    return np.concatenate(result)


def public_protocol(train: Sequence[Path], test: Sequence[Path]) -> dict[str, float]:
    """Run the protocol fold by fold; return each part's processor time, and how many it flags."""
    backbone = load_backbone(TEAM, seed=0)
    rule = backbone.input_rule(Image())
    seconds = {"extraction": 0.0, "coreset": 0.0, "scores": 0.0}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        start = time.process_time()
        yield
        seconds[part] += time.process_time() - start

    held_out, scores = [], []
    for inside, outside in fold_indices(len(train), CrossValidation(folds=FOLDS), seed=0):
        images = [[train[i] for i in inside], [train[i] for i in outside], list(test)]
        with timed("extraction"):
            patches = [unfolded_patches(backbone, rule, paths) for paths in images]
        with timed("coreset"):
            projection = np.random.default_rng(0).standard_normal((DIM, PROJECTED))
            reduced = patches[0] @ projection.astype(np.float32)
            picks = public_coreset(reduced, round(RATIO * len(reduced)), seed=0)
        with timed("scores"):
            bank = np.ascontiguousarray(patches[0][picks])
            both = [
                faiss_flat(part, bank, K)[0].mean(axis=1).reshape(len(paths), -1).max(axis=1)
                for part, paths in zip(patches[1:], images[1:], strict=True)
            ]
        held_out.append(both[0])
        scores.append(both[1])
    flagged = aggregate_folds(np.array(scores), "max") > final_threshold(held_out, "max")
    return seconds | {"flagged": int(flagged.sum())}

"""The core's parts beside their alternatives: coreset and neighbours, in one process.

Everything runs on as many threads as PyTorch is set to.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from ad import frontier
from ad.backbone import load_backbone
from ad.coreset import k_center_greedy
from ad.data import of_split
from ad.extraction import extract_features, make_extractor
from ad.indices import faiss_neighbors, recall
from ad.neighbors import exact_neighbors
from ad.params import BackboneSettings, Image, Patch, Runtime
from ad.projection import project
from benchmarks.peers import faiss_flat, public_coreset
from ad.scan import scan

DATA = Path("data")
K, RATIO, SEED = 5, 0.1, 0
DEFAULT = BackboneSettings(
    name="tf_efficientnet_lite0", weights="package", layers=["blocks.2", "blocks.4"]
)
# One layer pooled to the team's 1024 dimensions: the size of their coreset with real features.
WIDE = DEFAULT.model_copy(update={"layers": ["blocks.4"]})


def best_of(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several runs, in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def images() -> tuple[list[Path], list[Path]]:
    """List the embedded images for training and for the test."""
    records = scan(DATA)
    return tuple([DATA / r.path for r in of_split(records, split)] for split in ("train", "test"))


def extract(
    paths: Sequence[Path], output: Path, network: BackboneSettings, dim: int | None
) -> np.ndarray:
    """Extract features as the pipeline does, layers pooled to ``dim``; map them."""
    backbone, arithmetic = load_backbone(network, seed=SEED), network.arithmetic
    how = Image(size=224), Patch(size=3, pretrain_dim=dim, target_dim=dim), paths
    extractor = make_extractor(backbone, *how, arithmetic=arithmetic)
    extract_features(extractor, paths, output, Runtime())
    return np.load(output, mmap_mode="r")


def patches(
    output: Path, network: BackboneSettings, dim: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Extract the embedded images' patches; training and test patches, each (n, dim)."""
    train, test = images()
    whole = np.array(extract(train + test, output, network, dim))
    border = len(train)
    return tuple(part.reshape(-1, whole.shape[-1]) for part in (whole[:border], whole[border:]))


def product(left: np.ndarray, right: np.ndarray) -> float:
    """Time the bare float32 product left @ right.T, by the faster of NumPy and PyTorch."""
    left, right = left.astype(np.float32), right.astype(np.float32)
    a, b = torch.from_numpy(left), torch.from_numpy(right)
    out = np.empty((len(left), len(right)), dtype=np.float32)
    by_torch = best_of(lambda: torch.mm(a, b.T, out=torch.from_numpy(out)), 3)
    return min(by_torch, best_of(lambda: np.matmul(left, right.T, out=out), 3))


def coreset(features: np.ndarray) -> dict:
    """Time the selection of 10% in 128 projected dimensions beside the public loop."""
    n_select = round(RATIO * len(features))
    points = project(features, 128, seed=SEED)
    wide = points.astype(np.float32)
    picks = k_center_greedy(points, n_select, seed=SEED, progress=False)
    return {
        "shape": list(points.shape),
        "n_select": n_select,
        "ours": best_of(lambda: k_center_greedy(points, n_select, seed=SEED, progress=False), 3),
        "textbook": best_of(lambda: public_coreset(wide, n_select, seed=SEED), 1),
        "product": product(points, points[picks]),
        "measured": measured_share(points, n_select),
        "pruning": [pruning(wide, picks, at) for at in (400, 1600, n_select - 200)],
    }


def measured_share(points: np.ndarray, n_select: int) -> float:
    """Return the share of all pairs of a point and a pick whose distance is measured at all."""
    counts = []
    nearest = frontier._nearest

    def counting(left, right) -> np.ndarray:
        counts.append(len(left) * len(right))
        return nearest(left, right)

    frontier._nearest = counting
    try:
        k_center_greedy(points, n_select, seed=SEED, progress=False)
    finally:
        frontier._nearest = nearest
    return sum(counts) / (len(points) * n_select)


def pruning(points: np.ndarray, picks: np.ndarray, at: int) -> dict:
    """Say how much the triangle inequality could leave out after ``at`` picks.

    A pick p cannot come nearer to x than x's own centre c does where |p - c| >= 2 |x - c|.  Points
    are put in order of their centres and cut into blocks of 512; a block may skip a pick if all
    its points may.
    """
    x, centres = torch.from_numpy(points), torch.from_numpy(points[picks[:at]])
    nearest, owner = torch.cdist(x, centres).min(dim=1)
    between = torch.cdist(torch.from_numpy(points[picks[at : at + 200]]), centres)
    order = owner.argsort(stable=True)
    needed_points = needed_blocks = blocks = 0
    for rows in order.split(512):
        needed = between[:, owner[rows]] < 2 * nearest[rows]  # (200, 512)
        needed_points += int(needed.sum())
        needed_blocks += int(needed.any(dim=1).sum())
        blocks += len(needed)
    return {
        "picks": at,
        "points_needed": needed_points / (len(between) * len(points)),
        "blocks_needed": needed_blocks / blocks,
    }


def anomalib_shape(features: np.ndarray, dim: int) -> dict:
    """Time ours in the dimension that anomalib projects to, the projection included."""
    n_select, how = int(RATIO * len(features)), {"seed": SEED, "progress": False}
    points = project(features, dim, seed=SEED)
    return {
        "shape": list(points.shape),
        "n_select": n_select,
        "ours": best_of(lambda: k_center_greedy(features, n_select, projection_dim=dim, **how), 3),
        "product": product(points, points[:n_select]),
    }


def scoring(train: np.ndarray, test: np.ndarray, ratio: float) -> dict:
    """Time exact neighbours beside FAISS's indices and the bare product."""
    n_select = round(ratio * len(train))
    picks = k_center_greedy(train, n_select, seed=SEED, projection_dim=128, progress=False)
    bank = train[picks]
    exact = exact_neighbors(test, bank, K)
    start = time.perf_counter()
    hnsw = faiss_neighbors(test, bank, K, index="faiss_hnsw")
    hnsw_seconds = time.perf_counter() - start
    wide = test.astype(np.float32), bank.astype(np.float32)
    return {
        "queries": len(test),
        "bank": len(bank),
        "dim": bank.shape[1],
        "ours": best_of(lambda: exact_neighbors(test, bank, K), 3),
        "faiss_flat": best_of(lambda: faiss_flat(*wide, K), 3),
        "product": product(*wide),
        "faiss_hnsw": hnsw_seconds,
        "hnsw_recall": recall(hnsw, exact),
    }

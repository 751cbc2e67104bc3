"""The core's parts beside their alternatives: coreset and neighbours, in one process."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ad import coreset as coreset_module
from ad.backbone import load_backbone
from ad.coreset import k_center_greedy, project
from ad.dataset import of_split
from tools.scan import scan
from ad.features import PatchSettings, extract_features
from ad.neighbors import exact_neighbors, faiss_neighbors, recall
from benchmarks.peers import faiss_flat, textbook_coreset

DATA, WEIGHTS = Path("data"), "weights/embedded_resnet10t.safetensors"
K, RATIO, SEED = 5, 0.1, 0


def best_of(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several runs, in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def features(
    output: Path, layers: list[str], dim: int | None, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Extract the embedded images' patches; training and test patches, each (n, dim)."""
    records = scan(DATA)
    train, test = of_split(records, "train"), of_split(records, "test")
    backbone = load_backbone("resnet10t", weights=WEIGHTS, layers=layers, seed=SEED)
    extract_features(
        backbone,
        [DATA / record.path for record in train + test],
        output,
        PatchSettings(3, dim, dim),
        image_size=224,
        image_resize=None,
        batch_size=32,
        memory_gb=3.0,
        threads=threads,
    )
    whole = np.load(output)
    border = len(train)
    return tuple(part.reshape(-1, whole.shape[-1]) for part in (whole[:border], whole[border:]))


def product(left: np.ndarray, right: np.ndarray) -> float:
    """Time the bare product left @ right.T, by the faster of NumPy and PyTorch."""
    a, b = torch.from_numpy(left), torch.from_numpy(right)
    out = np.empty((len(left), len(right)), dtype=np.float32)
    by_torch = best_of(lambda: torch.mm(a, b.T, out=torch.from_numpy(out)), 3)
    return min(by_torch, best_of(lambda: np.matmul(left, right.T, out=out), 3))


def coreset(patches: np.ndarray, threads: int) -> dict:
    """Time the selection of 10% in 128 projected dimensions beside the textbook loop."""
    n_select = round(RATIO * len(patches))
    points = project(patches, 128, seed=SEED)
    picks = k_center_greedy(points, n_select, seed=SEED, threads=threads, progress=False)
    return {
        "shape": list(points.shape),
        "n_select": n_select,
        "ours": best_of(
            lambda: k_center_greedy(points, n_select, seed=SEED, threads=threads, progress=False), 3
        ),
        "textbook": best_of(lambda: textbook_coreset(points, n_select, seed=SEED), 1),
        "product": product(points, points[picks]),
        "measured": measured_share(points, n_select, threads),
        "pruning": [pruning(points, picks, at) for at in (400, 1600, n_select - 200)],
    }


def measured_share(points: np.ndarray, n_select: int, threads: int) -> float:
    """Return the share of all pairs of a point and a pick whose distance is measured at all."""
    counts = []
    nearest = coreset_module._nearest

    def counting(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        counts.append(len(left) * len(right))
        return nearest(left, right)

    coreset_module._nearest = counting
    try:
        k_center_greedy(points, n_select, seed=SEED, threads=threads, progress=False)
    finally:
        coreset_module._nearest = nearest
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


def anomalib_shape(patches: np.ndarray, projection_dim: int, threads: int) -> dict:
    """Time ours in the dimension that anomalib projects to, the projection included."""
    n_select = int(RATIO * len(patches))
    points = project(patches, projection_dim, seed=SEED)
    return {
        "shape": list(points.shape),
        "n_select": n_select,
        "ours": best_of(
            lambda: k_center_greedy(
                patches,
                n_select,
                seed=SEED,
                projection_dim=projection_dim,
                threads=threads,
                progress=False,
            ),
            3,
        ),
        "product": product(points, points[:n_select]),
    }


def scoring(train: np.ndarray, test: np.ndarray, ratio: float, threads: int) -> dict:
    """Time exact neighbours beside FAISS's indices and the bare product."""
    picks = k_center_greedy(
        train, round(ratio * len(train)), seed=SEED, projection_dim=128, progress=False
    )
    bank = train[picks]
    exact = exact_neighbors(test, bank, K, threads=threads)
    start = time.perf_counter()
    hnsw = faiss_neighbors(test, bank, K, index="faiss_hnsw", threads=threads)
    hnsw_seconds = time.perf_counter() - start
    return {
        "queries": len(test),
        "bank": len(bank),
        "dim": bank.shape[1],
        "ours": best_of(lambda: exact_neighbors(test, bank, K, threads=threads), 3),
        "faiss_flat": best_of(lambda: faiss_flat(test, bank, K, threads), 3),
        "product": product(test, bank),
        "faiss_hnsw": hnsw_seconds,
        "hnsw_recall": recall(hnsw, exact),
    }

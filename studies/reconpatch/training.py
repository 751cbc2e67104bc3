"""ReConPatch: a linear map of patch features learnt by relaxed contrast, without labels.

Hyun et al., *ReConPatch: Contrastive Patch Representation Learning for Industrial Anomaly
Detection*, WACV 2024 (arXiv 2305.16713), section 3.  A linear map f and a linear projection g are
trained; their exponential moving averages say, without gradient, how alike two patches are; the
likeness softly labels a relaxed contrastive loss.  Only f is kept: coreset and scores then work in
its space as PatchCore's do in the feature space.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from timm.optim import AdamP
from torch import Tensor

from ad.determinism import one_thread_per_operation
from ad.progress import progress_bar
from studies.reconpatch.maps import LinearMap, Moments, pca_map

SMALLEST_SQUARE = 1e-12  # the root's slope is unbounded at 0; below this the gradient is zero


@dataclass(frozen=True)
class Settings:
    """How f is trained.  The authors published no code; each value's source stands beside it.

    "paper" is the text of arXiv 2305.16713, section 4; "public" are re-implementations by others
    (travishsu/ReConPatch-TF, HIRO-ops-ops/ReConPatch); "ours" is chosen here, and why.
    """

    projection_dim: int | None = None  # of g; ours: None, as many as f's
    neighbors: int = 5  # k of the contextual similarity, the patch itself included; public
    alpha: float = 0.5  # weight of the pairwise similarity; paper
    sigma: float = 1.0  # bandwidth, in mean squared distances of the start; 1 in public
    margin: float = 1.0  # m, in mean distances of the batch; public
    momentum: float = 0.9  # gamma of the moving averages; public
    learning_rate: float = 1e-6  # ours, for "pca"; 1e-5 in the paper, from a random start
    weight_decay: float = 1e-2  # paper
    epochs: int = 120  # paper; each ends nearer to a zero rate (cosine annealing)
    patches_per_image: int = 32  # fresh ones each epoch; ours: all 784 take 24 times as long
    batch_patches: int = 512  # ours: similarities cost its square, neighbourhoods need its size
    start: str = "pca"  # ours: principal components; or "random" as in the paper
    whitening: float = 0.0  # of the start "pca", 0 to 1; ours

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.start not in ("pca", "random"):
            raise ValueError(f"start={self.start!r} must be 'pca' or 'random'")
        if not 0 <= self.alpha <= 1 or not 0 <= self.whitening <= 1:
            raise ValueError(f"alpha={self.alpha} and whitening={self.whitening} must be 0 to 1")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum} must be 0 to below 1")
        if min(self.sigma, self.margin, self.learning_rate) <= 0:
            raise ValueError(
                f"sigma={self.sigma}, margin={self.margin} and "
                f"learning_rate={self.learning_rate} must be above 0"
            )
        if not 2 <= self.neighbors <= self.batch_patches:
            raise ValueError(
                f"neighbors={self.neighbors} must be 2 to batch_patches={self.batch_patches}"
            )


def squared_distances(z: Tensor) -> Tensor:
    """Squared Euclidean distances among rows.

    Parameters
    ----------
    z : Tensor, shape (n, dim)

    Returns
    -------
    Tensor, shape (n, n)
        Zero on the diagonal, never negative.
    """
    norms = z.square().sum(dim=1)
    squared = (norms[:, None] + norms - 2 * (z @ z.T)).clamp(min=0)
    return squared * (1 - torch.eye(len(z), dtype=z.dtype))


def pairwise_similarity(squared: Tensor, sigma: float) -> Tensor:
    """Gaussian similarity ``exp(-||z_i - z_j||^2 / sigma)`` (section 3.2, pairwise)."""
    return torch.exp(-squared / sigma)


def _neighborhoods(squared: Tensor, k: int) -> Tensor:
    """Mark N_k(i) = {j : d_ij <= d_il, l the k-th nearest of i}, i itself included; 0 and 1."""
    kth = squared.topk(k, dim=1, largest=False).values.amax(dim=1, keepdim=True)
    return (squared <= kth).to(squared.dtype)


def contextual_similarity(squared: Tensor, k: int) -> Tensor:
    """Overlap of neighbourhoods, expanded over reciprocal neighbours, made symmetric.

    With N_k(i) the k nearest of i and R_k(i) = {j : j in N_k(i) and i in N_k(j)}:

    1. w~_ij = |N_k(i) & N_k(j)| / |N_k(i)| where j is in N_k(i), else 0;
    2. w^_ij = mean of w~_lj over l in R_{k/2}(i) (query expansion);
    3. w_ij = (w^_ij + w^_ji) / 2.

    Parameters
    ----------
    squared : Tensor, shape (n, n)
        Squared distances of the averaged maps' outputs.
    k : int
        At least 2; ``k / 2`` is rounded down.

    Returns
    -------
    Tensor, shape (n, n)
        Symmetric, 0 to 1.
    """
    near = _neighborhoods(squared, k)
    overlap = near @ near.T / near.sum(dim=1, keepdim=True) * near  # w~
    half = _neighborhoods(squared, max(1, k // 2))
    reciprocal = half * half.T
    expanded = reciprocal @ overlap / reciprocal.sum(dim=1, keepdim=True)  # w^
    return (expanded + expanded.T) / 2


def similarity(z: Tensor, *, alpha: float, sigma: float, k: int) -> Tensor:
    """Mix both similarities: ``alpha * pairwise + (1 - alpha) * contextual``."""
    squared = squared_distances(z)
    return alpha * pairwise_similarity(squared, sigma) + (1 - alpha) * contextual_similarity(
        squared, k
    )


def relaxed_contrastive_loss(z: Tensor, weights: Tensor, margin: float) -> Tensor:
    """Pull alike patches together, push others beyond the margin, on relative distances.

    With d_ij = ||z_i - z_j|| / (mean over n of ||z_i - z_n||):
    L = 1/N sum_ij w_ij d_ij^2 + (1 - w_ij) max(0, m - d_ij)^2.

    Parameters
    ----------
    z : Tensor, shape (n, dim)
        The only argument that gradients flow to.
    weights : Tensor, shape (n, n)
        w, from `similarity`.
    margin : float
        m, in mean distances.
    """
    distances = squared_distances(z).clamp(min=SMALLEST_SQUARE).sqrt()
    relative = distances / distances.mean(dim=1, keepdim=True)
    pull = weights * relative.square()
    push = (1 - weights) * (margin - relative).clamp(min=0).square()
    return (pull + push).sum() / len(z)


def _start(
    moments: Moments, n_components: int, settings: Settings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return f (dim, n_components) and g (n_components, projection_dim) before training."""
    dim = len(moments.mean)
    projection_dim = settings.projection_dim or n_components
    if settings.start == "pca" and n_components == dim and settings.whitening == 0:
        f = torch.eye(dim)  # as good a basis: nothing is left out, and distances are the features'
    elif settings.start == "pca":
        f = torch.from_numpy(pca_map(moments, n_components, whitening=settings.whitening).matrix)
        f *= math.sqrt(n_components) / f.norm()  # the rate means the same at every whitening
    else:
        f = torch.randn(dim, n_components, generator=generator) / math.sqrt(n_components)
    if settings.start == "pca" and projection_dim == n_components:
        g = torch.eye(n_components)
    else:
        g = torch.randn(n_components, projection_dim, generator=generator)
        g /= math.sqrt(projection_dim)
    return f.contiguous(), g


@dataclass(frozen=True)
class Trained:
    """The learnt map and its course.

    Parameters
    ----------
    map : LinearMap
        f, for raw features.
    losses : array of float32, shape (epochs,)
        Mean loss of each epoch.
    movement : float
        ``||f - f at the start|| / ||f at the start||`` (Frobenius): how much was learnt at all.
    """

    map: LinearMap
    losses: np.ndarray
    movement: float


def train(
    features: np.ndarray,
    n_components: int,
    moments: Moments,
    *,
    seed: int,
    settings: Settings | None = None,
    progress: bool = True,
) -> Trained:
    """Learn f from the patches of normal images.

    Every operation runs on one thread, so the result does not depend on their number; several
    trainings can share the cores (see `ad.parallel.chunk_map`).

    Parameters
    ----------
    features : array of float32, shape (n_images, n_patches, dim)
        Normal training images only; may be memory-mapped.
    n_components : int
        Dimension of the learnt space.
    moments : Moments
        Of the same patches: the start, and the unit of distances.
    seed : int
        Of the start (where random), and of the patches drawn.
    settings : Settings, optional
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        When ``n_components`` exceeds the dimension, or the patches do not fill one batch.
    """
    settings = settings or Settings()
    n_images, n_patches, dim = features.shape
    if not 1 <= n_components <= dim:
        raise ValueError(f"n_components={n_components} must be 1 to the feature's dim={dim}")
    per_image = min(settings.patches_per_image, n_patches)
    batch = settings.batch_patches
    steps = n_images * per_image // batch
    if steps < 1:
        raise ValueError(
            f"{n_images} images of {per_image} patches do not fill batch_patches={batch}; lower it"
        )
    generator = torch.Generator().manual_seed(seed)
    f, g = _start(moments, n_components, settings, generator)
    mean = torch.from_numpy(moments.mean.astype(np.float32))
    # In these units the start's mean squared distance is 1, whatever network made the features.
    scale = 1.0 / math.sqrt(_spread(moments, f))
    f_start, f_average, g_average = f.clone(), f.clone(), g.clone()
    f.requires_grad_()
    g.requires_grad_()
    optimizer = AdamP([f, g], lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
    losses = np.zeros(settings.epochs, dtype=np.float32)
    with (
        one_thread_per_operation(),
        progress_bar(settings.epochs, "ReConPatch", "epoch", show=progress) as bar,
    ):
        for epoch in range(settings.epochs):
            drawn = torch.rand(n_images, n_patches, generator=generator)
            columns = drawn.argsort(dim=1)[:, :per_image]
            rows = torch.arange(n_images)[:, None].expand_as(columns)
            order = torch.randperm(columns.numel(), generator=generator)
            rows, columns = rows.reshape(-1)[order].numpy(), columns.reshape(-1)[order].numpy()
            for step in range(steps):
                part = slice(step * batch, (step + 1) * batch)
                patches = torch.from_numpy(np.asarray(features[rows[part], columns[part]]))
                patches = (patches.to(torch.float32) - mean) * scale
                with torch.no_grad():
                    weights = similarity(
                        patches @ f_average @ g_average,
                        alpha=settings.alpha,
                        sigma=settings.sigma,
                        k=settings.neighbors,
                    )
                loss = relaxed_contrastive_loss(patches @ f @ g, weights, settings.margin)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    f_average.lerp_(f, 1 - settings.momentum)
                    g_average.lerp_(g, 1 - settings.momentum)
                losses[epoch] += loss.item() / steps
            bar.update(1)
    if not np.isfinite(losses).all():
        raise ValueError(
            f"the loss became {losses[~np.isfinite(losses)][0]}; lower learning_rate"
            f"={settings.learning_rate}"
        )
    f = f.detach()
    movement = float((f - f_start).norm() / f_start.norm())
    return Trained(LinearMap(f.numpy(), mean.numpy()), losses, movement)


def _spread(moments: Moments, f: Tensor) -> float:
    """Mean squared distance of two patches after f."""
    axes = torch.from_numpy(moments.eigenvectors.T.copy()) @ f.double()  # (dim, n_components)
    variances = torch.from_numpy(moments.eigenvalues.copy())
    return max(2.0 * float((variances[:, None] * axes.square()).sum()), np.finfo(np.float32).tiny)


def ensemble_scores(scores: list[np.ndarray], normal_scores: list[np.ndarray]) -> np.ndarray:
    """Average several models' scores after standardising each by its held-out normal scores.

    The paper's ensemble averages the scores of several backbones; networks differ in the scale
    of their distances, so each is brought to mean 0 and standard deviation 1 on normals first.

    Parameters
    ----------
    scores : list of array, each of the same shape
        Of the images (or patches) in question, one array a model.
    normal_scores : list of array
        Of held-out normal images, one array a model; at least 2 values that differ.
    """
    if not scores or len(scores) != len(normal_scores):
        raise ValueError(f"{len(scores)} score arrays for {len(normal_scores)} normal ones")
    total = np.zeros(np.shape(scores[0]))
    for own, normal in zip(scores, normal_scores, strict=True):
        spread = np.std(normal, ddof=1) if np.size(normal) > 1 else 0.0
        if spread == 0:
            raise ValueError("a model's normal scores do not vary; it cannot be standardised")
        total += (np.asarray(own) - np.mean(normal)) / spread
    return total / len(scores)

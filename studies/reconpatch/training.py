"""ReConPatch: a linear map of patch features learnt by relaxed contrast, without labels.

Hyun et al., *ReConPatch: Contrastive Patch Representation Learning for Industrial Anomaly
Detection*, WACV 2024 (arXiv 2305.16713), section 3.  A linear map f and a linear projection g are
trained; their exponential moving averages say, without gradient, how alike two patches are; the
likeness softly labels a relaxed contrastive loss.  Only f is kept: coreset and scores then work in
its space as PatchCore's do in the feature space.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from timm.optim import AdamP
from torch import Tensor

from ad.determinism import one_thread_per_operation
from studies.reconpatch.maps import LinearMap, Moments, check_components, pca_map
from studies.reconpatch.settings import Training

SMALLEST_SQUARE = 1e-12  # the root's slope is unbounded at 0; below this the gradient is zero


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


def neighborhoods(squared: Tensor, k: int) -> Tensor:
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
    near = neighborhoods(squared, k)
    overlap = near @ near.T / near.sum(dim=1, keepdim=True) * near  # w~
    half = neighborhoods(squared, max(1, k // 2))
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
    moments: Moments, n_components: int, training: Training, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return f (dim, n_components) and g (n_components, n_components) before training."""
    dim = len(moments.mean)
    if training.start == "random":
        f = torch.randn(dim, n_components, generator=generator) / math.sqrt(n_components)
        g = torch.randn(n_components, n_components, generator=generator)
        return f, g / math.sqrt(n_components)
    if n_components == dim and training.start_whitening == 0:
        f = torch.eye(dim)  # as good a basis: nothing is left out, and distances are the features'
    else:
        whitening = training.start_whitening
        f = torch.from_numpy(pca_map(moments, n_components, whitening=whitening).matrix)
        f *= math.sqrt(n_components) / f.norm()  # the rate means the same at every whitening
    return f.contiguous(), torch.eye(n_components)


def _spread(moments: Moments, f: Tensor) -> float:
    """Mean squared distance of two patches after f."""
    axes = torch.from_numpy(moments.eigenvectors.T.copy()) @ f.double()  # (dim, n_components)
    variances = torch.from_numpy(moments.eigenvalues.copy())
    return max(2.0 * float((variances[:, None] * axes.square()).sum()), np.finfo(np.float32).tiny)


def _epoch(
    shape: tuple[int, int], training: Training, generator: torch.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw an epoch's patches and split them into batches of (images, patches)."""
    n_images, n_patches = shape
    per_image = min(training.patches_per_image or n_patches, n_patches)
    columns = torch.rand(n_images, n_patches, generator=generator).argsort(dim=1)[:, :per_image]
    rows = torch.arange(n_images)[:, None].expand_as(columns)
    order = torch.randperm(columns.numel(), generator=generator)
    n_batches = len(order) // training.batch_patches  # the rest is spread: no patch is left out
    for part in np.array_split(order.numpy(), n_batches):
        yield rows.reshape(-1).numpy()[part], columns.reshape(-1).numpy()[part]


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
    kept : dict of int to LinearMap
        f after some epochs; 0 is the start.
    """

    map: LinearMap
    losses: np.ndarray
    movement: float
    kept: dict[int, LinearMap] = field(default_factory=dict)


def movement(start: LinearMap, linear_map: LinearMap) -> float:
    """Return how far a map is from another, as a share of that one's size (Frobenius)."""
    distance = np.linalg.norm(linear_map.matrix - start.matrix)
    return float(distance / np.linalg.norm(start.matrix))


class _Learner:
    """f, g, their moving averages and the optimiser."""

    def __init__(
        self, moments: Moments, n_components: int, training: Training, generator: torch.Generator
    ) -> None:
        f, g = _start(moments, n_components, training, generator)
        self.training, self.f, self.g = training, f.requires_grad_(), g.requires_grad_()
        self.averages = f.detach().clone(), g.detach().clone()
        self.mean = torch.from_numpy(moments.mean.astype(np.float32))
        # In these units the start's mean squared distance is 1, whatever network made the features.
        self.scale = 1.0 / math.sqrt(_spread(moments, f.detach()))
        self.optimizer = AdamP(
            [self.f, self.g], lr=training.learning_rate, weight_decay=training.weight_decay
        )

    def step(self, patches: Tensor) -> float:
        """Take one step on a batch, shape (n, dim), and return its loss."""
        how, inputs = self.training, (patches.to(torch.float32) - self.mean) * self.scale
        with torch.no_grad():
            labels = similarity(
                inputs @ self.averages[0] @ self.averages[1],
                alpha=how.alpha,
                sigma=how.sigma,
                k=how.neighbors,
            )
        loss = relaxed_contrastive_loss(inputs @ self.f @ self.g, labels, how.margin)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for average, learnt in zip(self.averages, (self.f, self.g), strict=True):
                average.lerp_(learnt, 1 - how.momentum)
        return loss.item()

    def map(self) -> LinearMap:
        """Return f as it is now."""
        return LinearMap(self.f.detach().numpy().copy(), self.mean.numpy())


def train(
    features: np.ndarray,
    n_components: int,
    moments: Moments,
    training: Training,
    *,
    seed: int,
    keep: Collection[int] = (),
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
    training : Training
    seed : int
        Of the start (where random), and of the patches drawn.
    keep : collection of int
        Epochs after which f is kept.

    Raises
    ------
    ValueError
        When ``n_components`` exceeds the dimension, the patches do not fill one batch, or the loss
        is not finite.
    """
    n_images, n_patches, dim = features.shape
    check_components(n_components, dim)
    patches = n_images * min(training.patches_per_image or n_patches, n_patches)
    steps = patches // training.batch_patches
    if steps < 1:
        raise ValueError(
            f"{patches} patches do not fill batch_patches={training.batch_patches}; lower it"
        )
    generator = torch.Generator().manual_seed(seed)
    losses = np.zeros(training.epochs, dtype=np.float32)
    with one_thread_per_operation():
        learner = _Learner(moments, n_components, training, generator)
        start = learner.map()
        kept = {0: start} if 0 in keep else {}
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            learner.optimizer, training.epochs * steps
        )
        for epoch in range(training.epochs):
            for rows, columns in _epoch((n_images, n_patches), training, generator):
                batch = torch.from_numpy(np.asarray(features[rows, columns]))
                losses[epoch] += learner.step(batch) / steps
                schedule.step()
            if not np.isfinite(losses[epoch]):
                rate = training.learning_rate
                raise ValueError(f"the loss became {losses[epoch]}; lower learning_rate={rate}")
            if epoch + 1 in keep:
                kept[epoch + 1] = learner.map()
    return Trained(learner.map(), losses, movement(start, learner.map()), kept)

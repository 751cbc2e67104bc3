"""ReConPatch: a linear map of patch features, learnt from normal images by relaxed contrast.

Hyun et al., *ReConPatch: Contrastive Patch Representation Learning for Industrial Anomaly
Detection*, WACV 2024 (arXiv 2305.16713), section 3.  A map f and a projection g are trained; their
exponential moving averages say, without gradient, how alike two patches of a batch are, and these
labels pull and push the pairs.  Only f is kept: PatchCore then works in its space.
"""

import functools
import math
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from timm.optim import AdamP
from torch import Tensor

from ad.determinism import one_thread_per_operation
from ad.params import Section

SMALLEST_SQUARE = 1e-12  # the root's slope is unbounded at 0


class Training(Section):
    """How f is learnt.

    AdamP, its decay and the cosine schedule are the paper's; its learning rate is 1e-5 for 120
    epochs.  It names no sigma, k, margin, momentum, batch or start that we know of.  ``sigma`` is
    in mean squared distances of the first batch (``start``) or of each one (``batch``), ``margin``
    in mean distances; ``whole_images`` fills a batch with all patches of few images.
    """

    steps: Annotated[int, Field(ge=1)] = 500
    learning_rate: Annotated[float, Field(ge=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    batch_patches: Annotated[int, Field(ge=4)] = 512
    whole_images: bool = False
    neighbors: Annotated[int, Field(ge=2)] = 5
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    sigma: Annotated[float, Field(gt=0)] = 1.0
    sigma_of: Literal["start", "batch"] = "start"
    margin: Annotated[float, Field(gt=0)] = 1.0
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.9
    start: Literal["random", "pca", "whitened"] = "random"
    projection: bool = True


def squared_distances(z: Tensor) -> Tensor:
    """Return squared Euclidean distances among the rows of z (n, dim): (n, n), diagonal 0."""
    norms = z.square().sum(dim=1)
    squared = (norms[:, None] + norms - 2 * (z @ z.T)).clamp(min=0)
    return squared * (1 - torch.eye(len(z), dtype=z.dtype))


def pairwise_similarity(squared: Tensor, sigma: float) -> Tensor:
    """Return ``exp(-||z_i - z_j||^2 / sigma)``, shape (n, n)."""
    return torch.exp(-squared / sigma)


def _neighborhoods(squared: Tensor, k: int) -> Tensor:
    """Mark N_k(i) = {j : d_ij <= distance of the k-th nearest of i}, i itself included; 0 and 1."""
    kth = squared.topk(k, dim=1, largest=False).values.amax(dim=1, keepdim=True)
    return (squared <= kth).to(squared.dtype)


def contextual_similarity(squared: Tensor, k: int) -> Tensor:
    """Return how far neighbourhoods overlap, over reciprocal neighbours, made symmetric.

    With N_k(i) the k nearest of i and R_k(i) = {j : j in N_k(i) and i in N_k(j)}:

    1. w~_ij = |N_k(i) & N_k(j)| / |N_k(i)| where j is in N_k(i), else 0;
    2. w^_ij = mean of w~_lj over l in R_{k/2}(i) (query expansion);
    3. w_ij = (w^_ij + w^_ji) / 2.

    ``squared`` has shape (n, n); k is 2 to n, and k / 2 is rounded down.
    """
    near = _neighborhoods(squared, k)
    overlap = near @ near.T / near.sum(dim=1, keepdim=True) * near  # w~
    half = _neighborhoods(squared, k // 2)
    reciprocal = half * half.T
    expanded = reciprocal @ overlap / reciprocal.sum(dim=1, keepdim=True)  # w^
    return (expanded + expanded.T) / 2


def relaxed_contrastive_loss(z: Tensor, weights: Tensor, margin: float) -> Tensor:
    """Pull alike patches together and push others beyond the margin, on relative distances.

    With d_ij = ||z_i - z_j|| / (mean over n of ||z_i - z_n||):
    L = 1/N sum_ij w_ij d_ij^2 + (1 - w_ij) max(0, m - d_ij)^2.  Multiplying z by a number changes
    nothing, so the loss does not hold the scale of z.

    Parameters
    ----------
    z : Tensor, shape (n, dim)
    weights : Tensor, shape (n, n)
        w; no gradient flows to it.
    margin : float
        m, in mean distances.
    """
    distances = squared_distances(z).clamp(min=SMALLEST_SQUARE).sqrt()
    relative = distances / distances.mean(dim=1, keepdim=True)
    pull = weights * relative.square()
    push = (1 - weights) * (margin - relative).clamp(min=0).square()
    return (pull + push).sum() / len(z)


def covariance_of(patches: np.ndarray) -> np.ndarray:
    """Return the covariance (dim, dim), float64, of patches (n, dim) around 0."""
    return (patches.T @ patches / np.float32(len(patches))).astype(np.float64)


def pca_matrix(patches: np.ndarray, n_components: int, *, whitened: bool) -> np.ndarray:
    """Return principal directions (dim, n_components); whitened, each of variance 1."""
    variances, axes = np.linalg.eigh(covariance_of(patches))  # the largest last
    if whitened:  # directions without variance keep a finite scale
        axes = axes / np.sqrt(variances.clip(min=1e-6 * variances[-1]))
    return np.ascontiguousarray(axes[:, ::-1][:, :n_components], dtype=np.float32)


def participation_ratio(covariance: np.ndarray) -> float:
    """Return (sum of variances)^2 / sum of their squares: how many directions patches fill."""
    return float(np.trace(covariance) ** 2 / np.square(covariance).sum())


def _uniform(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw a layer as Glorot and Bengio (2010)."""
    limit = math.sqrt(6 / (rows + columns))
    return (2 * torch.rand(rows, columns, generator=generator) - 1) * limit


def _start(patches: np.ndarray, n: int, start: str, generator: torch.Generator) -> Tensor:
    """Return f (dim, n) before training, of a random layer's size: a rate means the same."""
    f = _uniform(patches.shape[1], n, generator)
    if start == "random":
        return f
    axes = torch.from_numpy(pca_matrix(patches, n, whitened=start == "whitened"))
    return axes * (f.norm() / axes.norm())


def _batch(features: np.ndarray, how: Training, generator: torch.Generator) -> Tensor:
    """Draw a batch's patches, shape (n, dim)."""
    n_images, n_patches, dim = features.shape
    if how.whole_images:
        count = max(1, how.batch_patches // n_patches)
        images = torch.randperm(n_images, generator=generator)[:count].numpy()
        return torch.from_numpy(features[images].reshape(-1, dim))
    rows = torch.randint(n_images * n_patches, (how.batch_patches,), generator=generator).numpy()
    return torch.from_numpy(features[rows // n_patches, rows % n_patches])


def train(
    features: np.ndarray, n_components: int, how: Training, *, seed: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Learn f from the patches of normal images.

    Parameters
    ----------
    features : array of float32, shape (n_images, n_patches, dim)
        Of normal training images, around their mean.
    n_components : int
        Dimension of the learnt space.
    how : Training
    seed : int
        Of the start and of the batches.

    Returns
    -------
    matrix : array of float32, shape (dim, n_components)
    course : DataFrame
        A row every tenth of the steps: ``step``, ``loss`` (of a pair), the labels' means over pairs
        of different patches (``pairwise``, ``contextual``), ``participation`` of mapped patches.
    """
    generator = torch.Generator().manual_seed(seed)
    patches = features.reshape(-1, features.shape[-1])
    covariance = covariance_of(patches)
    layers = [_start(patches, n_components, how.start, generator)]
    if how.projection:
        layers.append(_uniform(n_components, n_components, generator))
    averages = [layer.clone() for layer in layers]
    layers = [layer.requires_grad_() for layer in layers]
    optimizer = AdamP(layers, lr=how.learning_rate, weight_decay=how.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.steps)
    unit, course = None, []
    with one_thread_per_operation():
        for step in range(how.steps):
            batch = _batch(features, how, generator)
            with torch.no_grad():
                squared = squared_distances(functools.reduce(torch.matmul, averages, batch))
                if unit is None or how.sigma_of == "batch":
                    unit = float(squared.mean())
                pairwise = pairwise_similarity(squared, how.sigma * unit)
                contextual = contextual_similarity(squared, how.neighbors)
                labels = how.alpha * pairwise + (1 - how.alpha) * contextual
            z = functools.reduce(torch.matmul, layers, batch)
            loss = relaxed_contrastive_loss(z, labels, how.margin)
            if not torch.isfinite(loss):
                raise ValueError(f"the loss is {loss.item()}; lower learning_rate")
            if step % max(1, how.steps // 10) == 0 or step == how.steps - 1:
                f = layers[0].detach().numpy()
                found = [step, loss.item() / len(batch), _apart(pairwise), _apart(contextual)]
                course.append([*found, participation_ratio(f.T @ covariance @ f)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for average, layer in zip(averages, layers, strict=True):
                    average.lerp_(layer, 1 - how.momentum)
    columns = ["step", "loss", "pairwise", "contextual", "participation"]
    return layers[0].detach().numpy(), pd.DataFrame(course, columns=columns)


def _apart(similarity: Tensor) -> float:
    """Return the mean over pairs of different patches."""
    n = len(similarity)
    return (similarity.sum() - similarity.trace()).item() / (n * (n - 1))

"""Linear maps of patch features to fewer dimensions, fitted on normal training patches only."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file

from ad.files import atomic_path
from ad.parallel import chunk_map
from ad.projection import random_projection

ROWS = 8192  # patches a thread takes at a time


def in_float32(features: np.ndarray, unit: float) -> np.ndarray:
    """Give whole numbers their unit: the maps of this study are trained and applied in float32."""
    return features.astype(np.float32) * np.float32(unit)


@dataclass(frozen=True)
class LinearMap:
    """``x -> (x - mean) @ matrix``.

    Parameters
    ----------
    matrix : array of float32, shape (dim, n_components)
    mean : array of float32, shape (dim,)
        Subtracted first; distances do not depend on it, rounding does.
    """

    matrix: np.ndarray
    mean: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Map features; the last axis is the feature, the others stay.

        Parameters
        ----------
        features : array of float, shape (..., dim)
            May be memory-mapped.

        Returns
        -------
        array of float32, shape (..., n_components)
        """
        dim, n_components = self.matrix.shape
        if features.shape[-1] != dim:
            raise ValueError(f"features have {features.shape[-1]} dimensions; the map takes {dim}")
        flat = features.reshape(-1, dim)
        result = np.empty((len(flat), n_components), dtype=np.float32)
        matrix, mean = torch.from_numpy(self.matrix), torch.from_numpy(self.mean)

        def one_chunk(start: int) -> None:
            rows = slice(start, start + ROWS)
            chunk = torch.from_numpy(np.array(flat[rows], dtype=np.float32))
            result[rows] = ((chunk - mean) @ matrix).numpy()

        with chunk_map() as run:
            for _ in run(one_chunk, range(0, len(flat), ROWS)):
                pass
        return result.reshape(*features.shape[:-1], n_components)


def save_map(path: str | Path, linear_map: LinearMap) -> None:
    """Write a map as ``.safetensors``: the tensors ``matrix`` and ``mean``, nothing else."""
    tensors = {
        "matrix": np.ascontiguousarray(linear_map.matrix, dtype=np.float32),
        "mean": np.ascontiguousarray(linear_map.mean, dtype=np.float32),
    }
    with atomic_path(path) as partial:
        save_file(tensors, partial)


def load_map(path: str | Path) -> LinearMap:
    """Read what `save_map` wrote."""
    tensors = load_file(path)
    return LinearMap(tensors["matrix"], tensors["mean"])


@dataclass(frozen=True)
class Moments:
    """First two moments of the training patches, from one pass over them.

    Parameters
    ----------
    mean : array of float64, shape (dim,)
    eigenvalues : array of float64, shape (dim,)
        Of the covariance, largest first; never negative.
    eigenvectors : array of float64, shape (dim, dim)
        Columns, in the same order; the largest entry of each is positive.
    """

    mean: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


def patch_moments(patches: np.ndarray) -> Moments:
    """Compute mean and covariance of patches and the covariance's eigenvectors.

    Parameters
    ----------
    patches : array of float, shape (n_patches, dim)
        Normal training patches; may be memory-mapped.

    Raises
    ------
    ValueError
        When there are fewer than two patches, or one is NaN or infinite.
    """
    n, dim = patches.shape
    if n < 2:
        raise ValueError(f"n_patches={n}; a covariance needs at least 2")
    # A shift near the mean keeps the sum of squares from cancelling in float32.
    shift = torch.from_numpy(np.array(patches[:: max(1, n // 1000)], dtype=np.float64).mean(axis=0))

    def one_chunk(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = np.array(patches[start : start + ROWS], dtype=np.float32)
        chunk = torch.from_numpy(rows) - shift.to(torch.float32)
        return chunk.sum(dim=0, dtype=torch.float64), (chunk.T @ chunk).double()

    total = torch.zeros(dim, dtype=torch.float64)
    products = torch.zeros(dim, dim, dtype=torch.float64)
    with chunk_map() as run:
        for first, second in run(one_chunk, range(0, n, ROWS)):
            total += first
            products += second
    if not bool(torch.isfinite(products).all()):
        raise ValueError("a training patch is NaN or infinite; extract the features again")
    offset = (total / n).numpy()
    covariance = (products.numpy() - n * np.outer(offset, offset)) / (n - 1)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    eigenvalues, eigenvectors = eigenvalues[::-1].clip(min=0), eigenvectors[:, ::-1]
    largest = np.abs(eigenvectors).argmax(axis=0)
    signs = np.sign(eigenvectors[largest, np.arange(dim)])  # a sign is free; fix it
    mean = offset + shift.to(torch.float32).double().numpy()
    return Moments(mean, eigenvalues, eigenvectors * signs)


def check_components(n_components: int, dim: int) -> None:
    """Refuse more components than dimensions."""
    if not 1 <= n_components <= dim:
        raise ValueError(f"n_components={n_components} must be 1 to the feature's dim={dim}")


def pooling_map(dim: int, n_components: int) -> LinearMap:
    """Adaptive average pooling over the feature's entries, as PatchCore reduces its features.

    This is how the ReConPatch paper brings PatchCore to fewer dimensions (Hyun et al., 2024, the
    table over dimensions); it mixes neighbouring channels, whose order means nothing.
    """
    check_components(n_components, dim)
    matrix = F.adaptive_avg_pool1d(torch.eye(dim)[None], n_components)[0]  # row i: pooled e_i
    return LinearMap(matrix.numpy(), np.zeros(dim, dtype=np.float32))


def projection_map(dim: int, n_components: int, *, seed: int) -> LinearMap:
    """Gaussian random projection (Johnson and Lindenstrauss)."""
    check_components(n_components, dim)
    matrix = random_projection(dim, n_components, seed=seed)
    return LinearMap(matrix, np.zeros(dim, dtype=np.float32))


def pca_map(moments: Moments, n_components: int, *, whitening: float = 0.0) -> LinearMap:
    """Principal components, scaled by their variance to the power ``-whitening / 2``.

    Parameters
    ----------
    moments : Moments
        Of the normal training patches.
    n_components : int
    whitening : float
        0 is plain PCA, 1 gives every component unit variance (Euclidean distance is then the
        Mahalanobis distance in the subspace), 0.5 lies between.

    Raises
    ------
    ValueError
        When ``whitening`` is outside 0 to 1, or ``n_components`` above the dimension.
    """
    dim = len(moments.mean)
    check_components(n_components, dim)
    if not 0 <= whitening <= 1:
        raise ValueError(f"whitening={whitening} must be 0 to 1")
    variances = moments.eigenvalues[:n_components]
    # Directions without variance would be blown up without bound; they keep the floor's scale.
    floor = variances[0] * 1e-6
    scales = np.maximum(variances, floor) ** (-whitening / 2) if floor > 0 else 1.0
    matrix = (moments.eigenvectors[:, :n_components] * scales).astype(np.float32)
    return LinearMap(matrix, moments.mean.astype(np.float32))

"""The reductions that are compared, each a linear map, and PatchCore's scores in their spaces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ad.protocol import BankImages, Protocol, score_in_parts, select_coresets
from studies.reconpatch.maps import LinearMap, Moments, pca_map, pooling_map, projection_map
from studies.reconpatch.settings import Training
from studies.reconpatch.training import train

LEARNT = "ReConPatch, short"
WHITENING = {"PCA": 0.0, "PCA, half whitened": 0.5, "PCA, whitened": 1.0}
# Simplest first: where the choice cannot tell two apart, the earlier one is taken.
METHODS = ("pooling", "projection", *WHITENING, LEARNT)
RANDOM = ("projection", LEARNT)  # fitted anew for every seed


def start_name(whitening: float) -> str:
    """Name the principal components that a training started from."""
    names = {amount: name for name, amount in WHITENING.items()}
    return names.get(whitening, f"PCA, whitening {whitening:g}")


def own_dimension(asked: int, listed: Sequence[int], dim: int) -> int | None:
    """Cap a dimension at the features' own, and run that one once.

    A map to more dimensions than the features have adds nothing that distances could see.

    Parameters
    ----------
    asked : int
        One of ``listed``.
    listed : sequence of int
        All dimensions of the study.
    dim : int
        The features' own.

    Returns
    -------
    int or None
        ``None`` where a smaller entry of the list already reaches the features' own.
    """
    if min(listed) < 1 or asked not in listed:
        raise ValueError(f"dimension={asked} must be one of {list(listed)}, all at least 1")
    if any(dim <= other < asked for other in listed):
        return None
    return min(asked, dim)


def layer_parts(layer_dims: Mapping[str, int], dim: int) -> dict[str, slice]:
    """Find each layer's part of a joined feature; empty where layers do not stand side by side.

    Parameters
    ----------
    layer_dims : mapping of str to int
        Dimension of each layer's feature, in the order of joining.
    dim : int
        Dimension of the joined feature.
    """
    if sum(layer_dims.values()) != dim:
        return {}
    stops = np.cumsum(list(layer_dims.values())).tolist()
    return {
        name: slice(stop - own, stop)
        for (name, own), stop in zip(layer_dims.items(), stops, strict=True)
    }


@dataclass(frozen=True)
class Fit:
    """A fitted map and, where it was learnt, each epoch's loss and how far it moved."""

    map: LinearMap
    losses: np.ndarray | None = None
    movement: float | None = None


def fit_map(
    method: str,
    n_components: int,
    features: np.ndarray,
    moments: Moments,
    training: Training,
    *,
    seed: int,
) -> Fit:
    """Fit one of `METHODS` on normal training patches.

    Parameters
    ----------
    method : str
    n_components : int
    features : array of float32, shape (n_images, n_patches, dim)
        Read by ReConPatch only.
    moments : Moments
        Of the same patches.
    training : Training
        Of ReConPatch.
    seed : int
        Of the projection and of ReConPatch; pooling and PCA are not random.
    """
    if method == "pooling":
        return Fit(pooling_map(features.shape[-1], n_components))
    if method == "projection":
        return Fit(projection_map(features.shape[-1], n_components, seed=seed))
    if method in WHITENING:
        return Fit(pca_map(moments, n_components, whitening=WHITENING[method]))
    if method == LEARNT:
        learnt = train(features, n_components, moments, training, seed=seed)
        return Fit(learnt.map, learnt.losses, learnt.movement)
    raise ValueError(f"method={method!r} must be one of {', '.join(METHODS)}")


def map_scores(
    linear_map: LinearMap, normals: np.ndarray, queries: np.ndarray, protocol: Protocol
) -> np.ndarray:
    """Select a coreset in the mapped space and score images against it, as PatchCore does.

    Parameters
    ----------
    linear_map : LinearMap
    normals : array of float32, shape (n_normals, h, w, dim)
        Images of the bank.
    queries : array of float32, shape (n_queries, h, w, dim)
    protocol : Protocol
        Without a projection: another one for every map would be a second reduction behind the one
        that is compared.

    Returns
    -------
    array of float64, shape (n_queries,)
    """
    everyone = np.arange(len(normals))
    images = BankImages([linear_map(normals)], everyone)
    (rows,) = select_coresets(images, [everyone], protocol)
    return score_in_parts(linear_map(queries), images.take(rows), protocol.score).images

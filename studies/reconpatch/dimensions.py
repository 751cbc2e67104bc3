"""PatchCore in fewer dimensions: each reduction on the same images; a choice without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from ad.protocol import BankImages, Protocol, score_in_parts, select_coresets
from studies.reconpatch.maps import LinearMap, Moments, pca_map, pooling_map, projection_map
from studies.reconpatch.training import Settings, train

# Simplest first: where the choice cannot tell two apart, the earlier one is taken.
METHODS = (
    "pooling",
    "projection",
    "PCA",
    "PCA, half whitened",
    "PCA, whitened",
    "ReConPatch",
    "ReConPatch, random start",
)
WHITENING = {"PCA": 0.0, "PCA, half whitened": 0.5, "PCA, whitened": 1.0}

RANDOM = ("projection", "ReConPatch", "ReConPatch, random start")  # fitted anew for every seed


def start_name(whitening: float | None) -> str:
    """Name the linear map that a training started from; ``None`` is the random start."""
    if whitening is None:
        return "projection"
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


def methods_at(n_components: int | None, *, random_up_to: int) -> list[str]:
    """List the methods to run in a dimension; the random start, up to a dimension only."""
    if n_components is None:
        return []
    return [m for m in METHODS if n_components <= random_up_to or not m.endswith("random start")]


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
    *,
    seed: int,
    settings: Settings,
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
    seed : int
        Of the projection and of ReConPatch; pooling and PCA are not random.
    settings : Settings
        Of ReConPatch; its ``start`` is set by the method's name.
    """
    if method == "pooling":
        return Fit(pooling_map(features.shape[-1], n_components))
    if method == "projection":
        return Fit(projection_map(features.shape[-1], n_components, seed=seed))
    if method in WHITENING:
        return Fit(pca_map(moments, n_components, whitening=WHITENING[method]))
    if method in METHODS:
        start = "random" if method.endswith("random start") else "pca"
        own = replace(settings, start=start)
        learnt = train(features, n_components, moments, seed=seed, settings=own, progress=False)
        return Fit(learnt.map, learnt.losses, learnt.movement)
    raise ValueError(f"method={method!r} must be one of {', '.join(METHODS)}")


def map_scores(
    linear_map: LinearMap,
    normals: np.ndarray,
    queries: np.ndarray,
    protocol: Protocol,
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


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Return the chance that an anomalous score is above a normal one; ties count half."""
    normal, anomalous = np.ravel(normal), np.ravel(anomalous)
    ranks = rankdata(np.concatenate([normal, anomalous]))
    above = ranks[len(normal) :].sum() - len(anomalous) * (len(anomalous) + 1) / 2
    return float(above / (len(normal) * len(anomalous)))


@dataclass(frozen=True)
class Candidate:
    """A reduction that may be chosen, with its scores of held-out normals and their anomalies.

    Parameters
    ----------
    method : str
    n_components : int
    normal : array of float, shape (n_draws, n_images)
        Held-out normal images, scored against several draws of the coreset.
    synthetic : array of float, shape (n_draws, n_images, n_kinds)
        The same images with synthetic anomalies pasted in.
    """

    method: str
    n_components: int
    normal: np.ndarray
    synthetic: np.ndarray

    @property
    def quality(self) -> float:
        """AUROC of the synthetic anomalies of all kinds against the normals, over the draws."""
        everything = np.arange(self.normal.shape[1])
        return self.quality_of(range(len(self.normal)), everything)

    def quality_of(self, draws: Sequence[int], images: np.ndarray) -> float:
        """Return the mean AUROC of some draws, on some images."""
        return float(
            np.mean([auroc(self.normal[d, images], self.synthetic[d, images]) for d in draws])
        )


def measure_candidate(
    method: str,
    linear_map: LinearMap,
    normals: np.ndarray,
    held_out: np.ndarray,
    synthetic: np.ndarray,
    protocols: Sequence[Protocol],
) -> Candidate:
    """Score held-out normals and their synthetic anomalies in a map's space.

    Parameters
    ----------
    method : str
        The candidate's name.
    linear_map : LinearMap
        Fitted on ``normals`` or fewer.
    normals : array of float32, shape (n_normals, h, w, dim)
        Images of the bank.
    held_out : array of float32, shape (n_images, h, w, dim)
    synthetic : array of float32, shape (n_images * n_kinds, h, w, dim)
        All kinds of the first image, then of the second, and so on.
    protocols : sequence of Protocol
        One a draw of the coreset: they differ in their seeds.
    """
    queries = np.concatenate([held_out, synthetic])
    scores = np.stack([map_scores(linear_map, normals, queries, each) for each in protocols])
    n_images = len(held_out)
    pasted = scores[:, n_images:].reshape(len(protocols), n_images, -1)
    return Candidate(method, linear_map.matrix.shape[1], scores[:, :n_images], pasted)


def choose_whitening(candidates: Sequence[Candidate], *, seed: int) -> float:
    """Choose how far to whiten the principal components that ReConPatch starts from.

    Training with a small rate stays near its start, so the start is chosen as a map of its own
    would be, by synthetic anomalies alone (see `choose`): the least whitened of those that cannot
    be told from the best.

    Parameters
    ----------
    candidates : sequence of Candidate
        Those named in `WHITENING`, in one dimension; others are passed over.
    """
    own = [candidate for candidate in candidates if candidate.method in WHITENING]
    if not own:
        raise ValueError(f"none of the candidates is one of {', '.join(WHITENING)}")
    return WHITENING[choose(own, seed=seed)[0].method]


def candidates_of(rows: Sequence[Sequence[object]]) -> list[Candidate]:
    """Gather rows of (method, dimensions, draw, image, normal score, each kind's), in order."""
    groups: dict[tuple[str, int], dict[int, list[list[float]]]] = {}
    for method, dimensions, draw, _, *scores in rows:
        own = groups.setdefault((str(method), int(dimensions)), {})
        own.setdefault(int(draw), []).append([float(s) for s in scores])
    tables = {key: np.array(list(own.values())) for key, own in groups.items()}
    return [Candidate(*key, own[:, :, 0], own[:, :, 1:]) for key, own in tables.items()]


def choose(
    candidates: Sequence[Candidate], *, seed: int, repeats: int = 500
) -> tuple[Candidate, list[dict[str, object]]]:
    """Choose a reduction by synthetic anomalies alone: no label, no test image.

    The best is found by AUROC.  Those that are worse by less than one standard error of the
    paired difference (images drawn anew, each with its anomalies, and the coreset's draws)
    cannot be told from it; of them the simplest in the order of `METHODS` is taken, then the one
    with fewer dimensions.

    Returns
    -------
    Candidate
        The choice.
    list of dict
        For each candidate: ``method``, ``dimensions``, ``synthetic_auroc``, ``difference`` to the
        best and its ``standard_error``, and whether it is ``chosen``.
    """
    best = max(candidates, key=lambda c: c.quality)
    generator = np.random.default_rng(seed)
    n_draws, n_images = best.normal.shape
    resamples = [
        (generator.integers(0, n_draws, n_draws), generator.integers(0, n_images, n_images))
        for _ in range(repeats)
    ]
    reference = np.array([best.quality_of(*resample) for resample in resamples])
    rows, alike = [], []
    for candidate in candidates:
        own = np.array([candidate.quality_of(*resample) for resample in resamples])
        error = float(np.std(reference - own, ddof=1))
        difference = best.quality - candidate.quality
        if difference <= error:
            alike.append(candidate)
        rows.append(
            {
                "method": candidate.method,
                "dimensions": candidate.n_components,
                "synthetic_auroc": candidate.quality,
                "difference": difference,
                "standard_error": error,
            }
        )
    chosen = min(alike, key=lambda c: (METHODS.index(c.method), c.n_components))
    for row, candidate in zip(rows, candidates, strict=True):
        row["chosen"] = candidate is chosen
    return chosen, rows


def wins(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Return the mean difference of two methods over the same seeds, and its standard error.

    Paired: a seed draws the same first centres for both.
    """
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    return float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))

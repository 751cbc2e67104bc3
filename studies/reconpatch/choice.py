"""Choices without labels: by held-out normal images and synthetic anomalies pasted into them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ad.protocol import Protocol
from studies.reconpatch.maps import LinearMap
from studies.reconpatch.methods import METHODS, WHITENING, map_scores
from studies.shared.synthetic_anomalies import RELATED
from studies.shared.uncertainty import REPEATS, difference_interval, pair_wins


@dataclass(frozen=True)
class Candidate:
    """A reduction that may be chosen, with its scores of held-out normals and their anomalies.

    Parameters
    ----------
    method : str
    n_components : int
    kinds : tuple of str
        Of synthetic anomalies; those in `RELATED` have no say in any choice.
    normal : array of float, shape (n_draws, n_images)
        Held-out normal images, scored against several draws of the coreset.
    synthetic : array of float, shape (n_draws, n_images, n_kinds)
        The same images with synthetic anomalies pasted in.
    """

    method: str
    n_components: int
    kinds: tuple[str, ...]
    normal: np.ndarray
    synthetic: np.ndarray

    def wins(self, kinds: Sequence[str] | None = None) -> np.ndarray:
        """Tell how often each image's anomalies score above each normal image.

        Returns
        -------
        array of float64, shape (n_draws, n_images, n_images)
            Anomalous by normal, the mean over the kinds (by default those that decide); the mean
            of all entries is AUROC.
        """
        kinds = kinds or [kind for kind in self.kinds if kind not in RELATED]
        columns = [self.kinds.index(kind) for kind in kinds]
        labels = np.repeat([0, 1], self.normal.shape[1])
        return np.array(
            [
                np.mean([pair_wins(labels, np.concatenate([n, s[:, k]])) for k in columns], axis=0)
                for n, s in zip(self.normal, self.synthetic, strict=True)
            ]
        )

    @property
    def quality(self) -> float:
        """AUROC of the synthetic anomalies that decide against the normals, over the draws."""
        return float(self.wins().mean())

    def by_kind(self) -> dict[str, float]:
        """AUROC of each kind; those that do not decide are marked."""
        return {
            f"{kind} (shown only)" if kind in RELATED else kind: float(self.wins([kind]).mean())
            for kind in self.kinds
        }


def measure_candidate(
    method: str,
    linear_map: LinearMap,
    images: tuple[np.ndarray, np.ndarray, np.ndarray],
    kinds: Sequence[str],
    protocols: Sequence[Protocol],
) -> Candidate:
    """Score held-out normals and their synthetic anomalies in a map's space.

    Parameters
    ----------
    method : str
        The candidate's name.
    linear_map : LinearMap
        Fitted on the bank's images or fewer.
    images : tuple of arrays of float32, each (n, h, w, dim)
        Of the bank; held out; and of these with anomalies pasted in: all kinds of the first image,
        then of the second, and so on.
    kinds : sequence of str
    protocols : sequence of Protocol
        One a draw of the coreset: they differ in their seeds.
    """
    bank, held_out, pasted = images
    queries = np.concatenate([held_out, pasted])
    scores = np.stack([map_scores(linear_map, bank, queries, each) for each in protocols])
    n = len(held_out)
    synthetic = scores[:, n:].reshape(len(protocols), n, len(kinds))
    return Candidate(method, linear_map.matrix.shape[1], tuple(kinds), scores[:, :n], synthetic)


def candidate_rows(candidate: Candidate, images: Sequence[int]) -> list[list[object]]:
    """Lay a candidate out as rows of a table: one a draw and image; see `candidates_of`."""
    return [
        [candidate.method, candidate.n_components, draw, image, normal, *pasted]
        for draw in range(len(candidate.normal))
        for image, normal, pasted in zip(
            images, candidate.normal[draw], candidate.synthetic[draw], strict=True
        )
    ]


def candidates_of(rows: Sequence[dict[str, str]]) -> list[Candidate]:
    """Gather rows with method, dimensions, draw, image, normal and the kinds, in order."""
    groups: dict[tuple[str, int], dict[int, list[list[float]]]] = {}
    for row in rows:
        method, dimensions, draw, _, *scores = row.values()
        draws = groups.setdefault((method, int(dimensions)), {})
        draws.setdefault(int(draw), []).append([float(score) for score in scores])
    kinds = tuple(rows[0])[5:] if rows else ()
    tables = {key: np.array(list(draws.values())) for key, draws in groups.items()}
    return [Candidate(*key, kinds, t[:, :, 0], t[:, :, 1:]) for key, t in tables.items()]


def resampled_qualities(
    candidates: Sequence[Candidate], *, seed: int, repeats: int = REPEATS
) -> np.ndarray:
    """Return every candidate's AUROC with the images, each with its anomalies, drawn again.

    Coresets are drawn again too; the draws are the same for all candidates, so differences are
    paired.

    Returns
    -------
    array of float64, shape (n_candidates, repeats)
    """
    generator = np.random.default_rng(seed)
    n_draws, n_images = candidates[0].normal.shape
    images = generator.multinomial(n_images, np.full(n_images, 1 / n_images), repeats) / n_images
    draws = generator.multinomial(n_draws, np.full(n_draws, 1 / n_draws), repeats) / n_draws
    return np.stack(
        [
            sum(
                draws[:, draw] * ((images @ wins) * images).sum(axis=1)
                for draw, wins in enumerate(candidate.wins())
            )
            for candidate in candidates
        ]
    )


def choose(
    candidates: Sequence[Candidate], *, seed: int
) -> tuple[Candidate, list[dict[str, object]]]:
    """Choose a reduction by synthetic anomalies alone: no label, no test image.

    The best is found by AUROC.  Those that are worse by less than one standard error of the
    paired difference cannot be told from it; of them the simplest in the order of `METHODS` is
    taken, then the one with fewer dimensions.

    Returns
    -------
    Candidate
        The choice.
    list of dict
        For each candidate: ``method``, ``dimensions``, ``synthetic_auroc``, ``difference`` to the
        best and its ``standard_error``, whether it is ``chosen``, and each kind's AUROC.
    """
    best = max(range(len(candidates)), key=lambda n: candidates[n].quality)
    drawn = resampled_qualities(candidates, seed=seed)
    errors = np.std(drawn[best] - drawn, axis=1, ddof=1)
    rows = [
        {
            "method": candidate.method,
            "dimensions": candidate.n_components,
            "synthetic_auroc": candidate.quality,
            "difference": candidates[best].quality - candidate.quality,
            "standard_error": float(error),
        }
        for candidate, error in zip(candidates, errors, strict=True)
    ]
    alike = [
        candidate
        for candidate, row in zip(candidates, rows, strict=True)
        if row["difference"] <= row["standard_error"]
    ]
    chosen = min(alike, key=lambda c: (METHODS.index(c.method), c.n_components))
    for row, candidate in zip(rows, candidates, strict=True):
        row |= {"chosen": candidate is chosen, **candidate.by_kind()}
    return chosen, rows


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
    starts = [candidate for candidate in candidates if candidate.method in WHITENING]
    if not starts:
        raise ValueError(f"none of the candidates is one of {', '.join(WHITENING)}")
    return WHITENING[choose(starts, seed=seed)[0].method]


def synthetic_losses(
    candidates: Sequence[Candidate], reference: Candidate, *, level: float, seed: int
) -> dict[tuple[str, int], tuple[float, float]]:
    """Return what each candidate loses in AUROC on synthetic anomalies, and at most loses.

    Returns
    -------
    dict
        By method and dimensions: the loss against ``reference`` and its one-sided upper bound at
        ``level``, over images and coresets drawn again.
    """
    full, *drawn = resampled_qualities([reference, *candidates], seed=seed)
    found = {}
    for candidate, own in zip(candidates, drawn, strict=True):
        loss = reference.quality - candidate.quality
        n_images = candidate.normal.shape[1]
        _, most = difference_interval(full - own, loss, n_images, 2 * level - 1)
        found[candidate.method, candidate.n_components] = loss, most
    return found


def fewest_dimensions(
    losses: dict[tuple[str, int], tuple[float, float]], method: str, margin: float
) -> int | None:
    """Return the smallest dimension whose loss is surely within a margin; None if there is none.

    From the most dimensions downwards, and no further than the first whose bound exceeds the
    margin: tests in a fixed sequence keep the level of a single one (Maurer, Hothorn and
    Lehmacher, 1995).
    """
    found = None
    for dimensions in sorted((n for name, n in losses if name == method), reverse=True):
        if losses[method, dimensions][1] > margin:
            break
        found = dimensions
    return found

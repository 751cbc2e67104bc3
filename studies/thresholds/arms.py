"""Kinds of folds measured on unseen normals, and grouped folds where there are duplicates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold

from ad.progress import progress_bar
from ad.protocol import Folds, Protocol, cross_validate, fold_indices
from studies.shared.rates import compare_flags
from studies.thresholds.folds import (
    cluster_folds,
    find_duplicates,
    grouped_folds,
    image_embeddings,
    plant_duplicates,
)
from studies.thresholds.nested import NestedScores, compare_rules, flags_of, nested_scores
from studies.thresholds.rules import PROTOCOL, threshold_of

KFOLD, SHUFFLED = "KFold", "KFold, shuffled"
CLUSTERS, GROUPED = "stratified by clusters", "grouped by near-duplicates"
Split = Callable[[np.ndarray], Folds]


def fold_kinds(
    embeddings: np.ndarray, groups: np.ndarray, *, folds: int, clusters: int, seed: int
) -> dict[str, Split]:
    """Return each kind of folds as a function of image numbers.

    Grouped folds are left out where no image has a near-duplicate: they are the shuffled ones.
    """
    kinds: dict[str, Split] = {
        KFOLD: lambda own: fold_indices(len(own), folds, shuffle=False, seed=seed),
        SHUFFLED: lambda own: fold_indices(len(own), folds, shuffle=True, seed=seed),
        CLUSTERS: lambda own: cluster_folds(embeddings[own], folds, n_clusters=clusters, seed=seed)[
            0
        ],
    }
    if len(np.unique(groups)) < len(groups):
        kinds[GROUPED] = lambda own: grouped_folds(groups[own], folds, seed=seed)
    return kinds


def measure_kinds(
    normals: np.ndarray, kinds: Mapping[str, Split], protocol: Protocol, *, outer_folds: int
) -> dict[str, list[NestedScores]]:
    """Run the nested measurement once for each kind of folds."""
    return {
        name: nested_scores(normals, protocol, outer_folds=outer_folds, split=split)
        for name, split in kinds.items()
    }


def compare_kinds(
    measured: Mapping[str, Sequence[NestedScores]], rate: float
) -> list[dict[str, object]]:
    """Compare kinds of folds with the first by false alarms on unseen normals, paired by image.

    Returns
    -------
    list of dict
        ``folds``, ``alarms``, ``normals``, ``false alarms`` (a rate), ``low``, ``high``; ``only
        here`` and ``only there`` count images that one of the two flags, ``p`` is the exact test
        on them; then the conformal threshold's rate, and the standard deviation of the folds'
        maxima in units of a normal's score.
    """
    reference = flags_of(next(iter(measured.values())), PROTOCOL)
    rows = []
    for name, nested in measured.items():
        own, conformal = compare_rules(nested, [PROTOCOL, f"conformal:{rate:g}"], ["max"])
        here, there, p_value = compare_flags(flags_of(nested, PROTOCOL), reference)
        spreads = [
            np.std([scores.max() for scores in part.inner], ddof=1)
            / np.std(np.concatenate(part.inner), ddof=1)
            for part in nested
        ]
        rows.append(
            {
                "folds": name,
                "alarms": own["alarms"],
                "normals": own["normals"],
                "false alarms": own["measured"],
                "low": own["low"],
                "high": own["high"],
                "only here": here,
                "only there": there,
                "p": p_value,
                f"conformal:{rate:g}": conformal["measured"],
                "spread of thresholds": float(np.mean(spreads)),
            }
        )
    return rows


@dataclass(frozen=True)
class Planting:
    """How duplicates are planted and found.

    Parameters
    ----------
    share : float
        Of the normals that get a copy.
    noise : float
        Of the copies, in units of each value's standard deviation over the images.
    nearer : float
        See `find_duplicates`.
    """

    share: float
    noise: float
    nearer: float


@dataclass(frozen=True)
class Planted:
    """What folds that split duplicates do, and folds that do not, on the same planted set.

    Parameters
    ----------
    planted, found, other : int
        Pairs that were planted, those of them that the finder found, and what else it took for
        pairs; all outer parts together.
    twins, lower : int
        Images with a twin, and how many of them have a lower held-out score where folds split
        pairs than where they do not.
    split, grouped : list of NestedScores
        Shuffled folds, which split the pairs, and folds grouped by the finder's pairs.
    """

    planted: int
    found: int
    other: int
    twins: int
    lower: int
    split: list[NestedScores]
    grouped: list[NestedScores]

    def thresholds(self) -> tuple[float, float]:
        """Return the mean threshold of folds that split pairs, and of grouped ones."""
        both = (self.split, self.grouped)
        split, grouped = (np.mean([threshold_of(PROTOCOL, p.inner) for p in own]) for own in both)
        return float(split), float(grouped)

    def flags(self) -> tuple[np.ndarray, np.ndarray]:
        """Flag the unseen normals with folds that split pairs, and with grouped ones."""
        return flags_of(self.split, PROTOCOL), flags_of(self.grouped, PROTOCOL)


def measure_planted(
    normals: np.ndarray, protocol: Protocol, planting: Planting, *, outer_folds: int, folds: int
) -> Planted:
    """Plant duplicates among all but an outer part of the normals, each in turn, and measure.

    The outer parts are those of `nested_scores`; no copy of their images is planted.
    """
    counts = np.zeros(5, dtype=int)  # as `Planted` lists them
    measured: tuple[list[NestedScores], list[NestedScores]] = ([], [])
    splitter = KFold(outer_folds, shuffle=True, random_state=protocol.seed)
    with progress_bar(outer_folds, "planted duplicates", "outer part") as bar:
        for rest, outer in splitter.split(normals):
            images, source = plant_duplicates(
                normals[rest], share=planting.share, noise=planting.noise, seed=protocol.seed
            )
            pairs = find_duplicates(image_embeddings(images), share=planting.nearer)
            splits = (
                fold_indices(len(images), folds, shuffle=True, seed=protocol.seed),
                grouped_folds(pairs.groups, folds, seed=protocol.seed),
            )
            held_out = np.empty((2, len(images)))
            for split, own, scores in zip(splits, measured, held_out, strict=True):
                result = cross_validate(images, [normals[outer]], split, protocol)
                own.append(NestedScores(result.held_out, result.fold_scores))
                scores[np.concatenate([held for _, held in split])] = np.concatenate(own[-1].inner)
            right = sum(int(source[a] == source[b]) for a, b, _ in pairs.pairs)
            twin = np.bincount(source)[source] > 1
            lower = (held_out[0] < held_out[1]) & twin
            n_planted, other = len(images) - len(rest), len(pairs.pairs) - right
            counts += [n_planted, right, other, twin.sum(), lower.sum()]
            bar.update(1)
    return Planted(*counts.tolist(), *measured)

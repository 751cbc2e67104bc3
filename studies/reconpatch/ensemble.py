"""One learnt map, or several, each with a bank of its own, whose scores are averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ad.parallel import chunk_map
from ad.progress import progress_bar
from ad.protocol import Protocol
from pages import plots
from pages.report import markdown_table
from studies.reconpatch.choice import Candidate, choose_whitening, measure_candidate
from studies.reconpatch.maps import LinearMap, patch_moments, pca_map
from studies.reconpatch.methods import LEARNT, WHITENING, fit_map, map_scores
from studies.reconpatch.runs import Images
from studies.reconpatch.settings import Training
from studies.shared.uncertainty import auroc_difference, pair_wins

ENSEMBLE = "ensemble"


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


def choose_members(
    joined: str, images: Images, others: Mapping[str, Images], parts: Mapping[str, slice]
) -> tuple[dict[str, Images], list[str]]:
    """Decide what is averaged: networks where there are others, else the layers of the one.

    Returns
    -------
    members : dict of Images
        All that maps are learnt for; empty where there is no ensemble to show.
    averaged : list of str
        Those of them that the ensemble averages.
    """
    if others:
        return {joined: images, **others}, [joined, *others]
    if len(parts) < 2:
        return {}, []
    layers = {
        name: replace(
            images,
            normals=images.normals[..., own],
            test=images.test[..., own],
            synthetic=images.synthetic[..., own],
        )
        for name, own in parts.items()
    }
    return {joined: images, **layers}, list(layers)


def members_table(
    members: Mapping[str, Images], averaged: Sequence[str], missing: Sequence[str]
) -> str:
    """Say what the ensemble consists of, and what is not taken in."""
    left_out = f" Not taken in: {'; '.join(missing)}." if missing else ""
    if not averaged:
        return (
            "No other network has weights here, and the features are not several layers side by "
            "side: there is no ensemble to show." + left_out
        )
    images = members[averaged[0]]
    listed = ", ".join(f"{n} ({members[n].normals.shape[-1]} dimensions)" for n in averaged)
    return (
        f"Members of the ensemble: {listed}. Banks hold {len(images.kept)} normal images; "
        f"{len(images.held_out)} others standardise the scores.{left_out}"
    )


@dataclass(frozen=True)
class Rated:
    """A member's or the ensemble's scores, a row a seed.

    Parameters
    ----------
    test : array, shape (seeds, n_test)
    candidate : Candidate
        Scores of held-out normals and synthetic anomalies; a draw a seed.
    start : float or None
        Whitening of the start; None for the ensemble.
    """

    test: np.ndarray
    candidate: Candidate
    start: float | None = None


def learn_and_score(
    name: str,
    images: Images,
    n_components: int,
    training: Training,
    protocols: Sequence[Protocol],
    *,
    whitening: float | None,
) -> Rated:
    """Choose a member's start, learn a map for every seed and score with it.

    Parameters
    ----------
    name : str
    images : Images
    n_components : int
        Capped at the features' own.
    training : Training
    protocols : sequence of Protocol
        One a seed of the map and of its coreset.
    whitening : float or None
        Of the start; None: chosen by synthetic anomalies.
    """
    bank, held_out, synthetic = images.for_choice()
    patches = np.ascontiguousarray(bank).reshape(len(bank), -1, bank.shape[-1])
    moments = patch_moments(patches.reshape(-1, bank.shape[-1]))
    n_components = min(n_components, bank.shape[-1])
    if whitening is None:
        candidates = [
            measure_candidate(
                method,
                pca_map(moments, n_components, whitening=amount),
                (bank, held_out, synthetic),
                images.kinds,
                protocols,
            )
            for method, amount in WHITENING.items()
        ]
        whitening = choose_whitening(candidates, seed=protocols[0].seed)
    training = training.model_copy(update={"start": "pca", "start_whitening": whitening})

    def one(protocol: Protocol) -> LinearMap:
        seed = protocol.seed
        return fit_map(LEARNT, n_components, patches, moments, training, seed=seed).map

    with chunk_map() as run, progress_bar(len(protocols), name, "map") as bar:
        maps = []
        for learnt in run(one, protocols):
            maps.append(learnt)
            bar.update(1)
    queries = np.concatenate([held_out, images.test, synthetic])
    pairs = zip(maps, protocols, strict=True)
    scores = np.stack([map_scores(one, bank, queries, each) for one, each in pairs])
    return _rated(name, scores, images, n_components, whitening)


def _rated(
    name: str, scores: np.ndarray, images: Images, n_components: int, start: float | None = None
) -> Rated:
    """Split scores, shape (seeds, held out + test + synthetic)."""
    n, n_test = len(images.held_out), len(images.test)
    synthetic = scores[:, n + n_test :].reshape(len(scores), n, len(images.kinds))
    candidate = Candidate(name, n_components, images.kinds, scores[:, :n], synthetic)
    return Rated(scores[:, n : n + n_test], candidate, start)


def average(rated: Sequence[Rated], images: Images) -> Rated:
    """Average members, each standardised by its held-out normals, seed by seed."""
    parts = [
        np.concatenate(
            [r.candidate.normal, r.test, r.candidate.synthetic.reshape(len(r.test), -1)], 1
        )
        for r in rated
    ]
    n = len(images.held_out)
    rows = [
        ensemble_scores([p[seed] for p in parts], [p[seed, :n] for p in parts])
        for seed in range(len(parts[0]))
    ]
    total = sum(r.candidate.n_components for r in rated)
    return _rated(ENSEMBLE, np.stack(rows), images, total)


def result_rows(rated: Mapping[str, Rated], labels: np.ndarray | None) -> list[dict[str, object]]:
    """Return AUROC of synthetic anomalies and of test images for every seed."""
    return [
        {
            "features": name,
            "seed": seed,
            "synthetic_auroc": float(each.candidate.wins()[seed].mean()),
            "image_auroc": None
            if labels is None
            else float(pair_wins(labels, each.test[seed]).mean()),
        }
        for name, each in rated.items()
        for seed in range(len(each.test))
    ]


def merits(rows: Sequence[Mapping[str, object]]) -> dict[str, dict[str, np.ndarray]]:
    """Gather `result_rows` by features and figure of merit, leaving out what is unknown."""
    return {
        name: {
            merit: np.array([row[merit] for row in rows if row["features"] == name])
            for merit in ("synthetic_auroc", "image_auroc")
            if rows[0][merit] is not None
        }
        for name in dict.fromkeys(row["features"] for row in rows)
    }


def result_table(rated: Mapping[str, Rated], rows: Sequence[Mapping[str, object]]) -> str:
    """Lay out the mean and standard deviation over seeds."""
    return markdown_table(
        [
            {
                "features": name,
                "dimensions": rated[name].candidate.n_components,
                "whitening of the start": rated[name].start,
            }
            | {m: f"{v.mean():.4f} ± {v.std(ddof=1):.4f}" for m, v in values.items()}
            for name, values in merits(rows).items()
        ]
    )


def figure(rows: Sequence[Mapping[str, object]]) -> Figure:
    """Draw every seed's AUROC, a row a member."""
    table = merits(rows)
    kinds = list(next(iter(table.values())))
    fig, axes = plt.subplots(
        1, len(kinds), figsize=(4.5 * len(kinds), 2.8), layout="constrained", squeeze=False
    )
    for ax, merit in zip(axes[0], kinds, strict=True):
        for y, (name, values) in enumerate(table.items()):
            colour = plots.ANOMALOUS_COLOUR if name == ENSEMBLE else plots.NORMAL_COLOUR
            ax.plot(values[merit], [y] * len(values[merit]), "o", color=colour, alpha=0.5)
            ax.plot(values[merit].mean(), y, "|", color=colour, markersize=16)
        ax.set_yticks(range(len(table)), list(table))
        ax.invert_yaxis()
        ax.set_xlabel(
            merit.replace("_auroc", " AUROC").replace("synthetic", "synthetic anomalies'")
        )
    return fig


def ensemble_findings(
    rated: Mapping[str, Rated], averaged: Sequence[str], labels: np.ndarray | None, *, seed: int
) -> str:
    """Say whether the ensemble is better than the joined features and than its members."""
    if not rated:
        return "Nothing was run."
    if labels is None:
        return "Without labels nothing here says whether the ensemble finds more anomalies."
    others = [name for name in rated if name != ENSEMBLE]
    level, parts = 1 - 0.05 / len(others), []
    for name in others:
        found = auroc_difference(
            labels, rated[name].test, rated[ENSEMBLE].test, seed=seed, level=level, repeats=10_000
        )
        verdict = (
            "better than" if found[1] > 0 else "worse than" if found[2] < 0 else "not told from"
        )
        member = " (a member)" if name in averaged else ""
        parts.append(
            f"{verdict} {name}{member}: {found[0]:+.4f} ({found[1]:+.4f} to {found[2]:+.4f})"
        )
    return (
        f"On test images the ensemble of {len(averaged)} is "
        + "; ".join(parts)
        + ". The intervals "
        "hold together at 95 %, over images and seeds. It costs a map and a bank for each member. "
        "The banks hold fewer images than elsewhere, so these figures stand beside each other only."
    )

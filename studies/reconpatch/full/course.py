"""ReConPatch as published, looked at on its way: trained, scored after some epochs, compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ad.files import load_array, read_csv, save_array, write_csv
from ad.parallel import chunk_map
from ad.progress import progress_bar
from ad.protocol import Protocol
from studies.reconpatch.maps import LinearMap, patch_moments, pca_map, pooling_map, save_map
from studies.reconpatch.methods import map_scores
from studies.reconpatch.settings import Training
from studies.reconpatch.training import Trained, movement, train

REFERENCES = ("features", "pooling", "PCA")  # scored beside, with the same coresets


@dataclass(frozen=True)
class Course:
    """Trainings of one dimension, and what stands beside them.

    Parameters
    ----------
    n_components, neighbors : int
        Dimension of the map, and k of the contextual similarity.
    epochs : array of int, shape (n_checkpoints,)
    losses : array, shape (seeds, last epoch)
    moved : array, shape (seeds, n_checkpoints)
        Distance from the start, as a share of the start's size.
    scores : array, shape (n_checkpoints, seeds * draws, n_test)
        Of the test images.
    references : dict of array, each (seeds * draws, n_test)
        With the same coresets' seeds, by `REFERENCES`.
    """

    n_components: int
    neighbors: int
    epochs: np.ndarray
    losses: np.ndarray
    moved: np.ndarray
    scores: np.ndarray
    references: dict[str, np.ndarray]


def train_all(
    patches: np.ndarray,
    n_components: int,
    trainings: Sequence[Training],
    seeds: Sequence[int],
    checkpoints: Sequence[int],
) -> list[list[Trained]]:
    """Train a map for every reading and seed, side by side; return them by reading, then seed.

    Parameters
    ----------
    patches : array of float32, shape (n_images, n_patches, dim)
        Of normal images.
    """
    moments = patch_moments(patches.reshape(-1, patches.shape[-1]))

    def one(job: tuple[Training, int]) -> Trained:
        training, seed = job
        return train(patches, n_components, moments, training, seed=seed, keep=checkpoints)

    jobs = [(training, seed) for training in trainings for seed in seeds]
    with chunk_map() as run, progress_bar(len(jobs), "ReConPatch", "training") as bar:
        found = []
        for trained in run(one, jobs):
            found.append(trained)
            bar.update(1)
    return [found[start : start + len(seeds)] for start in range(0, len(found), len(seeds))]


def reference_maps(patches: np.ndarray, n_components: int) -> dict[str, LinearMap]:
    """Return the maps that stand beside: the features as they are, pooled, and their PCA."""
    dim = patches.shape[-1]
    moments = patch_moments(patches.reshape(-1, dim))
    maps = pooling_map(dim, dim), pooling_map(dim, n_components), pca_map(moments, n_components)
    return dict(zip(REFERENCES, maps, strict=True))


def score_course(
    maps: Sequence[Sequence[LinearMap]],
    normals: np.ndarray,
    test: np.ndarray,
    protocol: Protocol,
    draws: int,
) -> np.ndarray:
    """Score the test images with every map and draw of the coreset.

    Parameters
    ----------
    maps : sequence of sequences of LinearMap
        By checkpoint, and in it by seed.
    protocol : Protocol
        Its seed is the first of all.

    Returns
    -------
    array of float64, shape (n_checkpoints, n_seeds * draws, n_test)
    """
    scores = np.zeros((len(maps), len(maps[0]) * draws, len(test)))
    with progress_bar(scores.shape[0] * scores.shape[1], "scores", "coreset") as bar:
        for checkpoint, run in np.ndindex(*scores.shape[:2]):
            own = replace(protocol, seed=protocol.seed * draws + run)
            linear_map = maps[checkpoint][run // draws]
            scores[checkpoint, run] = map_scores(linear_map, normals, test, own)
            bar.update(1)
    return scores


def write_course(
    folder: Path, trained: Sequence[Trained], scores: np.ndarray, references: np.ndarray
) -> None:
    """Write what `read_course` reads, and the first seed's maps.

    Parameters
    ----------
    scores, references : arrays from `score_course`
        The references' first axis is that of `REFERENCES`.
    """
    epochs = list(trained[0].kept)
    rows = [
        (seed, epoch, movement(one.kept[0], one.kept[epoch]))
        for seed, one in enumerate(trained)
        for epoch in epochs
    ]
    write_csv(folder / "moved.csv", ["run", "epoch", "moved"], rows)
    save_array(folder / "losses.npy", np.stack([one.losses for one in trained]))
    save_array(folder / "scores.npy", scores)
    save_array(folder / "references.npy", references)
    for epoch in (epochs[0], epochs[-1]):
        save_map(folder / "maps" / f"{epoch}.safetensors", trained[0].kept[epoch])


def read_course(folder: Path, n_components: int, neighbors: int) -> Course:
    """Read one dimension and reading from the study's folder."""
    folder = folder / str(n_components) / str(neighbors)
    rows = read_csv(folder / "moved.csv")
    epochs = list(dict.fromkeys(int(row["epoch"]) for row in rows))
    moved = np.array([float(row["moved"]) for row in rows]).reshape(-1, len(epochs))
    losses, scores, references = (
        load_array(folder / f"{name}.npy") for name in ("losses", "scores", "references")
    )
    by_name = dict(zip(REFERENCES, references, strict=True))
    return Course(n_components, neighbors, np.array(epochs), losses, moved, scores, by_name)


def courses_said(neighbors: Sequence[int], trained: Sequence[Sequence[Trained]]) -> str:
    """Say how far the maps moved and what became of the loss, reading by reading."""
    lines = []
    for k, seeds in zip(neighbors, trained, strict=True):
        moved = ", ".join(f"{one.movement:.1%}" for one in seeds)
        losses = ", ".join(f"{one.losses[0]:.2f} to {one.losses[-1]:.2f}" for one in seeds)
        lines.append(
            f"k = {k}: the maps moved by {moved} of their start's size; the loss of an epoch went "
            f"from {losses}."
        )
    return "\n\n".join([*lines, "What that does to quality is for notebook 11d."])

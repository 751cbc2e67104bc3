"""All methods in one dimension: fitted, rated without labels, and used to score the test images."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ad.dataset import of_split, read_manifest
from ad.files import load_array, read_csv, read_json, save_array, write_csv, write_json
from ad.parallel import chunk_map
from ad.progress import progress_bar
from ad.protocol import Protocol
from pages.report import markdown_table
from studies.reconpatch.choice import (
    Candidate,
    candidate_rows,
    choose,
    choose_whitening,
    measure_candidate,
    resampled_qualities,
)
from studies.reconpatch.maps import in_float32, patch_moments, save_map
from studies.reconpatch.methods import (
    LEARNT,
    METHODS,
    RANDOM,
    WHITENING,
    Fit,
    fit_map,
    map_scores,
)
from studies.reconpatch.settings import Training

LEVELS = 0.025, 0.975


@dataclass(frozen=True)
class Images:
    """Features of all images of the study.

    Parameters
    ----------
    normals, test : arrays of float32, shape (n, h, w, dim)
    held_out : array of int
        Numbers of the normals that a choice is made with.
    synthetic : array of float32, shape (n_held_out * n_kinds, h, w, dim)
    kinds : tuple of str
    """

    normals: np.ndarray
    test: np.ndarray
    held_out: np.ndarray
    synthetic: np.ndarray
    kinds: tuple[str, ...]

    @property
    def kept(self) -> np.ndarray:
        """Numbers of the other normals."""
        return np.delete(np.arange(len(self.normals)), self.held_out)

    def for_choice(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the bank's images, the held-out ones, and these with anomalies."""
        return self.normals[self.kept], self.normals[self.held_out], self.synthetic


def read_images(artifacts: Path) -> Images:
    """Read the features that the pipeline and notebook 10 left."""
    unit = read_json(artifacts / "features.json")["unit"]
    n_train = len(of_split(read_manifest(artifacts / "manifest.csv"), "train"))
    features = in_float32(load_array(artifacts / "features.npy"), unit)  # train, then test
    rows = read_csv(artifacts / "studies" / "synthetic.csv")
    return Images(
        features[:n_train],
        features[n_train:],
        np.unique([int(row["train_number"]) for row in rows]),
        in_float32(load_array(artifacts / "studies" / "synthetic_features.npy"), unit),
        tuple(dict.fromkeys(row["kind"] for row in rows)),
    )


@dataclass
class Runs:
    """The runs of one dimension, as far as they have come.

    Parameters
    ----------
    images : Images
    n_components : int
    training : Training
        Of ReConPatch; its start is set by `choose_start`.
    protocol : Protocol
        Its seed is the first of all.
    seeds, draws : int
        Runs of each method, and coresets of each run.
    """

    images: Images
    n_components: int
    training: Training
    protocol: Protocol
    seeds: int
    draws: int
    fits: dict[tuple[str, str, int], Fit] = field(default_factory=dict)
    candidates: dict[str, Candidate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bring the patches of all normals, and of those kept for the choice, into one row."""
        dim = self.images.normals.shape[-1]
        parts = {"all": self.images.normals, "kept": self.images.normals[self.images.kept]}
        self._patches = {part: x.reshape(len(x), -1, dim) for part, x in parts.items()}
        self._moments = {p: patch_moments(x.reshape(-1, dim)) for p, x in self._patches.items()}

    @property
    def first(self) -> int:
        """The first seed."""
        return self.protocol.seed

    def seeds_of(self, method: str) -> range:
        """Seeds that a method is fitted with: one where nothing is random."""
        return range(self.first, self.first + (self.seeds if method in RANDOM else 1))

    def fit(self, methods: Sequence[str]) -> None:
        """Fit maps on all normals, and on those kept for the choice; several side by side."""
        jobs = [
            (part, method, seed)
            for method in methods
            for part in ("all", "kept")
            for seed in (self.seeds_of(method) if part == "all" else [self.first])
        ]

        def one(job: tuple[str, str, int]) -> Fit:
            part, method, seed = job
            patches, moments = self._patches[part], self._moments[part]
            return fit_map(method, self.n_components, patches, moments, self.training, seed=seed)

        with chunk_map() as run, progress_bar(len(jobs), "maps", "map") as bar:
            for job, found in zip(jobs, run(one, jobs), strict=True):
                self.fits[job] = found
                bar.update(1)

    def rate(self, methods: Sequence[str]) -> None:
        """Score held-out normals and synthetic anomalies with the maps that know neither."""
        protocols = [replace(self.protocol, seed=self.first + n) for n in range(self.draws)]
        images = self.images.for_choice()
        with progress_bar(len(methods), "choice", "map") as bar:
            for method in methods:
                linear_map = self.fits["kept", method, self.first].map
                self.candidates[method] = measure_candidate(
                    method, linear_map, images, self.images.kinds, protocols
                )
                bar.update(1)

    def choose_start(self, whitening: float | None) -> None:
        """Set the start of ReConPatch: principal components, whitened as asked or as chosen."""
        if whitening is None:
            whitening = choose_whitening(list(self.candidates.values()), seed=self.first)
        start = {"start": "pca", "start_whitening": whitening}
        self.training = self.training.model_copy(update=start)

    def test_scores(self) -> tuple[list[tuple[str, int, int, int]], np.ndarray]:
        """Score the test images with every method, seed and draw of the coreset.

        Returns
        -------
        rows : list of (method, dimensions, seed, draw)
        scores : array of float64, shape (n_rows, n_test)
        """
        rows, scores = [], []
        total = len(self.candidates) * self.seeds * self.draws
        with progress_bar(total, "scores", "coreset") as bar:
            for method in self.candidates:
                for seed in range(self.first, self.first + self.seeds):
                    fitted = self.fits["all", method, seed if method in RANDOM else self.first]
                    for draw in range(self.draws):
                        protocol = replace(self.protocol, seed=seed * self.draws + draw)
                        normals, test = self.images.normals, self.images.test
                        scores.append(map_scores(fitted.map, normals, test, protocol))
                        rows.append((method, self.n_components, seed, draw))
                        bar.update(1)
        return rows, np.array(scores)

    def trainings(self) -> dict[int, Fit]:
        """Return the trained fits on all normals by their seeds."""
        return {
            seed: fitted
            for (part, method, seed), fitted in self.fits.items()
            if part == "all" and method == LEARNT
        }

    def write(self, folder: Path) -> None:
        """Score the test images and write everything; see `studies.reconpatch.results`."""
        rows, scores = self.test_scores()
        write_csv(folder / "runs.csv", ["method", "dimensions", "seed", "draw"], rows)
        save_array(folder / "scores.npy", scores)
        held_out = self.images.held_out.tolist()
        header = ["method", "dimensions", "draw", "image", "normal", *self.images.kinds]
        tables = [candidate_rows(each, held_out) for each in self.candidates.values()]
        write_csv(folder / "choice.csv", header, [row for table in tables for row in table])
        learnt, whitening = self.trainings(), self.training.start_whitening
        losses = [
            (seed, epoch, float(loss))
            for seed, fitted in learnt.items()
            for epoch, loss in enumerate(fitted.losses, 1)
        ]
        write_csv(folder / "losses.csv", ["seed", "epoch", "loss"], losses)
        moved = [(self.n_components, seed, whitening, fit.movement) for seed, fit in learnt.items()]
        header = ["dimensions", "seed", "whitening", "movement"]
        write_csv(folder / "movement.csv", header, moved)
        write_json(folder / "training.json", self.training.model_dump())
        for method in self.candidates:
            number = METHODS.index(method)
            save_map(
                folder / "maps" / f"{number}.safetensors", self.fits["all", method, self.first].map
            )


def read_training(artifacts: Path) -> Training:
    """Read how notebook 11a trained; only the start may differ from one dimension to another."""
    files = sorted((artifacts / "studies" / "reconpatch").glob("*/training.json"))
    return Training(**read_json(files[0]))


def starts_table(runs: Runs, *, asked: float | None) -> str:
    """Say what ReConPatch may start from, how good that is, and what it starts from."""
    if not runs.candidates:
        return "Nothing is run here."
    rows = [
        {"start": method, "whitening": amount, "synthetic AUROC": runs.candidates[method].quality}
        for method, amount in WHITENING.items()
    ]
    how = "chosen here" if asked is None else "as asked"
    return (
        f"{markdown_table(rows)}\n\nReConPatch starts from principal components with whitening "
        f"**{runs.training.start_whitening:g}**, {how}."
    )


def quality_by_kind(runs: Runs) -> str:
    """Say how well each map separates synthetic anomalies, by kind, and how sure that is."""
    if not runs.candidates:
        return "Nothing was run here."
    several = list(runs.candidates.values())
    drawn = resampled_qualities(several, seed=runs.first)
    rows = [
        {"method": each.method}
        | {"AUROC": each.quality, "95 %": "{:.3f} to {:.3f}".format(*np.quantile(own, LEVELS))}
        | each.by_kind()
        for each, own in zip(several, drawn, strict=True)
    ]
    chosen, _ = choose(several, seed=runs.first)
    return (
        f"AUROC of synthetic anomalies against held-out normals over {runs.draws} coresets, with "
        f"its interval over images and coresets drawn again:\n\n{markdown_table(rows)}\n\n"
        f"In {runs.n_components} dimensions **{chosen.method}** is the simplest that cannot be "
        "told from the best. Which map to take over all dimensions, and how they do on test "
        "images, is for notebook 11."
    )

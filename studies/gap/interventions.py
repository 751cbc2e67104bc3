"""Run a case, here or in another process, and count what a change in it changes.

A ``Case`` is the run to start from, a ``Control`` its result, and a ``Row`` one factor's effect on
it; `studies.gap.factors` carries the factors out.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from timm.models import get_pretrained_cfg

from ad.backbone import Backbone, load_backbone
from ad.coreset import k_center_greedy, project
from ad.dataset import ImageRecord, of_split, read_manifest
from ad.determinism import set_determinism, sha256_file
from ad.features import PatchSettings, extract_features
from ad.files import read_json, write_json
from ad.memory_bank import patch_scores
from ad.metrics import bootstrap_interval, both_classes, f1_score, image_auroc
from ad.neighbors import Neighbors, find_neighbors
from ad.parallel import chunk_map
from ad.threshold import aggregate_folds, fold_indices, fold_threshold

# Of the values tried (16, 32, 48 and 2, 4, 7) these two took the least time.
GUIDES, TILE = 32, 4  # one image in so many is searched whole; side of a square of patches
NUMERICAL, CHOICE, MISTAKE = "numerical or chance", "choice", "mistake"
RUN, REENACTED, NOT_RUN = "run", "re-enacted", "not run"
LIBRARIES = ("torch", "timm", "pillow", "scikit-learn", "numpy")
TAGGED = ("resnet18", "resnet50", "wide_resnet101_2")  # names whose default weights are looked up


@dataclass(frozen=True)
class Case:
    """The run that factors change; paths as text, so that it can be handed to another process."""

    manifest: str
    data: str
    backbone: str
    weights: str
    layers: tuple[str | int, ...]
    image_size: int
    image_resize: int | None
    patch_size: int
    pretrain_dim: int | None
    target_dim: int | None
    num_neighbors: int
    squared: bool
    folds: int
    coreset_ratio: float
    projection_dim: int | None
    seed: int
    threads: int
    memory_gb: float = 3.0

    def records(self) -> list[ImageRecord]:
        """Read the manifest, train before test."""
        return read_manifest(self.manifest)

    def paths(self) -> list[Path]:
        """List the image files in manifest order."""
        return [Path(self.data) / record.path for record in self.records()]

    def settings(self) -> PatchSettings:
        """Say how maps become patch features."""
        return PatchSettings(self.patch_size, self.pretrain_dim, self.target_dim)

    def network(self) -> Backbone:
        """Load the backbone."""
        return load_backbone(
            self.backbone, weights=self.weights, layers=list(self.layers), seed=self.seed
        )


@dataclass(frozen=True)
class Outcome:
    """What a detector says.

    Parameters
    ----------
    held_out : list of arrays
        Each fold's scores of its held-out normal images.
    fold_scores : array, shape (folds, n_test)
    scores : array, shape (n_test,)
    threshold : float
    """

    held_out: list[np.ndarray]
    fold_scores: np.ndarray
    scores: np.ndarray
    threshold: float

    @property
    def flags(self) -> np.ndarray:
        """Return which test images are flagged, shape (n_test,)."""
        return self.scores > self.threshold


@dataclass(frozen=True)
class Row:
    """One factor's effect.

    Quality and ``hits`` are ``None`` where labels are unknown, and all figures where the factor
    could not be run; ``note`` then says why.
    """

    factor: str
    group: str
    kind: str
    how: str  # RUN, REENACTED or NOT_RUN
    f1: float | None
    f1_low: float | None
    f1_high: float | None
    image_auroc: float | None
    n_flagged: int | None
    flags_changed: int | None
    hits: int | None  # anomalous images that are flagged
    note: str


@dataclass(frozen=True)
class Control:
    """The unchanged run and what the factors re-use of it."""

    case: Case
    features: np.ndarray  # (n_images, h, w, dim), train before test
    outcome: Outcome
    labels: np.ndarray | None  # (n_test,)

    @property
    def n_train(self) -> int:
        """Count the training images."""
        return len(self.features) - len(self.outcome.scores)

    def row(
        self,
        factor: str,
        group: str,
        outcome: Outcome | np.ndarray,
        *,
        kind: str = NUMERICAL,
        how: str = RUN,
        scores: np.ndarray | None = None,
        note: str = "",
    ) -> Row:
        """Compare an outcome, or flags alone, with the control."""
        if isinstance(outcome, Outcome):
            flags, scores = outcome.flags, outcome.scores
        else:
            flags = np.asarray(outcome, dtype=bool)
        quality: list[float | None] = [None] * 4
        if self.labels is not None:
            low, high = bootstrap_interval(self.labels, flags, seed=self.case.seed)
            quality[:3] = [f1_score(self.labels, flags), low, high]
            if scores is not None and both_classes(self.labels):
                quality[3] = image_auroc(self.labels, scores)
        changed = int(np.sum(flags != self.outcome.flags))
        hits = None if self.labels is None else int(flags[self.labels == 1].sum())
        return Row(factor, group, kind, how, *quality, int(flags.sum()), changed, hits, note)

    def not_run(self, factor: str, group: str, why: str, *, kind: str = NUMERICAL) -> Row:
        """Say why a factor could not be run."""
        return Row(factor, group, kind, NOT_RUN, *[None] * 7, why)


def largest_patch_scores(
    features: np.ndarray, bank: np.ndarray, case: Case, *, index: str = "exact"
) -> np.ndarray:
    """Return each image's largest patch score, as `ad.memory_bank.score_images` would.

    Neighbours in a part of the bank bound a patch's score from above, so only the patches whose
    bound is above the best score found so far are measured against the whole bank.  The part is
    what a few images' patches of the same place have as neighbours.

    Parameters
    ----------
    features : array of float32, shape (n_images, h, w, dim)
    bank : array of float32, shape (n_bank, dim)

    Returns
    -------
    array of float64, shape (n_images,)
    """
    n_images, height, width, dim = features.shape
    flat = features.reshape(n_images, height * width, dim)

    def search(queries: np.ndarray) -> Neighbors:
        return find_neighbors(
            queries.reshape(-1, dim), bank, case.num_neighbors, index=index, threads=case.threads
        )

    def scores(found: Neighbors) -> np.ndarray:
        return patch_scores(found, squared=case.squared)

    guides = np.arange(0, n_images, GUIDES)
    found = search(flat[guides])
    near = found.indices.reshape(len(guides), height * width, case.num_neighbors)
    bounds = _upper_bounds(flat, bank, near, (height, width), case)
    order = np.argsort(-bounds, axis=1, kind="stable")
    best = np.full(n_images, -np.inf)
    best[guides] = scores(found).reshape(len(guides), -1).max(axis=1)
    start, step = 0, max(1, height * width // 96)
    while start < height * width:
        left = np.flatnonzero(bounds[np.arange(n_images), order[:, start]] > best)
        if not len(left):
            break
        exact = scores(search(flat[left[:, None], order[left, start : start + step]]))
        best[left] = np.maximum(best[left], exact.reshape(len(left), -1).max(axis=1))
        start, step = start + step, 2 * step
    return best


def _upper_bounds(
    flat: np.ndarray, bank: np.ndarray, near: np.ndarray, grid: tuple[int, int], case: Case
) -> np.ndarray:
    """Bound every patch's score from above, tile by tile, by the bank patches ``near`` its tile.

    Parameters
    ----------
    flat : array of float32, shape (n_images, h * w, dim)
    near : array of int, shape (n_guides, h * w, k)
        Rows of the bank that some images' patches have as neighbours.
    grid : tuple of int
        h and w.

    Returns
    -------
    array of float64, shape (n_images, h * w)
    """
    places = np.arange(grid[0] * grid[1]).reshape(grid)
    tiles = [
        places[top : top + TILE, left : left + TILE].ravel()
        for top in range(0, grid[0], TILE)
        for left in range(0, grid[1], TILE)
    ]
    centre = bank.mean(axis=0)
    result = np.empty(flat.shape[:2])

    def one_tile(tile: np.ndarray) -> None:
        part = torch.from_numpy(bank[np.unique(near[:, tile])] - centre)
        queries = torch.from_numpy(flat[:, tile].reshape(-1, flat.shape[-1]) - centre)
        norms, own = part.square().sum(dim=1), queries.square().sum(dim=1, keepdim=True)
        partial = torch.addmm(norms, queries, part.T, alpha=-2)
        squared = partial.topk(case.num_neighbors, dim=1, largest=False, sorted=False).values + own
        # What float32 may lose in |q|^2 - 2 q.b + |b|^2 is added: a bound must not be too low.
        squared = squared.clamp_(min=0) + 1e-5 * (own + norms.max())
        mean = (squared if case.squared else squared.sqrt()).mean(dim=1)
        result[:, tile] = mean.reshape(len(flat), -1).numpy()

    with chunk_map(case.threads) as run:
        for _ in run(one_tile, tiles):
            pass
    return result


def detect(
    features: np.ndarray,
    n_train: int,
    case: Case,
    *,
    start_seed: int | None = None,
    projection_seed: int | None = None,
    fold_seed: int | None = None,
    index: str = "exact",
    bank_features: np.ndarray | None = None,
) -> Outcome:
    """Carry out the protocol: folds, coresets, thresholds, test scores.

    Parameters
    ----------
    features : array of float32, shape (n_images, h, w, dim)
        Train before test.
    n_train : int
    case : Case
    start_seed, projection_seed : int, optional
        By default the case's seed.
    fold_seed : int, optional
        Shuffle the folds with it; by default they are runs of neighbours.
    index : str
        See `ad.memory_bank.find_neighbors`.
    bank_features : array, optional
        Training features that the banks are drawn from, if their rows are others than those of
        ``features``.
    """
    seed = case.seed
    train = features[:n_train] if bank_features is None else bank_features[:n_train]
    dim = features.shape[-1]
    patches = np.ascontiguousarray(train).reshape(-1, dim)
    projected = project(
        patches,
        case.projection_dim,
        seed=seed if projection_seed is None else projection_seed,
        threads=case.threads,
    )
    per_image = len(patches) // n_train
    rows = np.arange(len(patches)).reshape(n_train, per_image)
    shuffled = fold_seed is not None
    folds = fold_indices(n_train, case.folds, shuffle=shuffled, seed=fold_seed or 0)
    held_scores, test_scores = [], []
    for kept, held_out in folds:
        own = rows[kept].ravel()
        picked = k_center_greedy(
            projected[own],
            max(1, round(case.coreset_ratio * len(own))),
            seed=seed if start_seed is None else start_seed,
            threads=case.threads,
            progress=False,
        )
        tested = np.concatenate([features[held_out], features[n_train:]])
        scores = largest_patch_scores(tested, patches[own[picked]], case, index=index)
        held_scores.append(scores[: len(held_out)])
        test_scores.append(scores[len(held_out) :])
    return decide(held_scores, np.stack(test_scores))


def decide(
    held_out: list[np.ndarray],
    fold_scores: np.ndarray,
    *,
    rule: str = "max",
    aggregate: str = "max",
) -> Outcome:
    """Choose the threshold and aggregate the folds."""
    threshold = float(np.mean([fold_threshold(own, rule) for own in held_out]))
    return Outcome(held_out, fold_scores, aggregate_folds(fold_scores, aggregate), threshold)


def run_control(case: Case, features: np.ndarray | None = None) -> Control:
    """Run the case unchanged.

    Parameters
    ----------
    features : array, optional
        The case's features where they are at hand; otherwise they are extracted.
    """
    records = case.records()
    test = of_split(records, "test")
    n_train = len(records) - len(test)
    if features is None:
        features = pipeline_features(case)
    features = np.array(features, dtype=np.float32)
    known = all(record.label is not None for record in test)
    labels = np.array([record.label for record in test]) if known else None
    return Control(case, features, detect(features, n_train, case), labels)


def pipeline_features(case: Case) -> np.ndarray:
    """Extract features as the pipeline does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        extract_features(
            case.network(),
            case.paths(),
            path,
            case.settings(),
            image_size=case.image_size,
            image_resize=case.image_resize,
            batch_size=32,
            memory_gb=case.memory_gb,
            threads=case.threads,
        )
        return np.load(path, allow_pickle=False)


def default_tag(backbone: str) -> str | None:
    """Return the pretrained tag that this timm gives a name without one; ``None`` if none."""
    config = get_pretrained_cfg(backbone)
    return config.tag if config is not None and config.tag else None


def run_elsewhere(
    case: Case, environment: Mapping[str, str], *, python: str | Path = sys.executable
) -> dict:
    """Run a case from images to flags in a process of its own.

    Parameters
    ----------
    environment : mapping
        Environment variables that differ.
    python : path
        The interpreter; another one may have other libraries.

    Returns
    -------
    dict
        What `main` writes: ``held_out`` and ``fold_scores`` (see `Outcome`), ``feature_sums`` (each
        image's sum of features in float64: it tells whether numbers moved), ``versions`` and
        ``default_tags`` of the libraries.

    Raises
    ------
    RuntimeError
        When the process fails; the message is its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        job, result = Path(folder) / "case.json", Path(folder) / "outcome.json"
        write_json(job, asdict(case))
        finished = subprocess.run(
            [str(python), "-m", "studies.gap.interventions", str(job), str(result)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if finished.returncode:
            last = (finished.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"the run with {dict(environment)} failed: {last}")
        return read_json(result)


def outcome_of(found: Mapping) -> Outcome:
    """Make an outcome of what `run_elsewhere` returns."""
    held_out = [np.array(own) for own in found["held_out"]]
    return decide(held_out, np.array(found["fold_scores"]))


def case_digest(case: Case) -> str:
    """Hash what a case's numbers depend on: images, weights and settings, not paths or threads."""
    settings = asdict(case)
    for key in ("manifest", "data", "threads", "memory_gb"):
        settings.pop(key)
    if case.weights not in ("hub", "random"):
        settings["weights"] = sha256_file(case.weights)
    settings["images"] = [[record.id, record.sha256] for record in case.records()]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def main(arguments: Sequence[str]) -> None:
    """Run one case (``CASE.json OUTCOME.json``); `run_elsewhere` calls it."""
    found = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    case = Case(**{**found, "layers": tuple(found["layers"])})
    set_determinism(case.seed, case.threads)
    features = pipeline_features(case)
    n_train = len(of_split(case.records(), "train"))
    outcome = detect(features, n_train, case)
    write_json(
        arguments[1],
        {
            "held_out": [own.tolist() for own in outcome.held_out],
            "fold_scores": outcome.fold_scores.tolist(),
            "feature_sums": features.sum(axis=(1, 2, 3), dtype=np.float64).tolist(),
            "versions": {name: version(name) for name in LIBRARIES},
            "default_tags": {name: default_tag(name) for name in TAGGED},
        },
    )


if __name__ == "__main__":
    main(sys.argv[1:])

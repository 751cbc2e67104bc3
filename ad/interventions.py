"""Change one thing in a run, run it, and count what changes.

A ``Case`` is the run to start from.  Each group of factors is a function that yields ``Row``s: it
carries out the changed run, re-using the control's features where the change comes after them.
"""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models import get_pretrained_cfg, list_pretrained
from torch import Tensor

from ad.backbone import Backbone, load_backbone
from ad.coreset import k_center_greedy, project
from ad.dataset import ImageRecord, of_split, read_manifest
from ad.determinism import file_system, set_determinism, sha256_file
from ad.features import PatchSettings, extract_features, patch_features
from ad.files import read_json, write_json
from ad.forensics import (
    ROWS_PERMUTED,
    Reading,
    Reported,
    likelihoods,
    measured_cause,
    standard_causes,
)
from ad.images import IMAGENET_MEAN, IMAGENET_STD, network_input, read_rgb, resize_and_crop
from ad.memory_bank import Neighbors, find_neighbors, patch_scores
from ad.metrics import bootstrap_interval, both_classes, f1_score, image_auroc
from ad.parallel import chunk_map
from ad.threshold import aggregate_folds, fold_indices, fold_threshold

# Of the values tried (16, 32, 48 and 2, 4, 7) these two took the least time.
GUIDES, TILE = 32, 4  # one image in so many is searched whole; side of a square of patches
NUMERICAL, CHOICE, MISTAKE = "numerical or chance", "choice", "mistake"
RUN, REENACTED, NOT_RUN = "run", "re-enacted", "not run"
DECISIVE = 2.0  # log10 of a Bayes factor; Jeffreys' word for more than 100
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


# Order of files and rows.


def hash_order(names: Sequence[str]) -> list[str]:
    """Order names by a hash of them, as a hashed directory or an unordered set would."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def natural_order(names: Sequence[str]) -> list[str]:
    """Order names with numbers by value: 2 before 10."""
    return sorted(
        names,
        key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)],
    )


def unpadded_order(names: Sequence[str]) -> list[str]:
    """Order names as text after their numbers lost leading zeros: 10 before 2."""
    return sorted(names, key=lambda name: re.sub(r"(?<!\d)0+(?=\d)", "", name))


def raw_order(root: str | Path, paths: Sequence[str]) -> list[str]:
    """Order relative paths as the file system under ``root`` lists them, folder by folder."""
    wanted = set(paths)
    found: list[str] = []

    def walk(folder: Path) -> None:
        for entry in os.scandir(folder):  # raw order: it is the question
            if entry.is_dir():
                walk(Path(entry.path))
            else:
                relative = Path(entry.path).relative_to(root).as_posix()
                if relative in wanted:
                    found.append(relative)

    for top in dict.fromkeys(path.split("/")[0] for path in paths):
        walk(Path(root) / top)
    return found


def raw_listings(data: str | Path, paths: Sequence[str]) -> dict[str, list[str]]:
    """List paths as the data's file system does, and as this machine's other kinds of it do."""
    listed = {f"raw {file_system(data)}": raw_order(data, paths)}
    for folder in (Path(tempfile.gettempdir()), Path("/dev/shm")):
        name = f"raw {file_system(folder)}"
        if folder.is_dir() and name not in listed:
            listed[name] = listing_elsewhere(folder, paths)
    return listed


def listing_orders(case: Case, split: str) -> dict[str, np.ndarray]:
    """Give each order of a split's images as image numbers within the split, sorted first.

    The last ones are raw orders of file systems; the first of them is that of the data.
    """
    paths = [record.path for record in of_split(case.records(), split)]
    number = {path: position for position, path in enumerate(paths)}
    listed = {
        "sorted": paths,
        "reversed": paths[::-1],
        "natural": natural_order(paths),
        "unpadded": unpadded_order(paths),
        "by hash": hash_order(paths),
        **raw_listings(case.data, paths),
    }
    return {name: np.array([number[path] for path in order]) for name, order in listed.items()}


def order_factors(control: Control) -> Iterator[Row]:
    """Join test rows by position; list training images in another order; mix two listings."""
    group, case, outcome = "order", control.case, control.outcome
    for name, order in listing_orders(case, "test").items():
        if name == "sorted":
            continue
        # Scores come in listing order and are written beside the sorted ids.
        same = bool((order == np.arange(len(order))).all())
        yield control.row(
            f"test rows by position, {name} listing",
            group,
            outcome.flags[order],
            kind=MISTAKE,
            how=REENACTED,
            scores=outcome.scores[order],
            note="this order is the sorted one here" if same else "",
        )
    n_train = control.n_train
    test_orders = listing_orders(case, "test")
    for name, order in listing_orders(case, "train").items():
        if name != "by hash" and not name.startswith("raw"):
            continue
        listed = control.features.copy()
        listed[:n_train] = listed[order]
        found = detect(listed, n_train, case)
        yield control.row(f"training images, {name} listing", group, found)
        if name == "by hash":
            mixed = detect(control.features, n_train, case, bank_features=listed)
            yield control.row(
                "banks and held-out images from two listings", group, mixed, kind=MISTAKE
            )
        else:  # a script that sorts nowhere
            yield control.row(
                f"training images and test rows, {name} listing",
                "pairs",
                found.flags[test_orders[name]],
                kind=MISTAKE,
                how=REENACTED,
                scores=found.scores[test_orders[name]],
            )


def permuted_f1(labels: np.ndarray, flags: np.ndarray, *, repeats: int, seed: int) -> np.ndarray:
    """Return F1 of flags in ``repeats`` random row orders, shape (repeats,)."""
    generator = np.random.default_rng(seed)
    return np.array([f1_score(labels, generator.permutation(flags)) for _ in range(repeats)])


def listing_elsewhere(parent: str | Path, paths: Sequence[str]) -> list[str]:
    """List files of these names as the file system of another folder would.

    Parameters
    ----------
    parent : path
        Empty files are created below it, in sorted order, and removed again.
    paths : sequence of str
        Relative paths with forward slashes.

    Returns
    -------
    list of str
        The same paths, in raw order.
    """
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        for path in sorted(paths):
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).touch()
        return raw_order(folder, paths)


# The rule, from the control's scores.


def best_f1_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the score at which F1 is best, the lowest of several; as F1AdaptiveThreshold does.

    Without anomalous images every F1 is 0, so the lowest score is taken and nearly everything is
    flagged (anomalib's issues 2433 and 3357).

    Parameters
    ----------
    labels : array of int, shape (n,)
    scores : array of float, shape (n,)
    """
    candidates = np.sort(scores)
    flagged = scores >= candidates[:, None]  # (candidates, n)
    hits = (flagged & (labels == 1)).sum(axis=1)
    return float(candidates[np.argmax(2 * hits / (flagged.sum(axis=1) + (labels == 1).sum()))])


def adaptive_threshold(held_out: Sequence[np.ndarray]) -> float:
    """Average over the folds the thresholds of best F1 on their normal images."""
    return float(np.mean([best_f1_threshold(np.zeros(len(own)), own) for own in held_out]))


def threshold_factors(control: Control) -> Iterator[Row]:
    """Change the threshold's rule, the aggregation, or mistake one for another."""
    group, outcome = "threshold", control.outcome
    held_out, folds = outcome.held_out, outcome.fold_scores
    for rule in ("quantile:0.99", "quantile:0.95", "mean_sd:3"):
        yield control.row(
            f"threshold {rule}", group, decide(held_out, folds, rule=rule), kind=CHOICE
        )
    for how in ("mean", "median"):
        found = decide(held_out, folds, aggregate=how)
        yield control.row(f"folds' scores by {how}", group, found, kind=CHOICE)
    yield control.row(
        "threshold of best F1 on normal-only data (the minimum)",
        group,
        replace(outcome, threshold=adaptive_threshold(held_out)),
        kind=MISTAKE,
    )
    first = Outcome(held_out[:1], folds[:1], folds[0], float(held_out[0].max()))
    yield control.row("first fold only", group, first, kind=CHOICE)
    squares = outcome.scores**2 if not control.case.squared else outcome.scores
    root = outcome.threshold if not control.case.squared else float(np.sqrt(outcome.threshold))
    yield control.row(
        "squared scores against a plain threshold",
        group,
        replace(outcome, scores=squares, threshold=root),
        kind=MISTAKE,
    )
    spread = outcome.scores - outcome.scores.min()
    yield control.row(
        "0.5 of scores scaled to 0..1 on the test set",
        group,
        replace(outcome, scores=spread / spread.max(), threshold=0.5),
        kind=MISTAKE,
    )
    yield control.row(
        "labels flipped",
        group,
        ~outcome.flags,
        kind=MISTAKE,
        how=REENACTED,
        scores=-outcome.scores,
    )


# Seeds and search, from the control's features.


def seed_factors(control: Control, *, repeats: int) -> Iterator[Row]:
    """Change each seed alone, then all of them ``repeats`` times; the median run is the row."""
    group, case = "seeds", control.case
    features, n_train = control.features, control.n_train
    other = case.seed + 1
    for name, seeds in (
        ("start of the coreset", {"start_seed": other}),
        ("projection", {"projection_seed": other}),
        ("folds shuffled", {"fold_seed": other}),
    ):
        yield control.row(f"seed: {name}", group, detect(features, n_train, case, **seeds))
    if repeats < 1:
        return
    rows = [
        control.row(
            f"all seeds, median of {repeats}",
            group,
            detect(
                features,
                n_train,
                case,
                start_seed=case.seed + number,
                projection_seed=case.seed + number,
                fold_seed=case.seed + number,
            ),
        )
        for number in range(1, repeats + 1)
    ]
    changed = [row.flags_changed for row in rows]
    note = f"flags changed {min(changed)} to {max(changed)}"
    key = "flags_changed" if control.labels is None else "f1"
    values = [getattr(row, key) for row in rows]
    if control.labels is not None:
        note += f"; F1 {min(values):.3f} to {max(values):.3f}, sd {np.std(values):.3f}"
    median = rows[int(np.argsort(values, kind="stable")[len(values) // 2])]
    yield replace(median, note=note)


def search_factors(control: Control) -> Iterator[Row]:
    """Search neighbours with FAISS instead of blocked products."""
    outcome = detect(control.features, control.n_train, control.case, index="faiss_flat")
    yield control.row("FAISS flat index", "search", outcome)


# Precision.


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """Round float32 to a mantissa of so many bits, halves to even (10: TF32, 7: bfloat16)."""
    drop = 23 - bits
    words = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1) + ((words >> np.uint32(drop)) & np.uint32(1))
    kept = (words + half) & ~np.uint32((1 << drop) - 1)
    return kept.view(np.float32)


def precision_factors(control: Control) -> Iterator[Row]:
    """Keep features in half precision; round weights and features; run the network in bfloat16."""
    group, case, n_train = "precision", control.case, control.n_train
    half = control.features.astype(np.float16).astype(np.float32)
    yield control.row("features in float16", group, detect(half, n_train, case))
    brain = round_mantissa(control.features, 7)
    yield control.row("features in bfloat16", group, detect(brain, n_train, case))
    network = case.network()
    with torch.no_grad():
        for tensor in (*network.model.parameters(), *network.model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(round_mantissa(tensor.numpy(), 10)))
    rounded = round_mantissa(run_network(network, case), 10)
    yield control.row("weights and features as TF32", group, detect(rounded, n_train, case))
    brain = run_network(case.network(), case, autocast=torch.bfloat16)
    yield control.row("network in bfloat16 (autocast)", group, detect(brain, n_train, case))


# Decoding and resampling: another way from file to input, for training and test images alike.

Loader = Callable[[Path, Case], np.ndarray]


def _normalised(pixels: np.ndarray) -> np.ndarray:
    """Bring RGB of 0 to 255, shape (h, w, 3), to the network's input, shape (3, h, w)."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1))


def load_plain(path: Path, case: Case) -> np.ndarray:
    """Load as the pipeline does."""
    return network_input(path, size=case.image_size, resize=case.image_resize)


def load_opencv(path: Path, case: Case, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Resize with OpenCV, without antialiasing where the interpolation has none."""
    pixels = np.asarray(read_rgb(path))
    return _normalised(cv2.resize(pixels, (case.image_size,) * 2, interpolation=interpolation))


def load_opencv_area(path: Path, case: Case) -> np.ndarray:
    """Resize with OpenCV's area average."""
    return load_opencv(path, case, cv2.INTER_AREA)


def load_tensor(path: Path, case: Case, *, antialias: bool = True) -> np.ndarray:
    """Resize as a floating-point tensor."""
    tensor = torch.from_numpy(np.array(read_rgb(path))).permute(2, 0, 1)[None].float()
    resized = F.interpolate(
        tensor,
        (case.image_size,) * 2,
        mode="bilinear",
        align_corners=False,
        antialias=antialias,
    )
    return _normalised(resized[0].permute(1, 2, 0).numpy())


def load_tensor_aliased(path: Path, case: Case) -> np.ndarray:
    """Resize as a floating-point tensor without antialiasing."""
    return load_tensor(path, case, antialias=False)


def load_pillow_bicubic(path: Path, case: Case) -> np.ndarray:
    """Resize with Pillow's bicubic filter."""
    image = read_rgb(path).resize((case.image_size,) * 2, Image.Resampling.BICUBIC)
    return _normalised(np.asarray(image))


def load_other_geometry(path: Path, case: Case) -> np.ndarray:
    """Resize to 8/7 of the size (256 for 224) and crop the centre; straight if the case does so."""
    resize = round(case.image_size * 8 / 7) if case.image_resize is None else None
    return network_input(path, size=case.image_size, resize=resize)


def load_bgr(path: Path, case: Case) -> np.ndarray:
    """Give blue for red, as OpenCV's reader does."""
    image = resize_and_crop(read_rgb(path), size=case.image_size, resize=case.image_resize)
    return _normalised(np.asarray(image)[:, :, ::-1])


def load_jpeg(path: Path, case: Case) -> np.ndarray:
    """Store the image as JPEG of quality 90 in between."""
    stream = io.BytesIO()
    read_rgb(path).save(stream, format="JPEG", quality=90)
    image = Image.open(stream).convert("RGB")
    return _normalised(
        np.asarray(resize_and_crop(image, size=case.image_size, resize=case.image_resize))
    )


def load_unscaled(path: Path, case: Case) -> np.ndarray:
    """Leave out ImageNet's mean and standard deviation."""
    image = resize_and_crop(read_rgb(path), size=case.image_size, resize=case.image_resize)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1).astype(np.float32) / 255)


DECODERS: dict[str, tuple[Loader, str]] = {
    "OpenCV, linear": (load_opencv, CHOICE),
    "OpenCV, area": (load_opencv_area, CHOICE),
    "tensor, antialias": (load_tensor, CHOICE),
    "tensor, no antialias": (load_tensor_aliased, CHOICE),
    "Pillow, bicubic": (load_pillow_bicubic, CHOICE),
    "with or without centre crop": (load_other_geometry, CHOICE),
    "JPEG round trip, quality 90": (load_jpeg, CHOICE),
    "BGR for RGB": (load_bgr, MISTAKE),
    "no ImageNet scaling": (load_unscaled, MISTAKE),
}


def run_network(
    network: Backbone,
    case: Case,
    *,
    loader: Loader = load_plain,
    batch_size: int = 4,
    order: np.ndarray | None = None,
    autocast: torch.dtype | None = None,
) -> np.ndarray:
    """Extract features batch by batch, whatever mode the network is in.

    Parameters
    ----------
    order : array of int, optional
        The order in which images fill the batches; rows of the result stay in manifest order.
    autocast : torch.dtype, optional
        Lower precision for the layers that PyTorch's autocast lowers.

    Returns
    -------
    array of float32, shape (n_images, h, w, dim)
    """
    paths, settings = case.paths(), case.settings()
    order = np.arange(len(paths)) if order is None else order
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def one_batch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = torch.from_numpy(np.stack([loader(paths[row], case) for row in rows]))
        lower = torch.autocast("cpu", dtype=autocast) if autocast else nullcontext()
        with torch.inference_mode(), lower:
            maps = network(images.contiguous(memory_format=torch.channels_last))
        return rows, patch_features([values.float() for values in maps], settings).numpy()

    result: np.ndarray | None = None
    with chunk_map(case.threads) as run:
        for rows, features in run(one_batch, batches):
            if result is None:
                result = np.empty((len(paths), *features.shape[1:]), dtype=np.float32)
            result[rows] = features
    return result


def decoding_factors(control: Control) -> Iterator[Row]:
    """Decode and resize in another way; then mix two ways between training and test."""
    group, case, n_train = "decoding", control.case, control.n_train
    network = case.network()
    for name, (loader, kind) in DECODERS.items():
        features = run_network(network, case, loader=loader)
        yield control.row(name, group, detect(features, n_train, case), kind=kind)
        if name in ("OpenCV, linear", "BGR for RGB"):
            features[:n_train] = control.features[:n_train]
            mixed = detect(features, n_train, case)
            yield control.row(f"{name}, test images only", group, mixed, kind=MISTAKE)


# The network's weights and mode.


def partly_loaded(case: Case) -> Backbone:
    """Leave the last layer that is read at its random start, as a lenient loader would."""
    loaded, network = case.network(), replace(case, weights="random").network()
    last = loaded.layers[-1].name
    state: dict[str, Tensor] = {
        key: value
        for key, value in loaded.model.state_dict().items()
        if not key.startswith(f"{last}.")
    }
    network.model.load_state_dict(state, strict=False)
    return network


def weight_factors(control: Control) -> Iterator[Row]:
    """Leave weights out, or the last layer of them; take another pretrained tag."""
    group, case, n_train = "weights", control.case, control.n_train
    if case.weights != "random":
        for name, network in (
            ("weights not loaded (random)", replace(case, weights="random").network()),
            ("last layer not loaded", partly_loaded(case)),
        ):
            outcome = detect(run_network(network, case), n_train, case)
            yield control.row(name, group, outcome, kind=MISTAKE)
    for name in other_weights(case.backbone):
        factor = f"weights {name} of the hub"
        try:
            network = replace(case, backbone=name, weights="hub").network()
        except ConnectionError:
            yield control.not_run(factor, group, "the hub cannot be reached", kind=CHOICE)
        else:
            outcome = detect(run_network(network, case), n_train, case)
            yield control.row(factor, group, outcome, kind=CHOICE)


def default_tag(backbone: str) -> str | None:
    """Return the pretrained tag that this timm gives a name without one; ``None`` if none."""
    config = get_pretrained_cfg(backbone)
    return config.tag if config is not None and config.tag else None


def other_weights(backbone: str) -> list[str]:
    """Name the backbone's weights that one name may stand for: timm's default, torchvision's V1."""
    name = backbone.partition(".")[0]
    tags = [default_tag(name), "tv_in1k"]
    known = list_pretrained(f"{name}.*")
    return [full for full in dict.fromkeys(f"{name}.{tag}" for tag in tags) if full in known]


def mode_factors(control: Control) -> Iterator[Row]:
    """Change the batch size; forget ``eval()``, so that batches normalise themselves."""
    group, case, n_train = "batches", control.case, control.n_train
    network = case.network()
    for size in (1, 32):
        outcome = detect(run_network(network, case, batch_size=size), n_train, case)
        yield control.row(f"batch size {size}", group, outcome)
    names = [record.id for record in case.records()]
    by_hash = np.array([names.index(name) for name in hash_order(names)])
    for words, size, order in (
        ("eval() forgotten, batch 32", 32, None),
        ("eval() forgotten, batch 8", 8, None),
        ("eval() forgotten, batch 32, order by hash", 32, by_hash),
    ):
        network.model.train()
        features = run_network(network, case, batch_size=size, order=order)
        yield control.row(words, group, detect(features, n_train, case), kind=MISTAKE)


# The machine, in a process of its own.

MACHINES: dict[str, dict[str, str]] = {
    "capped at AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "capped at SSE4": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}


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
            [str(python), "-m", "ad.interventions", str(job), str(result)],
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


def features_note(control: Control, sums: Sequence[float]) -> str:
    """Say how far the sums of features are from the control's."""
    own = control.features.sum(axis=(1, 2, 3), dtype=np.float64)
    if (own == sums).all():
        return "features' sums are the control's"
    return f"features' sums differ by up to {np.abs(np.array(sums) / own - 1).max():.0e} relative"


def machine_factors(control: Control) -> Iterator[Row]:
    """Change the number of threads and the instruction set, images to flags."""
    group, case = "machine", control.case
    threads = 1 if case.threads != 1 else 2
    runs = {f"{threads} thread{'s' * (threads > 1)}": (replace(case, threads=threads), {})}
    runs |= {name: (case, environment) for name, environment in MACHINES.items()}
    for name, (changed, environment) in runs.items():
        found = run_elsewhere(changed, environment)
        note = features_note(control, found["feature_sums"])
        yield control.row(name, group, outcome_of(found), note=note)


def case_digest(case: Case) -> str:
    """Hash what a case's numbers depend on: images, weights and settings, not paths or threads."""
    settings = asdict(case)
    for key in ("manifest", "data", "threads", "memory_gb"):
        settings.pop(key)
    if case.weights not in ("hub", "random"):
        settings["weights"] = sha256_file(case.weights)
    settings["images"] = [[record.id, record.sha256] for record in case.records()]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def version_factors(control: Control, records: Sequence[Mapping]) -> Iterator[Row]:
    """Take runs of the same case with other libraries from records of `tools.other_versions`."""
    group, digest = "machine", case_digest(control.case)
    own = [record for record in records if record["case"] == digest]
    if not own:
        yield control.not_run(
            "older libraries",
            group,
            "no record of this case; python -m tools.other_versions makes one",
        )
    for record in own:
        versions = record["versions"]
        note = features_note(control, record["feature_sums"])
        note += ": " + ", ".join(f"{name} {version}" for name, version in versions.items())
        yield control.row(
            f"older libraries, torch {versions['torch']}", group, outcome_of(record), note=note
        )


def pair_factors(control: Control) -> Iterator[Row]:
    """Several changes together: a row order with a rule, and harmless ones all at once."""
    group, case, outcome = "pairs", control.case, control.outcome
    order = listing_orders(case, "test")["by hash"]
    yield control.row(
        "rows by hash and threshold of best F1 on normal-only data",
        group,
        outcome.scores[order] > adaptive_threshold(outcome.held_out),
        kind=MISTAKE,
        how=REENACTED,
        scores=outcome.scores[order],
    )
    features = run_network(case.network(), case, loader=load_opencv)
    features = features.astype(np.float16).astype(np.float32)
    other = case.seed + 1
    together = detect(
        features,
        control.n_train,
        case,
        start_seed=other,
        projection_seed=other,
        fold_seed=other,
        index="faiss_flat",
    )
    yield control.row("OpenCV, float16, FAISS and all seeds together", group, together, kind=CHOICE)


def weigh(
    rows: Sequence[Row],
    labels: np.ndarray | None,
    models: Sequence[Reported],
    reading: Reading,
    *,
    working: float,
) -> list[float | None]:
    """Weigh each row as the cause of the reported values: log10 Bayes factors.

    The row's sensitivity and false-alarm rate, as uncertain as its images leave them, are put into
    the reported test set.  Factors are against a working detector whose rows are permuted.

    Returns
    -------
    list of float or None
        ``None`` for rows without labels, and where permuted rows cannot make the values.
    """
    if labels is None:
        return [None] * len(rows)
    n_anomalous, n_normal = int((labels == 1).sum()), int((labels == 0).sum())
    counted = [row for row in rows if row.hits is not None]
    causes = [
        measured_cause(
            row.factor,
            (row.hits, n_anomalous),
            (row.n_flagged - row.hits, n_normal),
            reading=reading,
        )
        for row in counted
    ]
    permuted = next(
        cause
        for cause in standard_causes(
            n_images=reading.n_images, n_anomalous=reading.n_anomalous, working=working, draws=1
        )
        if cause.name == ROWS_PERMUTED
    )
    against, *found = likelihoods(models, {reading: 1.0}, [permuted, *causes])
    if not against.value:
        return [None] * len(rows)
    with np.errstate(divide="ignore"):
        log10 = iter(np.log10([each.value / against.value for each in found]).tolist())
    return [None if row.hits is None else next(log10) for row in rows]


def summary(
    rows: Sequence[Row], reported: Mapping[str, float], log10: Sequence[float | None]
) -> dict[str, object]:
    """Say which factors can make the reported values, and the widest effect of the numerical ones.

    Parameters
    ----------
    rows : sequence of Row
        The control first.
    reported : mapping
        Printed F1 values.  A factor reaches one that lies in the factor's interval.
    log10 : sequence
        Of `weigh`, one a row.
    """
    control = rows[0]
    tried = [row for row in rows[1:] if row.how != NOT_RUN]
    numerical = [row for row in tried if row.kind == NUMERICAL]
    labelled = control.f1 is not None
    reaching = {
        row.factor: [n for n, value in reported.items() if row.f1_low <= value <= row.f1_high]
        for row in tried
        if labelled
    }
    weight = {row.factor: w for row, w in zip(rows, log10, strict=True) if w is not None}
    ranked = sorted((row for row in tried if row.factor in weight), key=lambda r: -weight[r.factor])
    strongest = [row for row in ranked if row.kind != MISTAKE][:1]
    return {
        "control_f1": control.f1,
        "n_factors": len(tried),
        "not_run": [row.factor for row in rows if row.how == NOT_RUN],
        "largest_numerical_change": max((r.flags_changed for r in numerical), default=0),
        "largest_numerical_f1_change": (
            max((abs(r.f1 - control.f1) for r in numerical), default=0.0) if labelled else None
        ),
        "reach_all": [factor for factor, names in reaching.items() if len(names) == len(reported)],
        "reach_none": [factor for factor, names in reaching.items() if not names],
        "ranked": [row.factor for row in ranked],
        "likely": [row.factor for row in ranked if weight[row.factor] > -DECISIVE],
        "best_without_mistake": strongest[0].factor if strongest else None,
        "log10_best_without_mistake": weight[strongest[0].factor] if strongest else None,
        "mistakes": [row.factor for row in tried if row.kind == MISTAKE],
    }


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

"""From a finished run to its detector file, and what the file's page says."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ad.dataset import of_split, read_manifest
from ad.extraction import FeatureExtractor
from ad.files import load_array, read_csv, read_json
from ad.params import BackboneSettings, Score
from ad.protocol import aggregate_folds, score_in_parts
from line.check import Expected, code_sha256
from line.decision import Decision
from line.detector import Verdict
from line.make import write_detector
from pages.report import figure, markdown_table

RATES = (0.005, 0.01, 0.02, 0.05, 0.1)


def banks_of(artifacts: Path, folds: int) -> list[np.ndarray]:
    """Read each fold's bank of a finished run, shape (n_bank, dim)."""
    n_train = len(of_split(read_manifest(artifacts / "manifest.csv"), "train"))
    features = load_array(artifacts / "features.npy")  # manifest order: train, then test
    patches = features[:n_train].reshape(-1, features.shape[-1])
    return [patches[load_array(artifacts / f"coreset/fold_{n}.npy")] for n in range(folds)]


def export(
    path: Path, extractor: FeatureExtractor, settings: BackboneSettings, root: Path, k: int
) -> None:
    """Write the detector file of a finished run.

    Parameters
    ----------
    path : path
    extractor : FeatureExtractor
        The run's, in whole numbers.
    settings : BackboneSettings
    root : path
        The repository.
    k : int
        Neighbours that a score averages over.
    """
    artifacts = root / "artifacts"
    threshold = read_json(artifacts / "threshold.json")
    inputs = read_json(artifacts / "inputs.json")
    rows = read_csv(artifacts / "validation_scores.csv")
    folds = len(threshold["fold_thresholds"])
    held_out = [[float(r["score"]) for r in rows if int(r["fold"]) == n] for n in range(folds)]
    rule = extractor.rule
    about = {
        "image": {"resize": rule.resize, "interpolation": rule.resample.name.lower()},
        "held_out": held_out,
        "backbone": settings.model_dump(),
        "patch": extractor.patch.model_dump(),
        "threshold_rule": threshold["rule"],
        "synthetic": inputs["data"]["synthetic"],
        "sha256": {
            "data": inputs["data"]["sha256"],
            "weights": inputs["weights"]["sha256"],
            "code": code_sha256(root),
        },
    }
    decision = Decision(banks_of(artifacts, folds), k, threshold["threshold"])
    grid = load_array(artifacts / "features.npy").shape[1:3]
    write_detector(path, extractor.whole, decision, grid, rule.size, about)


def expected_of(artifacts: Path, score: Score, folds: int) -> Expected:
    """Score the test images as the pipeline does, from its features and banks."""
    n_train = len(of_split(read_manifest(artifacts / "manifest.csv"), "train"))
    test = load_array(artifacts / "features.npy")[n_train:]
    found = [score_in_parts(test, bank, score) for bank in banks_of(artifacts, folds)]
    of_folds = np.stack([own.images for own in found])
    scores = aggregate_folds(of_folds)
    patches = aggregate_folds(np.stack([own.patches for own in found]))
    flags = scores > read_json(artifacts / "threshold.json")["threshold"]
    return Expected(patches, of_folds, scores, flags)


def describe(path: Path, why: str) -> str:
    """Say what was written."""
    if why:
        return f"**No detector: {why}.** The file says so when it is loaded."
    return f"`{path.name}`: {path.stat().st_size / 1e6:.1f} MB, standard operators alone."


def agreement(verdicts: Sequence[Verdict]) -> str:
    """Say what was compared."""
    patches = sum(verdict.patch_scores.size for verdict in verdicts)
    flagged = sum(verdict.flagged for verdict in verdicts)
    return (
        f"{len(verdicts)} images, {patches:,} patch scores: every bit is the pipeline's. "
        f"{flagged} images are flagged."
    )


def rates(verdicts: Sequence[Verdict], labels: Sequence[int | None]) -> str:
    """Tabulate what rejecting at a rate would do to the test images."""
    if not verdicts or None in labels:
        return "Without labels there is nothing to count."
    p_values, known = np.array([v.p_value for v in verdicts]), np.array(labels)
    rows = []
    for rate in RATES:
        row: dict[str, object] = {"rate": f"{rate:g}"}
        for words, label in (("normal, rejected", 0), ("anomalous, rejected", 1)):
            own = p_values[known == label]
            row[words] = f"{(own <= rate).sum()} of {len(own)}"
        rows.append(row)
    smallest = p_values.min()
    return (
        f"{markdown_table(rows)}\n\nThe smallest p-value that so few normals allow is "
        f"{figure(smallest)}. A rate is a promise for images like the training images: on these "
        f"test images it held as far as the table says."
    )

"""From a finished run to its detector file, and what the file's page says."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binom

from ad.data import of_split, read_manifest
from ad.extraction import FeatureExtractor, pixels_of
from ad.files import load_array, read_csv, read_json
from ad.params import BackboneSettings, Score
from ad.protocol import aggregate_folds, score_in_parts
from ad.detector.check import Expected, code_sha256
from ad.detector.decision import Decision
from ad.detector.detector import Verdict, appearance
from ad.detector.make import write_detector
from ad.report import markdown_table

RATES = (0.005, 0.01, 0.02, 0.05, 0.1)
UNLIKELY = 0.01  # a count of false alarms this unlikely breaks the promise


def banks_of(artifacts: Path, folds: int) -> list[np.ndarray]:
    """Read each fold's bank of a finished run, shape (n_bank, dim)."""
    n_train = len(of_split(read_manifest(artifacts / "manifest.csv"), "train"))
    features = load_array(artifacts / "features.npy")  # manifest order: train, then test
    patches = features[:n_train].reshape(-1, features.shape[-1])
    return [patches[load_array(artifacts / f"coreset/fold_{n}.npy")] for n in range(folds)]


def export_run(
    path: Path,
    extractor: FeatureExtractor,
    normals: Sequence[Path],
    settings: BackboneSettings,
    root: Path,
    k: int,
) -> None:
    """Write the detector file of a finished run.

    Parameters
    ----------
    path : path
    extractor : FeatureExtractor
        The run's, in whole numbers.
    normals : sequence of path
        The training images.
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
        "held_out": held_out,
        "appearance": [appearance(pixels_of(own, rule)).tolist() for own in normals],
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
    write_detector(path, extractor.whole, decision, rule, about)


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


def rates(verdicts: Sequence[Verdict], labels: Sequence[int | None], n_normals: int) -> str:
    """Tabulate what rejecting at a rate would do to the test images, and hold it to its promise.

    Parameters
    ----------
    n_normals : int
        Held-out normals that the p-values rest on.
    """
    if not verdicts or None in labels:
        return "Without labels there is nothing to count."
    p_values, known = np.array([v.p_value for v in verdicts]), np.array(labels)
    normal, anomalous = p_values[known == 0], p_values[known == 1]
    rows, broken = [], []
    for rate in RATES:
        alarms = int((normal <= rate).sum())
        found = f"{(anomalous <= rate).sum()} of {len(anomalous)}"
        rows.append(
            {"rate": f"{rate:g}", "normal, rejected": f"{alarms} of {len(normal)}",
             "anomalous, rejected": found}
        )  # fmt: skip
        if binom.sf(alarms - 1, len(normal), rate) < UNLIKELY:
            broken.append(f"{rate:g}")
    held = (
        f"More normal images are rejected than chance explains at {', '.join(broken)}: these are "
        f"not like the training images."
        if broken
        else "At no rate are more normal images rejected than chance explains (one-sided binomial "
        f"test, {UNLIKELY:g}); so few images would not show a small excess."
    )
    return (
        f"{markdown_table(rows)}\n\n{held} With {n_normals} held-out normals no rate below "
        f"{1 / (1 + n_normals):.2g} can be told."
    )

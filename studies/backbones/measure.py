"""Measure one network of the study, in a process of its own, so that its peak is its own.

Writes artifacts/studies/backbones/<name>.json. The whole protocol runs on all images; without
weights it runs with random ones, which cost the same and have no quality.
"""

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ad.dataset import ImageRecord, of_split, read_manifest
from ad.determinism import set_determinism
from ad.extraction import make_extractor
from ad.files import load_array, read_json, write_json
from ad.params import Coreset, CrossValidation, Image, Patch, Runtime, Score
from ad.protocol import Protocol, cross_validate, fold_indices
from pages.evaluation import image_quality, known_labels
from studies.backbones.cost import timed_extraction
from studies.shared.networks import WeightsFound, load_found
from studies.shared.peak_memory import peak_resident_bytes
from studies.shared.uncertainty import auroc_interval

STUDIES = Path("artifacts/studies")
KEPT = ("f1", "f1_low", "f1_high", "image_auroc")


def quality(
    features: np.ndarray, records: Sequence[ImageRecord], cv: CrossValidation, protocol: Protocol
) -> dict[str, object]:
    """Run the protocol; there are quality figures where test labels are known."""
    n_train, seed = len(of_split(records, "train")), protocol.seed
    folds = fold_indices(n_train, cv.folds, shuffle=cv.shuffle, seed=seed)
    result = cross_validate(features[:n_train], [features[n_train:]], folds, protocol)
    scores, threshold = result.scores(cv.aggregate), result.threshold(cv.threshold)
    flags = scores > threshold
    labels = known_labels(of_split(records, "test"))
    figures = image_quality(labels, scores, flags, seed=seed)
    found = {key: figures[key] for key in KEPT if key in figures}
    if "image_auroc" in found:
        found["auroc_low"], found["auroc_high"] = auroc_interval(labels, scores, seed=seed)
    return {**found, "threshold": threshold, "scores": scores.tolist()}


def image_settings(name: str, parameters: Mapping[str, object]) -> Image:
    """Return how pictures are read; mean and deviation that are set are the pipeline's network's.

    Every other network takes those of its own training.
    """
    image = Image.of(parameters, "image_")
    if name == parameters["backbone_name"]:
        return image
    return image.model_copy(update={"mean": None, "std": None, "interpolation": None})


def measure(name: str, parameters: Mapping[str, object]) -> dict[str, object]:
    """Extract, run the protocol, and collect what it took."""
    runtime = Runtime.of(parameters, "runtime_")
    set_determinism(parameters["seed"], runtime.threads)
    found = WeightsFound(**read_json(STUDIES / "backbone_weights" / f"{name}.json"))
    records = read_manifest("artifacts/manifest.csv")
    paths = [Path(parameters["data_path"]) / record.path for record in records]
    backbone = load_found(name, found, seed=parameters["seed"])
    layers = [asdict(layer) for layer in backbone.layers]
    n_train, arithmetic = len(of_split(records, "train")), parameters["backbone_arithmetic"]
    extractor = make_extractor(
        backbone,
        image_settings(name, parameters),
        Patch.of(parameters, "patch_"),
        paths[:n_train],
        arithmetic=arithmetic,
    )
    rule = extractor.rule
    n_weights = sum(p.numel() for p in backbone.model.parameters())
    coreset, score = Coreset.of(parameters, "coreset_"), Score.of(parameters, "score_")
    protocol = Protocol(coreset, score, parameters["seed"], unit=extractor.unit)
    Path("build").mkdir(exist_ok=True)
    with TemporaryDirectory(dir="build") as folder:  # beside the data: it may need gigabytes
        output, batch = Path(folder) / "features.npy", parameters["backbone_batch_size"]
        cost = timed_extraction(extractor, paths, output, runtime, batch)
        del backbone, extractor  # the network is not needed for the banks,
        gc.collect()  # and its hooks refer back to it
        before = time.process_time()
        scored = quality(
            load_array(output), records, CrossValidation.of(parameters, "cv_"), protocol
        )
        banks_seconds = time.process_time() - before
    return {
        "name": name,
        **asdict(found),
        "layers": layers,
        "n_weights": n_weights,
        "mean": list(rule.mean),
        "std": list(rule.std),
        **asdict(cost),
        "banks_cpu_seconds": banks_seconds,
        "feature_bytes": cost.feature_bytes_per_image * len(records),
        "peak_bytes": peak_resident_bytes(),
        "quality": scored if found.weights != "random" else {},
    }


def main(parameters: Mapping[str, object]) -> None:
    """Measure the network named."""
    name = str(parameters["name"])
    write_json(STUDIES / "backbones" / f"{name}.json", measure(name, parameters))

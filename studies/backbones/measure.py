"""Measure one network of the study, in a process of its own.

Writes artifacts/studies/backbones/<name>.json. With weights the whole protocol runs on all images;
without, random weights run, which cost the same and have no quality (on a few images, if so asked).
"""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ad.dataset import ImageRecord, of_split, read_manifest
from ad.determinism import set_determinism
from pages.evaluation import known_labels
from ad.files import load_array, read_json, write_json
from ad.metrics import bootstrap_interval, both_classes, f1_score, image_auroc
from ad.params import Coreset, CrossValidation, Image, Patch, Runtime, Score
from ad.protocol import Protocol, cross_validate, fold_indices
from studies.backbones.cost import peak_resident_bytes, spread_over, timed_extraction
from studies.shared.networks import WeightsFound, load_found
from studies.shared.uncertainty import auroc_interval

STUDIES = Path("artifacts/studies")


def quality(
    features: np.ndarray, records: Sequence[ImageRecord], cv: CrossValidation, protocol: Protocol
) -> dict[str, object]:
    """Run the protocol; quality figures are ``None`` where test labels are unknown."""
    n_train, seed = len(of_split(records, "train")), protocol.seed
    folds = fold_indices(n_train, cv.folds, shuffle=cv.shuffle, seed=seed)
    result = cross_validate(features[:n_train], [features[n_train:]], folds, protocol)
    scores, threshold = result.scores(cv.aggregate), result.threshold(cv.threshold)
    flags = scores > threshold
    found: dict[str, object] = dict.fromkeys(
        ("image_auroc", "auroc_low", "auroc_high", "f1", "f1_low", "f1_high")
    )
    found |= {"threshold": threshold, "n_flagged": int(flags.sum())}
    labels = known_labels(of_split(records, "test"))
    if labels is not None:
        found["scores"] = scores.tolist()
        found["f1"] = f1_score(labels, flags)
        found["f1_low"], found["f1_high"] = bootstrap_interval(labels, flags, seed=seed)
        if both_classes(labels):
            found["image_auroc"] = image_auroc(labels, scores)
            found["auroc_low"], found["auroc_high"] = auroc_interval(labels, scores, seed=seed)
    return found


def measure(name: str, parameters: Mapping[str, object]) -> dict[str, object]:
    """Extract, score if the weights are trained, and collect what it took."""
    runtime = Runtime.of(parameters, "runtime_")
    set_determinism(parameters["seed"], runtime.threads)
    found = WeightsFound(**read_json(STUDIES / "backbone_weights" / f"{name}.json"))
    records = read_manifest("artifacts/manifest.csv")
    limit = parameters["backbones_cost_images"]
    whole = found.weights != "random" or limit is None
    chosen = np.arange(len(records)) if whole else spread_over(len(records), limit)
    paths = [Path(parameters["data_path"]) / records[number].path for number in chosen]
    backbone = load_found(name, found, seed=parameters["seed"])
    rule = backbone.input_rule(
        Image(size=parameters["image_size"], resize=parameters["image_resize"])
    )
    patch, layers = Patch.of(parameters, "patch_"), [asdict(layer) for layer in backbone.layers]
    n_weights = sum(p.numel() for p in backbone.model.parameters())
    protocol = Protocol(
        Coreset.of(parameters, "coreset_"), Score.of(parameters, "score_"), parameters["seed"]
    )
    Path("build").mkdir(exist_ok=True)
    with TemporaryDirectory(dir="build") as folder:  # beside the data: it may need gigabytes
        output, batch = Path(folder) / "features.npy", parameters["backbone_batch_size"]
        cost = timed_extraction(backbone, paths, output, patch, rule, runtime, batch)
        del backbone  # the network is not needed for the banks,
        gc.collect()  # and its hooks refer back to it
        cv = CrossValidation.of(parameters, "cv_")
        scored = quality(load_array(output), records, cv, protocol) if whole else {}
    return {
        "name": name,
        **asdict(found),
        "layers": layers,
        "n_weights": n_weights,
        **asdict(cost),
        "feature_bytes": cost.feature_bytes_per_image * len(records),
        "peak_bytes": peak_resident_bytes(),
        "protocol_ran": whole,
        "quality": scored if found.weights != "random" else {},
    }


def main(parameters: Mapping[str, object]) -> None:
    """Measure the network named."""
    name = str(parameters["name"])
    write_json(STUDIES / "backbones" / f"{name}.json", measure(name, parameters))

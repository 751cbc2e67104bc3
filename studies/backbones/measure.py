"""Measure one network of the backbone study, in a process of its own.

Usage: python -m studies.backbones.measure NAME

Writes artifacts/studies/backbones/<name>.json. With weights the whole protocol runs on all images;
without, random weights run, which cost the same and have no quality (on a few images, if so asked).
"""

import gc
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from studies.backbones.cost import (
    WeightsFound,
    layers_in_words,
    load_for_study,
    peak_resident_bytes,
    spread_over,
    timed_extraction,
)
from ad.dataset import of_split, read_manifest
from ad.determinism import set_determinism
from ad.features import PatchSettings
from ad.files import load_array, read_json, write_json
from ad.metrics import bootstrap_interval, both_classes, f1_score, image_auroc
from ad.protocol import BankSettings, cross_validate
from studies.shared.uncertainty import auroc_interval
from tools.check_inputs import read_params

STUDIES = Path("artifacts/studies")


def quality(features: np.ndarray, records: list, params: dict, threads: int) -> dict[str, object]:
    """Run the protocol; quality figures are ``None`` where test labels are unknown."""
    coreset, score, cv = params["coreset"], params["score"], params["cv"]
    n_train = len(of_split(records, "train"))
    result = cross_validate(
        features[:n_train],
        [features[n_train:]],
        BankSettings(
            coreset["ratio"],
            coreset["projection_dim"],
            score["num_neighbors"],
            score["squared"],
            score["reweight"],
        ),
        folds=cv["folds"],
        shuffle=cv["shuffle"],
        seed=params["seed"],
        threads=threads,
    )
    scores, threshold = result.scores(cv["aggregate"]), result.threshold(cv["threshold"])
    flags = scores > threshold
    found: dict[str, object] = dict.fromkeys(
        ("image_auroc", "auroc_low", "auroc_high", "f1", "f1_low", "f1_high")
    )
    found |= {"threshold": threshold, "n_flagged": int(flags.sum())}
    labels = [record.label for record in of_split(records, "test")]
    if None not in labels:
        labels, seed = np.array(labels), params["seed"]
        found["f1"] = f1_score(labels, flags)
        found["f1_low"], found["f1_high"] = bootstrap_interval(labels, flags, seed=seed)
        if both_classes(labels):
            found["image_auroc"] = image_auroc(labels, scores)
            found["auroc_low"], found["auroc_high"] = auroc_interval(labels, scores, seed=seed)
    return found


def measure(name: str, params: dict) -> dict[str, object]:
    """Extract, score if the weights are trained, and collect what it took."""
    threads = set_determinism(params["seed"], params["runtime"]["threads"])
    found = WeightsFound(**read_json(STUDIES / "backbone_weights" / f"{name}.json"))
    records = read_manifest("artifacts/manifest.csv")
    trained = found.weights != "random"
    limit = params["backbones"]["cost_images"]
    whole = trained or limit is None
    chosen = np.arange(len(records)) if whole else spread_over(len(records), limit)
    paths = [Path(params["data"]["path"]) / records[number].path for number in chosen]
    backbone = load_for_study(name, found, seed=params["seed"])
    layers = layers_in_words(backbone.layers)
    n_weights = sum(p.numel() for p in backbone.model.parameters())
    patch, image = params["patch"], params["image"]
    Path("build").mkdir(exist_ok=True)
    with TemporaryDirectory(dir="build") as folder:  # beside the data: it may need gigabytes
        output = Path(folder) / "features.npy"
        cost = timed_extraction(
            backbone,
            paths,
            output,
            PatchSettings(patch["size"], patch["pretrain_dim"], patch["target_dim"]),
            image_size=image["size"],
            image_resize=image["resize"],
            batch_size=params["backbone"]["batch_size"],
            memory_gb=params["runtime"]["memory_gb"],
            threads=threads,
        )
        del backbone  # the network is not needed for the banks,
        gc.collect()  # and its hooks refer back to it
        scored = quality(load_array(output), records, params, threads) if whole else {}
    if not trained:
        scored = {}
    return {
        "name": name,
        **asdict(found),
        "layers": layers,
        "n_weights": n_weights,
        **asdict(cost),
        "feature_bytes": cost.feature_bytes_per_image * len(records),
        "peak_bytes": peak_resident_bytes(),
        "protocol_ran": whole,
        "quality": scored,
    }


def main(arguments: list[str]) -> None:
    """Measure the network named."""
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    try:
        result = measure(arguments[0], read_params(Path("params.yaml")))
    except (ValueError, OSError, MemoryError) as error:
        raise SystemExit(f"error: {arguments[0]}: {error}") from None
    write_json(STUDIES / "backbones" / f"{arguments[0]}.json", result)
    print(
        f"{arguments[0]}: {result['seconds_per_image']:.3f} s an image, peak "
        f"{result['peak_bytes'] / 1e9:.2f} GB, weights {result['weights']}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])

"""A tiny finished run, its record, and causes to plant in it."""

from pathlib import Path

import numpy as np

from ad.backbone import load_backbone
from ad.dataset import of_split, write_manifest
from ad.extraction import extract_features, make_extractor
from ad.files import load_array, save_array, write_csv, write_json
from ad.memory_bank import score_images
from ad.params import BackboneSettings, Image, Patch, Runtime, Score
from tools.scan import scan

BACKBONE = BackboneSettings(name="resnet10t", weights="random", layers=["layer1", "layer2"])


def write_run(root: Path, data: Path) -> None:
    """Carry out the pipeline's steps on a tiny set, and write what the stages write."""
    artifacts = root / "artifacts"
    records = scan(data)
    write_manifest(artifacts / "manifest.csv", records)
    pictures, output = [data / r.path for r in records], artifacts / "features.npy"
    how = Image(size=32), Patch(size=3), pictures
    extractor = make_extractor(load_backbone(BACKBONE), *how, arithmetic="float32")
    extract_features(extractor, pictures, output, Runtime(threads=1, memory_gb=4.0))
    features = load_array(artifacts / "features.npy")
    train, test = of_split(records, "train"), of_split(records, "test")
    picks = np.arange(0, 64, 2)
    save_array(artifacts / "coreset" / "fold_0.npy", picks)
    write_csv(artifacts / "coreset" / "folds.csv", ["id", "fold"], [(r.id, 0) for r in train])
    bank = np.array(features[: len(train)]).reshape(-1, features.shape[-1])[picks]
    scores = score_images(np.array(features), bank, Score(num_neighbors=3)).images
    held_out, tested = scores[: len(train)], scores[len(train) :]
    threshold = float(np.median(tested))
    write_csv(
        artifacts / "validation_scores.csv",
        ["id", "fold", "score"],
        [(r.id, 0, float(s)) for r, s in zip(train, held_out, strict=True)],
    )
    write_json(
        artifacts / "threshold.json",
        {"rule": "max", "fold_thresholds": [threshold], "threshold": threshold},
    )
    write_csv(
        artifacts / "test_scores.csv",
        ["id", "score", "flagged"],
        [(r.id, float(s), int(s > threshold)) for r, s in zip(test, tested, strict=True)],
    )
    write_csv(
        artifacts / "submission.csv",
        ["id", "label"],
        [(r.id, int(s > threshold)) for r, s in zip(test, tested, strict=True)],
    )
    weights = {"backbone": "resnet10t", "source": "random", "sha256": None}
    write_json(root / "metrics" / "evaluate.json", {"f1": 1.0, "defects": {}})
    write_json(artifacts / "inputs.json", {"data": {}, "weights": weights})
    cell = {
        "cell_type": "code",
        "metadata": {"tags": ["injected-parameters"]},
        "source": ["image_size = 32\n", 'backbone_name = "resnet10t"\n'],
    }
    write_json(artifacts / "rendered" / "01_extract_features.ipynb", {"cells": [cell]})


def shifted(values: dict) -> dict:
    """Give each key its neighbour's value."""
    keys = list(values)
    return dict(zip(keys, [values[k] for k in keys[1:] + keys[:1]], strict=True))


def plant_parameters(b):
    b["parameters"]["image_size"] = 64


def plant_data_bytes(b):
    b["data"]["test/good/001"] = "0" * 16


def plant_missing_image(b):
    b["data"].pop("test/good/001")


def plant_listing(b):
    """Another listing order, which the run then used."""
    ids = b["ids"]
    ids[:4] = ids[3::-1]
    for folder, order in b["listing"].items():
        b["listing"][folder] = order[::-1]


def plant_features_under_other_names(b):
    b["features"]["images"] = shifted(b["features"]["images"])
    b["scores"] = shifted(b["scores"])


def plant_decoding(b):
    for own in b["decoding"].values():
        own["pixels"] = own["pixels"][::-1]
        own["channel_means"] = own["channel_means"][::-1]
        own["input"] = own["input"][::-1]
    plant_features_gross(b)


def plant_resizing(b):
    for own in b["decoding"].values():
        own["input"] = own["input"][::-1]
    plant_features_gross(b)


def plant_weights(b):
    b["weights"] = {"backbone": "resnet10t", "source": "other", "sha256": "f" * 64}
    plant_features_gross(b)


def nudge(b, size):
    for own in b["features"]["images"].values():
        own["hash"] = own["hash"][::-1]
        own["sample"][3] += size * own["sd"]


def plant_features_gross(b):
    nudge(b, 0.7)
    b["coresets"]["fold_0"]["hash"] = "1" * 16
    b["threshold"]["threshold"] *= 1.5


def plant_features_half(b):
    nudge(b, 5e-3)


def plant_coreset(b):
    b["coresets"]["fold_0"]["hash"] = "1" * 16
    b["coresets"]["fold_0"]["first"][5] += 1
    plant_threshold(b)


def plant_folds(b):
    b["folds"] = "1" * 16


def plant_threshold(b):
    b["threshold"]["threshold"] *= 0.5
    b["submission"] = [
        [n, int(b["scores"][n] > b["threshold"]["threshold"])] for n, _ in b["submission"]
    ]


def plant_validation(b):
    b["validation"] = {name: 2 * score for name, score in b["validation"].items()}


def plant_validation_removed(b):
    b["validation"].popitem()


def plant_no_scores(b):
    b["scores"] = {}


def plant_renamed_ids(b):
    b["scores"] = {f"{name}.png": score for name, score in b["scores"].items()}


def plant_doubled_row(b):
    b["submission"].append(b["submission"][0])


def plant_quality(b):
    b["quality"]["f1"] = 0.44


def plant_scores(b):
    name = next(iter(b["scores"]))
    b["scores"][name] *= 1.01


def plant_labels_under_other_ids(b):
    flags = shifted(dict(b["submission"]))
    b["submission"] = [[name, flags[name]] for name, _ in b["submission"]]


def plant_scores_under_other_ids(b):
    b["scores"] = shifted(b["scores"])


def plant_row_order(b):
    b["submission"].reverse()


# What each plant is found as: its stage, and words of it.
PLANTED = [
    (plant_parameters, "parameters", "image_size: 32 and 64"),
    (plant_data_bytes, "data bytes", "test/good/001"),
    (plant_missing_image, "data bytes", "one run only"),
    (plant_listing, "listing order", "4 of 12 rows moved"),
    (plant_features_under_other_names, "listing order", "under other ids"),
    (plant_decoding, "decoding", "red and blue are exchanged"),
    (plant_resizing, "decoding", "resizing"),
    (plant_weights, "weights", "sha256"),
    (plant_features_gross, "features", "gross"),
    (plant_features_half, "features", "half precision"),
    (plant_folds, "coreset", "folds"),
    (plant_coreset, "coreset", "from pick 6"),
    (plant_validation, "validation", "0.5 relative"),
    (plant_validation_removed, "validation", "one run only"),
    (plant_threshold, "threshold", "relative"),
    (plant_scores, "scores", "1 of 8"),
    (plant_no_scores, "scores", "8 ids"),
    (plant_renamed_ids, "scores", "same values under other ids"),
    (plant_doubled_row, "submission", "stand twice"),
    (plant_labels_under_other_ids, "row order", "joined by position"),
    (plant_scores_under_other_ids, "row order", "joined by position"),
    (plant_row_order, "row order", "8 of 8 rows"),
    (plant_quality, "quality", "f1"),
]

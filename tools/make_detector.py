"""Make a detector file from a folder of normal pictures, in one command.

Usage: python -m tools.make_detector FOLDER [OUTPUT.onnx]    else artifacts/own/<folder>.onnx

The settings are those of params.yaml. Prints what so many normals can promise; the held-out scores
of the training pictures are in OUTPUT.csv, so that a person can look at the highest.
"""

import sys
from pathlib import Path

import pandas as pd

from ad.backbone import load_backbone
from ad.data import of_split
from ad.detector.decision import Decision
from ad.detector.make import without_form, write_detector
from ad.detector.network import write_network
from ad.determinism import resolve_device, set_determinism
from ad.extraction import features_of, make_extractor
from ad.images import ignored_patches
from ad.params import Params, read_params
from ad.protocol import run_protocol, score_held_out
from ad.scan import scan
from ad.tables import write_table
from ad.thresholds import patch_threshold
from tools.run_notebook import SETTINGS, read_yaml


def make(folder: Path, output: Path, params: Params) -> pd.DataFrame:
    """Write the file; return id, fold and held-out score of every normal, highest first."""
    if why := without_form(params.backbone.arithmetic, params.score, params.cv.aggregate):
        raise ValueError(why)
    normals = of_split(scan(folder, bits=params.image.bits), "train")
    paths = [folder / record.path for record in normals]
    network = load_backbone(params.backbone, seed=params.seed)
    device = resolve_device(params.runtime.device)
    extractor = make_extractor(
        network, params.image, params.patch, paths, arithmetic="integer", device=device
    )
    features = features_of(extractor, paths, params.runtime)
    ignored = ignored_patches(params.image.ignore, extractor.rule, features.shape[1:3])
    settings = {"coreset": params.coreset, "cv": params.cv, "seed": params.seed}
    how = {"ignored": ignored, "device": device}
    found = run_protocol(features, features[:0], score=params.score, **settings, **how)
    held = score_held_out(features, found.folds, found.banks, params.score, **how)
    write_network(output.with_suffix(".network.onnx"), extractor)
    where = ignored if ignored.any() else None
    decision = Decision(found.banks, params.score.num_neighbors, found.threshold, where)
    write_detector(
        output,
        output.with_suffix(".network.onnx"),
        decision,
        held_out=[scores.tolist() for scores in found.held_out],
        patch_threshold=patch_threshold([own.patches for own in held], ignored),
        normals=paths,
        about={"rule": params.cv.threshold, "settings": params.model_dump(mode="json")},
    )
    output.with_suffix(".network.onnx").unlink()
    rows = [
        (normals[n].id, fold, score)
        for fold, (_, numbers) in enumerate(found.folds)
        for n, score in zip(numbers, found.held_out[fold], strict=True)
    ]
    table = pd.DataFrame(rows, columns=["id", "fold", "score"])
    return table.sort_values("score", ascending=False, kind="stable")


def main(arguments: list[str]) -> None:
    """Make the file and say what it can promise."""
    if len(arguments) not in (1, 2):
        raise SystemExit(__doc__)
    folder = Path(arguments[0])
    own = Path("artifacts/own") / f"{folder.resolve().name}.onnx"
    output = Path(arguments[1]) if len(arguments) == 2 else own
    try:
        params = read_params(read_yaml(SETTINGS))
        set_determinism(params.seed, params.runtime.threads)
        held = make(folder, output, params)
    except (ValueError, OSError, MemoryError) as error:
        raise SystemExit(f"error: {error}") from None
    write_table(output.with_suffix(".csv"), held)
    print(f"{output}: from {len(held)} normal pictures.")
    print(f"No rate of false alarms below {1 / (len(held) + 1):.2g} can be told from so few.")
    print("Look at these first: the highest held-out scores.")
    print(held.head(3).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Check parameters, images and weights before any work; write what the stages need of them.

Usage: python -m tools.check_inputs

Writes artifacts/manifest.csv (one row an image) and artifacts/inputs.json (where images and
weights come from, with their hashes). One line and exit code 1 if anything is wrong.
"""

import hashlib
import math
import os
import sys
from pathlib import Path

import timm

from ad.backbone import load_backbone
from ad.data import ImageRecord, of_split, write_manifest
from ad.determinism import set_determinism
from ad.extraction import GIGABYTE, plan_extraction
from ad.files import write_json
from ad.params import Params
from ad.protocol import Protocol, fold_indices
from ad.exact.tracing import trace
from tools.headers import check_resizing
from tools.parameters import read_params
from ad.scan import detect_layout, scan
from tools.stage import stage_command

SYNTHETIC_MARK = "SYNTHETIC.txt"  # the renderer leaves it beside the images that it draws


def check_origin(params: Params) -> None:
    """Ask for the input's normalisation where a file's name does not say which weights it holds.

    Raises
    ------
    ValueError
        When timm knows this network's weights with several normalisations, the file names no tag of
        them, and ``image.mean`` or ``image.std`` is null.
    """
    name, path = params.backbone.name.partition(".")[0], Path(params.backbone.weights)
    configs = timm.models.get_arch_pretrained_cfgs(name)
    known = sorted({(tuple(config.mean), tuple(config.std)) for config in configs.values()})
    tagged = path.name.split(".")[:2] in [full.split(".") for full in configs]
    given = params.image.mean is not None and params.image.std is not None
    if path.suffix and len(known) > 1 and not tagged and not given:
        listed = " or ".join(f"{list(mean)} and {list(std)}" for mean, std in known)
        raise ValueError(
            f"backbone.weights: {path} does not say how {name} was trained: with mean and standard "
            f"deviation {listed}; name it {name}.<timm's tag>{path.suffix}, or set image.mean and "
            f"image.std"
        )


def check(params: Params) -> tuple[list[ImageRecord], list[ImageRecord], dict]:
    """Look at everything that can be known before the work."""
    set_determinism(params.seed, params.runtime.threads)
    root = Path(params.data.path)
    detect_layout(root)
    network = load_backbone(params.backbone, seed=params.seed)
    check_origin(params)
    if params.backbone.arithmetic == "integer":
        trace(network.model, [layer.name for layer in network.layers])  # or say what has no form
    rule = network.input_rule(params.image)
    batch = params.backbone.batch_size
    plan = plan_extraction(network, params.patch, rule, params.runtime, batch_size=batch)
    room = GIGABYTE * params.runtime.memory_gb - plan.fixed_bytes
    check_resizing(1, 1, size=rule.side, resize=rule.resize, room=math.inf)  # before the images
    records = scan(root, threads=plan.threads, memory_bytes=room)
    for sides in sorted({rule.looked_at_size(r.width, r.height) for r in records}):
        check_resizing(*sides, size=rule.side, resize=rule.resize, room=room / plan.threads)
    n_train, n_test = (len(of_split(records, split)) for split in ("train", "test"))
    fold_indices(n_train, params.cv.folds, shuffle=False, seed=0)
    smallest = Protocol(params.coreset, params.score, params.seed).bank_size(
        plan.grid[0] * plan.grid[1] * (n_train - -(-n_train // params.cv.folds))
    )
    if smallest < params.score.num_neighbors:
        raise ValueError(
            f"score.num_neighbors={params.score.num_neighbors} exceeds the {smallest} patches that "
            f"a fold's bank can have; lower it or add training images"
        )
    synthetic = (root / SYNTHETIC_MARK).is_file()
    locked = []
    if params.data.locked and synthetic:
        locked = scan(Path(params.data.locked), threads=plan.threads, memory_bytes=room)
    content = "".join(f"{r.id}\n{r.label}\n{r.sha256}\n" for r in records)
    inputs = {
        "data": {
            "layout": detect_layout(root),
            "synthetic": synthetic,
            "n_train": n_train,
            "n_test": n_test,
            "sizes": sorted({f"{r.width}x{r.height}" for r in records}),
            "modes": sorted({r.mode for r in records}),
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        },
        "weights": {
            "backbone": params.backbone.name,
            "source": network.weights_source,
            "sha256": network.weights_sha256,
            "mean": list(rule.mean),
            "std": list(rule.std),
            "interpolation": rule.resample.name.lower(),
        },
    }
    return records, locked, inputs


def main() -> None:
    """Check, then write both files."""
    try:
        records, locked, inputs = check(read_params())
        write_manifest("artifacts/manifest.csv", records)
        write_manifest("artifacts/manifest_locked.csv", locked)
        write_json("artifacts/inputs.json", inputs)
    except (ValueError, OSError, MemoryError) as error:
        raise SystemExit(f"error: {error}") from None
    data, weights = inputs["data"], inputs["weights"]
    loud = "; RANDOM WEIGHTS: quality figures will mean nothing" * (weights["source"] == "random")
    print(
        f"check_inputs: {data['n_train']} training and {data['n_test']} test images, "
        f"{data['layout']} layout; {weights['backbone']}, weights {weights['source']}{loud}"
    )


if __name__ == "__main__":
    with stage_command():
        main()
    sys.stdout.flush()
    os._exit(0)  # to take PyTorch and timm apart would take a second of every run

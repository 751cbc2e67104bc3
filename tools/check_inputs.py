"""Check parameters, images and weights before any work; write what the stages need of them.

Usage: python -m tools.check_inputs

Writes artifacts/manifest.csv (one row an image) and artifacts/inputs.json (where images and
weights come from, with their hashes). One line and exit code 1 if anything is wrong.
"""

import hashlib
from pathlib import Path

import yaml

from ad.backbone import load_backbone
from ad.dataset import detect_layout, of_split, scan, write_manifest
from ad.determinism import resolve_device, set_determinism
from ad.features import PatchSettings, plan_extraction
from ad.files import write_json
from ad.params import validate
from ad.threshold import fold_indices

SYNTHETIC_MARK = "SYNTHETIC.txt"  # the renderer leaves it beside the images that it draws


def read_params(path: Path) -> dict:
    """Read params.yaml; a key that stands twice is an error (YAML would take the last)."""

    class UniqueKeys(yaml.SafeLoader):
        pass

    def mapping(loader: UniqueKeys, node: yaml.MappingNode) -> dict:
        keys = [loader.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"{path}, line {node.start_mark.line + 1}: {key} stands twice")
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        params = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict):
        raise ValueError(f"{path} must hold sections of parameters, not {type(params).__name__}")
    return params


def check(params: dict) -> tuple[list, dict]:
    """Validate everything that can be known before the work."""
    validate(params)
    runtime, backbone, image, patch = (
        params[section] for section in ("runtime", "backbone", "image", "patch")
    )
    threads = set_determinism(params["seed"], runtime["threads"])
    root = Path(params["data"]["path"])
    records = scan(root, threads=threads)
    n_train, n_test = (len(of_split(records, split)) for split in ("train", "test"))
    fold_indices(n_train, params["cv"]["folds"], shuffle=False, seed=0)
    network = load_backbone(
        backbone["name"],
        weights=backbone["weights"],
        layers=backbone["layers"],
        seed=params["seed"],
    )
    settings = PatchSettings(patch["size"], patch["pretrain_dim"], patch["target_dim"])
    plan_extraction(
        network,
        settings,
        image_size=image["size"],
        batch_size=backbone["batch_size"],
        memory_gb=runtime["memory_gb"],
        threads=threads,
        device=resolve_device(runtime["device"]),
    )
    content = "".join(f"{r.id}\n{r.label}\n{r.sha256}\n" for r in records)
    inputs = {
        "data": {
            "layout": detect_layout(root),
            "synthetic": (root / SYNTHETIC_MARK).is_file(),
            "n_train": n_train,
            "n_test": n_test,
            "sizes": sorted({f"{r.width}x{r.height}" for r in records}),
            "modes": sorted({r.mode for r in records}),
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        },
        "weights": {
            "backbone": backbone["name"],
            "source": network.weights_source,
            "sha256": network.weights_sha256,
        },
    }
    return records, inputs


def main() -> None:
    """Check, then write both files."""
    try:
        records, inputs = check(read_params(Path("params.yaml")))
        write_manifest("artifacts/manifest.csv", records)
        write_json("artifacts/inputs.json", inputs)
    except (ValueError, OSError, MemoryError) as error:
        raise SystemExit(f"error: {error}") from None
    data, weights = inputs["data"], inputs["weights"]
    print(f"{data['n_train']} training and {data['n_test']} test images, {data['layout']} layout")
    print(f"backbone {weights['backbone']}, weights {weights['source']}")
    if weights["source"] == "random":
        print("WARNING: random weights; quality figures will mean nothing")


if __name__ == "__main__":
    main()

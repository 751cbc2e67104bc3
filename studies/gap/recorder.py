"""Record a finished run of the pipeline."""

import ast
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ad import params
from ad.dataset import ImageRecord, read_manifest, submission_order
from ad.files import load_array, read_csv, read_json
from ad.images import InputRule, input_rule, read_rgb
from studies.gap import write_record as describe
from studies.gap.record import Record

# What a finished run leaves.
ARTIFACTS = (
    "manifest.csv",
    "inputs.json",
    "features.npy",
    "coreset/folds.csv",
    "validation_scores.csv",
    "threshold.json",
    "test_scores.csv",
    "submission.csv",
)


def notebook_parameters(folder: Path) -> dict[str, object]:
    """Collect the parameters that the executed notebooks were given."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("0*.ipynb")):
        for cell in read_json(path)["cells"]:
            if "injected-parameters" in cell["metadata"].get("tags", []):
                for line in ast.parse("".join(cell["source"])).body:
                    if isinstance(line, ast.Assign):
                        found[line.targets[0].id] = ast.literal_eval(line.value)
    return found


def record_run(root: str | Path = ".", *, data: str | Path = "data") -> Record:
    """Describe a finished run.

    Parameters
    ----------
    root : path
        The folder that holds ``artifacts/``.
    data : path
        The images' folder, relative to ``root`` or absolute; without it the record lacks what
        only images tell.

    Raises
    ------
    FileNotFoundError
        When an artifact is missing; the message names it.
    """
    root = Path(root)
    artifacts, images = root / "artifacts", root / data
    for name in ARTIFACTS:
        if not (artifacts / name).is_file():
            raise FileNotFoundError(f"{artifacts / name}: no finished run here; run 'dvc repro'")
    manifest = read_manifest(artifacts / "manifest.csv")
    ids, features = [r.id for r in manifest], load_array(artifacts / "features.npy")
    if len(features) != len(manifest):
        raise ValueError(
            f"{artifacts}: {len(features)} rows in features.npy, {len(manifest)} in manifest.csv; "
            f"run 'dvc repro'"
        )
    weights = read_json(artifacts / "inputs.json")["weights"]
    parameters = notebook_parameters(artifacts / "rendered")
    threshold = read_json(artifacts / "threshold.json")
    parts: dict[str, object] = {
        "format": describe.FORMAT,
        "parameters": parameters,
        "ids": ids,
        "data": {r.id: r.sha256[: describe.HASH_DIGITS] for r in manifest},
        "weights": {key: weights[key] for key in ("backbone", "source", "sha256")},
        "features": describe.features(ids, features),
        "folds": describe.file_hash(artifacts / "coreset" / "folds.csv"),
        "coresets": {
            path.stem: describe.coreset(load_array(path))
            for path in sorted((artifacts / "coreset").glob("*.npy"))
        },
        "validation": _scores(artifacts / "validation_scores.csv"),
        "threshold": {key: threshold[key] for key in ("rule", "fold_thresholds", "threshold")},
        "scores": _scores(artifacts / "test_scores.csv"),
        "submission": [
            [row["id"], int(row["label"])] for row in read_csv(artifacts / "submission.csv")
        ],
        **_optional(root),
    }
    if images.is_dir():
        parts |= _of_images(images, manifest, _rule(parameters, weights))
    return Record.model_validate(parts)


def _scores(path: Path) -> dict[str, float]:
    return {row["id"]: float(row["score"]) for row in read_csv(path)}


def _optional(root: Path) -> dict[str, object]:
    """Read what a run may lack: its environment and its figures."""
    found: dict[str, object] = {}
    environment, quality = root / "artifacts/environment.json", root / "metrics/evaluate.json"
    if environment.is_file():
        found["environment"] = read_json(environment)
    if quality.is_file():
        found["quality"] = {k: v for k, v in read_json(quality).items() if np.isscalar(v)}
    return found


def _rule(parameters: dict[str, object], weights: dict[str, object]) -> InputRule | None:
    """Say how the run made inputs; ``None`` where its parameters are not at hand."""
    if "image_size" not in parameters:
        return None
    return input_rule(params.Image.of(parameters, "image_"), weights)


def _of_images(
    images: Path, manifest: Sequence[ImageRecord], rule: InputRule | None
) -> dict[str, object]:
    """Describe what only the images tell: listings, decoding, the sample's order."""
    folders = sorted({record.path.rpartition("/")[0] for record in manifest})
    decoding = {}
    for record in manifest:
        picture = read_rgb(images / record.path)
        pixels = np.asarray(picture)
        network_input = None if rule is None else rule.normalised(rule.pixels(picture))
        decoding[record.id] = describe.decoding(pixels, network_input)
    return {
        "listing": {folder: describe.listing(images / folder) for folder in folders},
        "decoding": decoding,
        "sample_order": submission_order(images, manifest),
    }

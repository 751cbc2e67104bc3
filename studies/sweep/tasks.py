"""One task of the sweep: a folder, a setting and a seed, from images to figures."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ad.backbone import load_backbone
from ad.dataset import of_split, read_manifest
from ad.determinism import set_determinism, sha256_file
from ad.extraction import features_of, make_extractor
from ad.files import read_json, write_json
from ad.metrics import both_classes, f1_score, image_auroc
from ad.params import Params
from ad.protocol import Protocol, cross_validate, fold_indices
from cluster.tasks import code_sha256
from studies.sweep.settings import Settings
from validation.sections import validate

# No row depends on these.
SILENT = ("runtime", "data")


@dataclass(frozen=True)
class Task:
    """What a row is computed from; plain values, so that another process can be given it.

    Parameters
    ----------
    folder, data : str
        The folder's name, and its path.
    manifest : str
        Path of its manifest.
    inputs : str
        SHA-256 of the manifest, which holds those of the images.
    weights : str or None
        SHA-256 of the weights.
    changed : dict
        The grid's parameters.
    params : dict
        All parameters.
    rows : str
        Folder of the rows.
    """

    folder: str
    data: str
    manifest: str
    inputs: str
    weights: str | None
    changed: dict
    params: dict
    rows: str

    def __str__(self) -> str:
        """Name the task in messages."""
        settings = ", ".join(f"{key}={value}" for key, value in self.changed.items())
        return f"{self.folder}, {settings}, seed {self.params['seed']}"

    def path(self) -> Path:
        """Return the row's file, named by parameters, inputs and code."""
        kept = {key: value for key, value in self.params.items() if key not in SILENT}
        what = [self.folder, self.inputs, self.weights, kept, code_sha256()]
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        return Path(self.rows) / f"{name[:32]}.json"


def changed_params(params: Mapping, changed: Mapping[str, object], seed: int, data: str) -> dict:
    """Put a combination of the grid into the pipeline's parameters, and check them."""
    tree = {key: dict(v) if isinstance(v, Mapping) else v for key, v in params.items()}
    for key, value in changed.items():
        section, _, name = key.partition(".")
        if not isinstance(tree.get(section), dict) or name not in tree[section]:
            raise ValueError(f"grid: {key} is no parameter of params.yaml")
        tree[section][name] = value
    tree["seed"], tree["data"] = seed, {"path": data, "locked": None}
    return validate(tree, Params).model_dump()


def list_tasks(settings: Settings, params: Mapping, manifests: Path, rows: Path) -> list[Task]:
    """List all tasks: by folder, combination and seed."""
    tasks, first = [], int(params["seed"])
    hashes: dict[str, str | None] = {}
    for folder, data in settings.names().items():
        manifest = manifests / f"{folder}.csv"
        inputs = sha256_file(manifest)
        for changed in settings.combinations():
            for seed in range(first, first + settings.seeds):
                whole = changed_params(params, changed, seed, data)
                network = json.dumps(whole["backbone"])
                if network not in hashes:
                    chosen = validate(whole, Params).backbone
                    hashes[network] = load_backbone(chosen, seed=seed).weights_sha256
                tasks.append(
                    Task(
                        folder,
                        data,
                        manifest.as_posix(),
                        inputs,
                        hashes[network],
                        changed,
                        whole,
                        rows.as_posix(),
                    )
                )
    return tasks


def run_task(task: Task) -> dict:
    """Compute a row and write it, unless it is there; no row depends on the order of tasks.

    Raises
    ------
    ValueError
        When this machine has other images or weights than the one that made the task.
    """
    if task.path().is_file():
        return read_json(task.path())
    params = validate(task.params, Params)
    set_determinism(params.seed, params.runtime.threads)
    records = read_manifest(task.manifest)
    paths = [Path(task.data) / record.path for record in records]
    for record, path in zip(records, paths, strict=True):
        if not path.is_file() or sha256_file(path) != record.sha256:
            raise ValueError(f"{path} is not the manifest's; give every worker the same folders")
    backbone = load_backbone(params.backbone, seed=params.seed)
    if backbone.weights_sha256 != task.weights:
        raise ValueError(
            f"{params.backbone.name}: this worker has other weights, SHA-256 "
            f"{backbone.weights_sha256}, not {task.weights}"
        )
    n_train = len(of_split(records, "train"))
    how = {"arithmetic": params.backbone.arithmetic, "device": params.runtime.device}
    extractor = make_extractor(backbone, params.image, params.patch, paths[:n_train], **how)
    features = features_of(extractor, paths, params.runtime)
    folds = fold_indices(n_train, params.cv.folds, shuffle=params.cv.shuffle, seed=params.seed)
    protocol = Protocol(params.coreset, params.score, params.seed, unit=extractor.unit)
    found = cross_validate(features[:n_train], [features[n_train:]], folds, protocol)
    threshold = found.threshold(params.cv.threshold)
    scores = found.scores(params.cv.aggregate)
    row = {
        "folder": task.folder,
        **task.changed,
        "seed": params.seed,
        "threshold": threshold,
        "flagged": int((scores > threshold).sum()),
        **_quality([r.label for r in of_split(records, "test")], scores, scores > threshold),
    }
    write_json(task.path(), row)
    return row


def _quality(labels: Sequence[int | None], scores: np.ndarray, flags: np.ndarray) -> dict:
    """Return the figures that labels allow."""
    if None in labels or not both_classes(np.array(labels)):
        return {}
    known = np.array(labels)
    return {"image_auroc": image_auroc(known, scores), "f1": f1_score(known, flags)}

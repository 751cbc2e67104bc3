"""Features of many images in shards; each shard is a task, named by what it is computed from."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ad.backbone import load_backbone
from ad.determinism import set_determinism, sha256_file
from ad.extraction import CALIBRATION, FeatureExtractor, extract_features, make_extractor
from ad.files import load_array, write_text
from ad.params import Params
from ad.progress import progress_bar
from cluster.tasks import Map, code_sha256
from studies.scale.shards import Shards
from validation.sections import validate


@dataclass(frozen=True)
class Picture:
    """An image: its path, and the SHA-256 that its bytes must have."""

    path: str
    sha256: str

    def check(self) -> Path:
        """Return the path, if the file is the one that is meant."""
        path = Path(self.path)
        if not path.is_file() or sha256_file(path) != self.sha256:
            raise ValueError(f"{path} is not the manifest's; give every worker the same folders")
        return path


@dataclass(frozen=True)
class Network:
    """What brings pixels to features.

    Parameters
    ----------
    params : str
        All parameters, as JSON.
    weights : str or None
        SHA-256 of the weights.
    calibration : tuple of Picture
        Normals that scales of whole numbers are chosen on.
    """

    params: str
    weights: str | None
    calibration: tuple[Picture, ...]


@dataclass(frozen=True)
class ShardTask:
    """One shard: its file, and its images."""

    network: Network
    path: str
    pictures: tuple[Picture, ...]

    def __str__(self) -> str:
        """Name the task in messages."""
        return f"{Path(self.path).name}, from {self.pictures[0].path}"


def network_of(params: Params, normals: Sequence[Picture]) -> Network:
    """Describe the network of some parameters; its scales are the pipeline's of these normals."""
    step = -(-len(normals) // CALIBRATION)  # as `ad.extraction.make_extractor` takes them
    weights = load_backbone(params.backbone, seed=params.seed).weights_sha256
    return Network(params.model_dump_json(), weights, tuple(normals[::step]))


@lru_cache(maxsize=1)
def extractor_of(network: Network) -> FeatureExtractor:
    """Make the extractor once a process.

    Raises
    ------
    ValueError
        When this machine has other weights or images than the one that made the task.
    """
    params = validate(json.loads(network.params), Params)
    backbone = load_backbone(params.backbone, seed=params.seed)
    if backbone.weights_sha256 != network.weights:
        raise ValueError(
            f"{params.backbone.name}: this worker has other weights, SHA-256 "
            f"{backbone.weights_sha256}, not {network.weights}"
        )
    normals = [each.check() for each in network.calibration]
    how = {"arithmetic": params.backbone.arithmetic, "device": params.runtime.device}
    return make_extractor(backbone, params.image, params.patch, normals, **how)


def write_shard(task: ShardTask) -> tuple[float, int, str]:
    """Write a shard, unless it is there whole; return features' unit, patches and hash.

    Its hash stands beside it: a file that a lost disk or connection tore is written again.
    """
    params = validate(json.loads(task.network.params), Params)
    set_determinism(params.seed, params.runtime.threads)
    extractor = extractor_of(task.network)
    path, beside = Path(task.path), Path(task.path).with_suffix(".sha256")
    known = beside.read_text(encoding="utf-8").strip() if beside.is_file() else None
    if not path.is_file() or sha256_file(path) != known:
        paths = [each.check() for each in task.pictures]
        batch_size = params.backbone.batch_size
        extract_features(extractor, paths, path, params.runtime, batch_size)
        known = sha256_file(path)
        write_text(beside, f"{known}\n")
    return extractor.unit, int(np.prod(load_array(path).shape[:-1])), known


def shard_tasks(
    network: Network, pictures: Sequence[Picture], folder: Path, *, images: int
) -> list[ShardTask]:
    """Cut a list of images into tasks of so many each."""
    seen = json.loads(network.params)
    kept = {key: seen[key] for key in ("seed", "image", "backbone", "patch")}
    kept["backbone"].pop("batch_size")
    normals = [each.sha256 for each in network.calibration]
    tasks = []
    for number, start in enumerate(range(0, len(pictures), images)):
        own = tuple(pictures[start : start + images])
        what = [[p.sha256 for p in own], normals, network.weights, kept, code_sha256()]
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        tasks.append(ShardTask(network, (folder / f"{number:06d}-{name[:24]}.npy").as_posix(), own))
    return tasks


def extract_shards(
    run: Map, network: Network, pictures: Sequence[Picture], folder: Path, *, images: int
) -> Shards:
    """Extract what is missing of a list of images, and write the index of all their shards.

    Parameters
    ----------
    images : int
        Images in a shard.
    """
    tasks = shard_tasks(network, pictures, folder, images=images)
    with progress_bar(len(tasks), folder.name, "shard") as bar:
        found = []
        for written in run(write_shard, tasks):
            found.append(written)
            bar.update(1)
    units, sizes, hashes = zip(*found, strict=True)
    names = [Path(task.path).name for task in tasks]
    shards = Shards(str(folder), names, list(hashes), list(sizes), units[0])
    shards.write()
    return shards

"""Select a bank from more patches than one machine holds: in shards, in two rounds, over Dask.

Usage: python -m tools.big_bank [--images 512] [--cluster ADDRESS] [--output artifacts/big_bank]

The settings are params.yaml's; coreset.n_select holds the bank's size.  Interrupted, it goes on:
shards that are there are not extracted again.  It prints how far the bank may be from the best.
"""

import argparse
import os
from functools import lru_cache
from pathlib import Path

import yaml
from distributed import Client

from ad.backbone import load_backbone
from ad.coreset import TwoRounds, k_center_two_rounds
from ad.data import of_split
from ad.extraction import FeatureExtractor, extract_features, make_extractor
from ad.files import load_array, save_array, write_json
from ad.params import Params, read_params
from ad.scan import scan
from tools.sweep import ONE_NETWORK, code_hash, connect, features_name, name_of


@lru_cache(maxsize=1)
def _extractor(settings: str, normals: tuple[Path, ...]) -> FeatureExtractor:
    """Make an extractor once a process."""
    params = Params.model_validate_json(settings)
    network = load_backbone(params.backbone, seed=params.seed)
    how = {"arithmetic": params.backbone.arithmetic, "device": params.runtime.device}
    return make_extractor(network, params.image, params.patch, normals, **how)


def extract_shard(task: tuple[str, tuple[Path, ...], int, int, Path]) -> Path:
    """Extract some normals' features into a file, unless it is there."""
    settings, normals, start, stop, output = task
    with ONE_NETWORK:
        if not output.is_file():
            params = Params.model_validate_json(settings)
            size, extractor = params.backbone.batch_size, _extractor(settings, normals)
            extract_features(extractor, normals[start:stop], output, params.runtime, size)
    return output


def big_bank(params: Params, client: Client, output: Path, *, images: int) -> TwoRounds:
    """Extract the training normals in shards, select in two rounds, write bank.npy and bank.json.

    ``images`` is the number of images in a shard: a worker holds one shard's features at a time.
    """
    if params.image.ignore:
        raise ValueError("image.ignore must be null: shards are selected from whole")
    output, root = output.resolve(), Path(params.data.path).resolve()
    records = of_split(scan(root, bits=params.image.bits, say=lambda _: None), "train")
    normals, settings = tuple(root / each.path for each in records), params.model_dump_json()
    name = features_name(params, name_of([each.sha256 for each in records], images), code_hash())
    tasks = [
        (settings, normals, start, start + images, output / f"shard_{name}_{start:09d}.npy")
        for start in range(0, len(normals), images)
    ]

    def run(function, items) -> list:
        return client.gather(client.map(function, list(items), pure=False))

    shards = run(extract_shard, tasks)
    n_patches = sum(load_array(path)[..., 0].size for path in shards)
    n_select = params.coreset.n_select or max(1, round(params.coreset.ratio * n_patches))
    found = k_center_two_rounds(shards, n_select, seed=params.seed, run=run)
    save_array(output / "bank.npy", found.bank)
    about = {"n_patches": n_patches, "n_select": n_select, "shards": len(shards)}
    write_json(output / "bank.json", about | {"radius": found.radius, "factor": found.factor})
    return found


def main() -> None:
    """Read params.yaml, connect, run, print the factor."""
    parser = argparse.ArgumentParser(prog="tools.big_bank", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512, help="images in a shard")
    parser.add_argument("--cluster", help="a Dask scheduler's address or .json file")
    parser.add_argument("--output", type=Path, default=Path("artifacts/big_bank"))
    given = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        params = read_params(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")))
        with connect(given.cluster) as client:
            found = big_bank(params, client, given.output, images=given.images)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    print(
        f"{len(found.bank)} patches in {given.output / 'bank.npy'}: every patch lies within "
        f"{found.radius:.4g} steps, and no bank of this size brings that below "
        f"{found.radius / found.factor:.4g} (factor {found.factor:.3g})"
    )


if __name__ == "__main__":
    from tools.big_bank import main  # as workers import it, so that they find its functions

    main()

"""Run the protocol for every combination of folders, settings and seeds, here or on a cluster.

Usage: python -m tools.sweep GRID.yaml [--cluster ADDRESS] [--output artifacts/sweep]

    folders: [data]                      # of images, in any layout that the README shows
    grid:                                # settings of params.yaml, each with its values
      coreset.ratio: [0.01, 0.1]
      score.num_neighbors: [1, 5]
    seeds: [0, 1]

What the grid does not name is params.yaml's.  Each row is a small file named by what it was
computed from, so an interrupted sweep goes on; at the end all are in sweep.csv.  Dask does the
rest: processes on this machine, or a scheduler's address or file (or AD_CLUSTER).
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Annotated

import numpy as np
import pandas as pd
import yaml
from distributed import Client, as_completed
from pydantic import Field

from ad.backbone import load_backbone
from ad.data import directory_hash, of_split, read_manifest, write_manifest
from ad.detector.check import code_sha256
from ad.determinism import available_cores, resolve_device, sha256_file
from ad.evaluation import score_table, summarise
from ad.extraction import extract_features, make_extractor
from ad.files import load_array, read_json, save_array, write_json
from ad.images import ignored_patches
from ad.layouts import detect_layout
from ad.params import Params, Section, Text, read_params
from ad.protocol import run_protocol
from ad.scan import scan
from ad.tables import write_table

ONE_NETWORK = Lock()  # PyTorch's switches are a process's: one extraction at a time in each


class Grid(Section):
    """What a sweep runs."""

    folders: Annotated[list[Text], Field(min_length=1)]
    grid: dict[str, Annotated[list, Field(min_length=1)]]
    seeds: Annotated[list[int], Field(min_length=1)]

    def rows(self, base: dict) -> Iterator[tuple[dict, Params]]:
        """List rows: what tells each from the others, and all its settings."""
        for folder, seed, *values in product(self.folders, self.seeds, *self.grid.values()):
            chosen = dict(zip(self.grid, values, strict=True))
            given = base | {"seed": seed, "data": {"path": str(Path(folder).resolve())}}
            for name, value in chosen.items():
                section, _, key = name.partition(".")
                given[section] = given.get(section, {}) | {key: value}
            yield {"folder": folder, "seed": seed} | chosen, read_params(given)


@contextmanager
def connect(address: str | None) -> Iterator[Client]:
    """Give a Dask client of a scheduler's address or file, or of processes on this machine."""
    address = address or os.environ.get("AD_CLUSTER")
    try:
        if not address:
            here = {"n_workers": available_cores(), "threads_per_worker": 1}
            client = Client(**here, dashboard_address=None)
        elif address.endswith(".json"):
            Path(address).stat()  # Dask would wait for it without end
            client = Client(scheduler_file=address)
        else:
            client = Client(address)
    except OSError as error:  # what Dask raises without a scheduler, TimeoutError among it
        raise SystemExit(f"error: no Dask scheduler at {address} ({error}); start one") from None
    with client:
        yield client


def name_of(*what: object) -> str:
    """Name a file by what it is computed from."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def code_hash() -> str:
    """Hash the code that rows are computed by."""
    return name_of(code_sha256(), sha256_file(__file__))


def features_name(params: Params, data: str, code: str) -> str:
    """Name the features of some settings; rows that differ in later settings share them."""
    early = params.model_dump(include={"image", "backbone", "patch"})
    early["backbone"].pop("batch_size")
    files = [path for path in (params.backbone.weights, params.image.ignore) if path]
    hashes = [sha256_file(path) for path in files if Path(path).is_file()]
    seed = params.seed if params.backbone.weights == "random" else None
    return name_of(early, hashes, seed, data, code)


def extract(params: Params, folder: Path) -> Path:
    """Extract a data set's features, unless they are there; return their folder."""
    about, data, size = folder / "about.json", Path(params.data.path), params.backbone.batch_size
    with ONE_NETWORK:
        if about.is_file():
            return folder
        records = scan(data, bits=params.image.bits, say=lambda _: None)
        paths = {s: [data / r.path for r in of_split(records, s)] for s in ("train", "test")}
        network = load_backbone(params.backbone, seed=params.seed)
        how = {"arithmetic": params.backbone.arithmetic, "device": params.runtime.device}
        extractor = make_extractor(network, params.image, params.patch, paths["train"], **how)
        for split, own in paths.items():
            extract_features(extractor, own, folder / f"{split}.npy", params.runtime, size)
    grid = load_array(folder / "train.npy").shape[1:3]
    save_array(folder / "ignored.npy", ignored_patches(params.image.ignore, extractor.rule, grid))
    write_manifest(folder / "manifest.csv", records)
    write_json(about, {"unit": extractor.unit})  # last: it says that all are there
    return folder


def score_row(params: Params, features: Path, output: Path, code: str) -> None:
    """Run the protocol on extracted features and write one row's figures."""
    if code_hash() != code:
        raise RuntimeError("a worker has another version of the code; install the same on all")
    normals, queries = (load_array(features / f"{split}.npy") for split in ("train", "test"))
    how = {name: getattr(params, name) for name in ("coreset", "score", "cv", "seed")}
    how |= read_json(features / "about.json") | {"device": resolve_device(params.runtime.device)}
    found = run_protocol(normals, queries, ignored=np.load(features / "ignored.npy"), **how)
    test = of_split(read_manifest(features / "manifest.csv"), "test")
    table = score_table(test, found.scores, found.threshold)
    write_json(output, summarise(table, found.threshold, seed=params.seed))


def sweep(grid: Grid, base: dict, client: Client, output: Path) -> pd.DataFrame:
    """Compute the rows that are missing; write and return the table of all, in the grid's order.

    Parameters
    ----------
    grid : Grid
    base : dict
        The other settings, as in params.yaml.
    client : Client
        Its workers see the same folders and run one task at a time (``--nthreads 1``).
    output : path
        Rows, features and sweep.csv are written below it.

    Raises
    ------
    ValueError
        For settings or folders that are wrong, before anything runs.
    RuntimeError
        When rows failed; the others are written first.
    """
    code, output, features, waiting = code_hash(), output.resolve(), {}, {}
    data = {folder: directory_hash(folder) for folder in grid.folders}
    rows = [(row, params, data[row["folder"]]) for row, params in grid.rows(base)]
    paths = []
    for _, params, own in rows:
        early = features_name(params, own, code)
        settings = params.model_dump(include={"coreset", "score", "cv", "seed"})
        paths.append(output / "rows" / f"{name_of(early, settings)}.json")
        if paths[-1].is_file():
            continue
        if early not in features:
            where = output / "features" / early
            features[early] = client.submit(extract, params, where, pure=False)
        what = (params, features[early], paths[-1], code)
        waiting[client.submit(score_row, *what, pure=False)] = paths[-1]
    errors = []
    for number, future in enumerate(as_completed(waiting), 1):
        if error := future.exception():
            errors.append(" ".join(str(error).split()))
        print(f"\r{number} of {len(waiting)} rows", end="", file=sys.stderr, flush=True)
    if errors:
        raise RuntimeError(f"{len(errors)} of {len(rows)} rows failed: {errors[0]}")
    found = [row | read_json(path) for (row, *_), path in zip(rows, paths, strict=True)]
    table = pd.DataFrame(found)
    write_table(output / "sweep.csv", table)
    return table


def main() -> None:
    """Read the grid, connect, run."""
    parser = argparse.ArgumentParser(prog="tools.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("grid", type=Path)
    parser.add_argument("--cluster", help="a Dask scheduler's address or .json file")
    parser.add_argument("--output", type=Path, default=Path("artifacts/sweep"))
    given = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")  # of workers here: one line counts the rows
    try:
        grid, base = (
            yaml.safe_load(path.read_text(encoding="utf-8"))
            for path in (given.grid, Path("params.yaml"))
        )
        grid = read_params(grid, Grid)
        list(grid.rows(base))  # a wrong setting, or folder, stops before workers start
        for folder in grid.folders:
            detect_layout(folder)
        with connect(given.cluster) as client:
            table = sweep(grid, base, client, given.output)
    except (ValueError, OSError, RuntimeError, yaml.YAMLError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    print(f"\n{len(table)} rows in {given.output / 'sweep.csv'}")


if __name__ == "__main__":
    from tools.sweep import main  # as workers import it, so that they find its functions

    main()

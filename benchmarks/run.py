"""Measure the core beside its alternatives, and write benchmarks/results.csv and docs/speed.md.

Usage: python -m benchmarks.run                     everything (a quarter of an hour)
       python -m benchmarks.run networks neighbours ...  these alone; other rows stay as they are
       python -m benchmarks.run --table             the page's table from the results alone

Both sides of a ratio take turns in one process, on one thread, in processor time (user and system),
so that other work on the machine moves both alike.  The team's experiment is what a user starts:
all processes of it, on all cores.  Each row names the commit that it was measured at.
"""

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
import yaml

from ad.backbone import load_backbone
from ad.coreset import k_center_greedy
from ad.data import of_split
from ad.determinism import one_thread_per_operation
from ad.environment import cpu_model
from ad.exact.engines import exact_float32
from ad.extraction import CPU_CHUNK, FeatureExtractor, features_of, make_extractor, pixels_of
from ad.files import load_array, read_json, write_text
from ad.inspect import Detector
from ad.neighbors import exact_neighbors
from ad.params import BackboneSettings, Image, Params, Patch, Runtime, read_params
from ad.projection import project
from ad.scan import scan
from ad.tables import write_table
from benchmarks import as_markdown, into_page
from benchmarks.peers import (
    DIM,
    FOLDS,
    PROJECTED,
    RATIO,
    TEAM,
    K,
    faiss_flat,
    float32_detector,
    public_coreset,
    public_protocol,
)

RESULTS, WORK, ARTIFACTS = Path("benchmarks/results.csv"), Path("build/bench"), Path("artifacts")
DEFAULT = BackboneSettings()
NETWORKS = (
    DEFAULT,
    BackboneSettings(name="resnet18", weights="random", layers=["layer2", "layer3"]),
    TEAM,
)
# One layer of the default network, pooled to the team's dimension: real features of their size.
WIDE = DEFAULT.model_copy(update={"layers": ["blocks.4"]})
SEED, PICTURES = 0, 20
TEAM_PARAMS = {
    "data": {"locked": None},  # the same images as the public protocol's
    "backbone": {"name": TEAM.name, "weights": TEAM.weights, "layers": TEAM.layers},
    "patch": {"pretrain_dim": DIM, "target_dim": DIM},
    "coreset": {"ratio": RATIO, "projection_dim": PROJECTED},
    "score": {"num_neighbors": K},
    "cv": {"folds": FOLDS},
}


def in_turns(*functions: Callable[[], object], repeats: int = 3) -> list[float]:
    """Run functions in turn, several times; return the least processor time of each, seconds."""
    least = [np.inf] * len(functions)
    for _ in range(repeats):
        for number, function in enumerate(functions):
            start = time.process_time()
            function()
            least[number] = min(least[number], time.process_time() - start)
    return least


def row(what: str, beside: str, its: float, ours: float) -> dict[str, object]:
    """Describe one ratio: the alternative's seconds and ours."""
    return {"what": what, "beside": beside, "its_seconds": its, "our_seconds": ours}


def images() -> tuple[list[Path], list[Path]]:
    """List the installed data set's images for training and for the test."""
    data = Path("data")
    records = scan(data)
    return tuple([data / r.path for r in of_split(records, part)] for part in ("train", "test"))


def extractor_of(
    settings: BackboneSettings, arithmetic: str, dim: int | None = None
) -> FeatureExtractor:
    """Make an extractor as stage 01 does, layers pooled to ``dim``."""
    patch = Patch(pretrain_dim=dim, target_dim=dim)
    backbone = load_backbone(settings, seed=SEED)
    return make_extractor(backbone, Image(), patch, images()[0], arithmetic=arithmetic)


def networks() -> Iterator[dict]:
    """Compare each network's whole-number form with its float32, an image; from pixels to maps."""
    paths = images()[0][:CPU_CHUNK]
    for settings in NETWORKS:
        whole, plain = (extractor_of(settings, each) for each in ("integer", "float32"))
        pixels = torch.from_numpy(np.stack([pixels_of(path, whole.rule) for path in paths]))
        scaled = np.stack([plain.rule.normalised(each) for each in pixels.numpy()])
        scaled = torch.from_numpy(scaled).to(memory_format=torch.channels_last)
        pixels = pixels.permute(0, 3, 1, 2)

        def in_float32(plain=plain, scaled=scaled) -> None:
            plain.backbone(scaled)

        def in_whole_numbers(whole=whole, pixels=pixels) -> None:
            with exact_float32() if whole.whole else nullcontext():
                whole.whole.runner(pixels)

        with torch.inference_mode():
            its, ours = in_turns(in_float32, in_whole_numbers, repeats=8)
        what = f"the network an image, {settings.name} to {settings.layers[-1]}"
        yield row(what, "the same in PyTorch's float32", its / len(paths), ours / len(paths))


def wide_patches() -> tuple[np.ndarray, np.ndarray]:
    """Extract patches of the team's dimension, of training and of test images, (n, DIM) each."""
    extractor = extractor_of(WIDE, "integer", DIM)
    return tuple(features_of(extractor, paths, Runtime()).reshape(-1, DIM) for paths in images())


def products(left: np.ndarray, right: np.ndarray) -> tuple[Callable, Callable]:
    """Return the bare float32 product left @ right.T, by NumPy and by PyTorch."""
    left, right = left.astype(np.float32), right.astype(np.float32)
    out = np.empty((len(left), len(right)), dtype=np.float32)
    a, b, c = map(torch.from_numpy, (left, right, out))
    return lambda: np.matmul(left, right.T, out=out), lambda: torch.mm(a, b.T, out=c)


def coreset() -> Iterator[dict]:
    """Compare the selection of a tenth in 128 dimensions with the public loop, and a product."""
    points = project(wide_patches()[0], PROJECTED, seed=SEED)
    n_select, wide = round(RATIO * len(points)), points.astype(np.float32)

    def select() -> np.ndarray:
        return k_center_greedy(points, n_select, seed=SEED, progress=False)

    by_numpy, by_torch, ours = in_turns(*products(points, points[select()]), select)
    (loop,) = in_turns(lambda: public_coreset(wide, n_select, seed=SEED), repeats=1)
    what = f"coreset, {n_select:,} of {len(points):,} x {PROJECTED}"
    yield row(what, "the loop of patchcore-inspection, restated", loop, ours)
    yield row(what, "one bare matrix product", min(by_numpy, by_torch), ours)


def neighbours() -> Iterator[dict]:
    """Compare exact neighbours with FAISS's flat index, and a product."""
    train, queries = wide_patches()
    n_select = round(RATIO * len(train))
    points = project(train, PROJECTED, seed=SEED)
    bank = train[k_center_greedy(points, n_select, seed=SEED, progress=False)]
    wide = queries.astype(np.float32), bank.astype(np.float32)
    by_faiss, by_numpy, by_torch, ours = in_turns(
        lambda: faiss_flat(*wide, K), *products(*wide), lambda: exact_neighbors(queries, bank, K)
    )
    what = f"{K} neighbours, {len(queries):,} x {len(bank):,} x {DIM}"
    yield row(what, "FAISS IndexFlatL2", by_faiss, ours)
    yield row(what, "one bare matrix product", min(by_numpy, by_torch), ours)


def detector() -> Iterator[dict]:
    """Compare a finished run's detector file with float32, an image; from the input's pixels."""
    settings = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params = read_params(settings, Params)
    ours = Detector.load(ARTIFACTS / "detector.onnx", threads=1)
    banks = [load_array(ARTIFACTS / f"banks/fold_{fold}.npy") for fold in range(params.cv.folds)]
    unit = read_json(ARTIFACTS / "features.json")["unit"]
    plain = float32_detector(params, banks, unit)
    pictures = [ours.pixels(path) for path in images()[1][:PICTURES]]
    its, own = in_turns(
        lambda: [plain(each) for each in pictures], lambda: [ours.score(each) for each in pictures]
    )
    rows = sum(map(len, banks))
    what = f"one image on one core, {params.backbone.name}, {rows:,} rows in the banks"
    yield row(what, "the same in PyTorch's float32", its / PICTURES, own / PICTURES)


def of_children(command: list[str], folder: Path) -> float:
    """Run a command; return the processor time of its processes, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PYTHONPATH": str(folder.resolve()), "PATH": path, "OMP_WAIT_POLICY": "passive"}
    subprocess.run(command, cwd=folder, env=os.environ | own, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def team() -> Iterator[dict]:
    """Compare the team's experiment, notebooks included, with the public protocol."""
    folder = WORK / "team"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    settings = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    for section, values in TEAM_PARAMS.items():
        settings[section] |= values
    write_text(folder / "params.yaml", yaml.safe_dump(settings))
    of_children([sys.executable, "-m", "tools.install_data"], folder)
    repro = [sys.executable, "-m", "dvc", "repro", "--quiet", "--no-run-cache", "evaluate"]
    ours = of_children(repro, folder)
    with TemporaryDirectory() as made:
        parts = Path(made) / "public.json"
        of_children([sys.executable, "-m", "benchmarks.run", "--public", str(parts)], Path())
        seconds = read_json(parts)
    its = sum(seconds[part] for part in ("extraction", "coreset", "scores"))
    once = its - seconds["extraction"] * (FOLDS - 1) / FOLDS
    what = "the team's experiment from images to F1, notebooks included"
    yield row(what, "the protocol with the public implementation", its, ours)
    yield row(what, f"the same, its extraction counted once instead of {FOLDS} times", once, ours)


CASES = {each.__name__: each for each in (networks, coreset, neighbours, detector, team)}


def measure(names: list[str]) -> pd.DataFrame:
    """Measure the cases named, one behind the other."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    where = {"commit": commit, "clock": "processor time", "cpu": cpu_model()}
    rows = []
    with one_thread_per_operation():
        for name in names:
            for found in CASES[name]():
                print(f"{found['its_seconds'] / found['our_seconds']:.2f}: {found}", flush=True)
                rows.append({"case": name} | found | where | {"system": platform.system()})
    return pd.DataFrame(rows)


def merged(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Put new rows in the place of all old ones of the same cases."""
    both = pd.concat([old[~old["case"].isin(new["case"])], new])
    order = both["case"].map(list(CASES).index)
    return both.assign(order=order).sort_values("order", kind="stable").drop(columns="order")


def seconds(value: float) -> str:
    """Write a time with three digits: below a tenth of a second in milliseconds."""
    return f"{value:.3g} s" if value >= 0.1 else f"{1000 * value:.3g} ms"


def shown(table: pd.DataFrame) -> str:
    """Lay the table out as docs/speed.md has it; what stands above is not repeated."""
    ratios = table["its_seconds"] / table["our_seconds"]
    return as_markdown(
        pd.DataFrame(
            {
                "what": table["what"].mask(table["what"].duplicated(), ""),
                "beside": table["beside"],
                "its time": table["its_seconds"].map(seconds),
                "ours": table["our_seconds"].map(seconds),
                "ratio": ratios.map(lambda each: f"{each:.0f}" if each >= 10 else f"{each:.1f}"),
                "commit": table["commit"],
            }
        )
    )


def main() -> None:
    """Measure, then write; the results file is written at the end, whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)}")
    parser.add_argument("--table", action="store_true", help="write the page's table alone")
    parser.add_argument("--public", type=Path, help=argparse.SUPPRESS)  # a process of its own
    given = parser.parse_args()
    if given.public:
        return write_text(given.public, pd.Series(public_protocol(*images())).to_json())
    if wrong := set(given.cases) - CASES.keys():
        parser.error(f"no case {sorted(wrong)[0]}: {', '.join(CASES)}")
    if not given.table:
        new = measure(given.cases or list(CASES))
        write_table(RESULTS, merged(pd.read_csv(RESULTS), new) if RESULTS.exists() else new)
    into_page("benchmarks", shown(pd.read_csv(RESULTS, dtype={"commit": str})))
    return None


if __name__ == "__main__":
    main()

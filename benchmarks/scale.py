"""Measure what a large bank's cost model stands on, and write docs/scale.md from it.

Usage: python -m benchmarks.scale            about a minute and a half on two cores
       python -m benchmarks.scale --page     write the page again from the rates that are there

Needs the extra [cluster]: the selection over shards is timed on two workers of Dask.
"""
# ruff: noqa: E501 - rows of tables

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ad.coreset import k_center_greedy
from ad.determinism import available_cores
from ad.files import read_json, save_array, write_json, write_text
from ad.frontier import BLOCK
from ad.indices import faiss_neighbors
from ad.neighbors import exact_neighbors
from benchmarks.case import million_points
from benchmarks.parts import DEFAULT, SEED, extract, images
from cluster.tasks import Map, task_map
from studies.scale.cost import NETWORK, RATES, SHARD, Cost, Rates, Work, costs, duration
from studies.scale.search import inverted_file, inverted_neighbors, train_lists
from studies.scale.selection import forget, select
from studies.scale.shards import Shards, index_of
from studies.scale.two_rounds import NEAR, select_in_two_rounds
from studies.shared.peak_memory import peak_of_worker

PAGE = Path("docs/scale.md")
SHARDS, PICKS, OVERSAMPLING = 8, 10_000, 1.5
QUERIES = 20_000
CORES = 16  # of a node on the page
FAB = Work(images=1_000_000, patches=784, dim=152, picks=100_000, queries=1_000_000)


def seconds(function, *arguments, **options) -> tuple[float, object]:
    """Time a call once; return its result too."""
    start = time.perf_counter()
    result = function(*arguments, **options)
    return time.perf_counter() - start, result


class Counting:
    """A map that counts its calls."""

    def __init__(self, run: Map) -> None:
        self.run, self.workers, self.calls = run, run.workers, 0

    def __call__(self, function, items, *, stay: bool = False):
        self.calls += 1
        return self.run(function, items, stay=stay)


def shards_of(points: np.ndarray, folder: Path) -> Shards:
    """Write points as shards."""
    names = [f"{number}.npy" for number in range(SHARDS)]
    for name, part in zip(names, np.array_split(points, SHARDS), strict=True):
        save_array(folder / name, part)
    return index_of(folder, names)


def whole_points() -> np.ndarray:
    """Bring a million points to bytes."""
    points = million_points()
    lowest, highest = np.quantile(points[:10_000], [0.001, 0.999])
    return np.rint((points - lowest) * (127 / (highest - lowest))).clip(0, 127).astype(np.uint8)


def in_own_process(name: str) -> dict:
    """Run a function of this module in a process whose workers do not import all of this one."""
    code = f"import json; from benchmarks.scale import {name}; print(json.dumps({name}()))"
    ran = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, stdout=subprocess.PIPE
    )
    return json.loads(ran.stdout.splitlines()[-1])


def selection() -> dict:
    """Time a selection in one process, over shards on two workers, and in two rounds."""
    points = whole_points()
    how = {"seed": SEED, "progress": False}
    one, picks = seconds(k_center_greedy, points, PICKS, **how)
    with tempfile.TemporaryDirectory() as name:
        shards = shards_of(points, Path(name))
        with task_map("local:2") as run:
            list(run(forget, range(2), stay=True))  # workers import PyTorch
            counting = Counting(run)
            sharded, same = seconds(select, counting, shards, PICKS, **how)
            rounds, found = seconds(
                select_in_two_rounds, run, shards, PICKS, seed=SEED, oversampling=OVERSAMPLING
            )
            memory = [peak / 1e9 for peak in run(peak_of_worker, range(2), stay=True)]
            empty, _ = seconds(lambda: [list(run(forget, range(2), stay=True)) for _ in range(50)])
    if not np.array_equal(picks, same):
        raise SystemExit("error: the selection over shards differs from that of one process")
    return {
        "shape": list(points.shape),
        "picks": PICKS,
        "shards": SHARDS,
        "one_process": one,
        "two_workers": sharded,
        "rounds": counting.calls - 1,
        "task_seconds": empty / 50 / 2,
        "worker_peak_gb": max(memory),
        "two_rounds": rounds,
        "certificate": found.figures(),
    }


def search() -> dict:
    """Time exact search and inverted files, k = 5, on all cores."""
    points = whole_points()
    queries, bank = points[:QUERIES], points[-PICKS:]
    exact, near = seconds(exact_neighbors, queries, bank, 5)
    lists = round(4 * PICKS**0.5)
    index = inverted_file(bank, train_lists(bank, lists))
    flat, _ = seconds(faiss_neighbors, queries, bank, 5, index="faiss_flat")
    listed, found = seconds(inverted_neighbors, queries, index, 5, probes=16)
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found.indices, near.indices, strict=True)]
    return {
        "queries": QUERIES,
        "bank": PICKS,
        "dim": points.shape[1],
        "exact": exact,
        "flat": flat,
        "inverted_file": listed,
        "lists": lists,
        "recall": sum(hits) / near.indices.size,
    }


def extraction() -> dict:
    """Time the default network on the embedded images, decoding included."""
    paths = [path for part in images() for path in part]
    with tempfile.TemporaryDirectory() as name:
        extract(paths[:32], Path(name) / "few.npy", DEFAULT, None)
        start, _ = seconds(extract, paths[:32], Path(name) / "few.npy", DEFAULT, None)
        whole, _ = seconds(extract, paths * 3, Path(name) / "all.npy", DEFAULT, None)
    return {"images": 3 * len(paths) - 32, "seconds": whole - start}


def rates_of(measured: dict, cores: int) -> Rates:
    """Turn what was measured on some cores into rates of one."""
    chosen, found, drawn = measured["selection"], measured["search"], measured["extraction"]
    n, dim = chosen["shape"]
    compared = found["queries"] * found["bank"] * found["dim"]
    looked = found["lists"] + 16 * found["bank"] / found["lists"]
    return Rates(
        images=drawn["images"] / drawn["seconds"] / cores,
        selected=n * chosen["picks"] * dim / chosen["one_process"] / cores,
        in_two_rounds=n * chosen["picks"] * dim / chosen["two_rounds"] / cores,
        compared=compared / found["exact"] / cores,
        listed=found["queries"] * looked * found["dim"] / found["inverted_file"] / cores,
        task_seconds=chosen["task_seconds"],
        picks_per_round=chosen["picks"] / chosen["rounds"],
    )


def measure() -> None:
    """Measure everything and write the rates."""
    measured = {"cores": available_cores()}
    measured |= {name: in_own_process(name) for name in ("selection", "search", "extraction")}
    rates = rates_of(measured, measured["cores"])
    write_json(RATES, {"rates": vars(rates), "measured": measured})


def table(work: Work, rates: Rates, nodes: int) -> str:
    """Lay out the steps on some nodes."""
    lines = ["| step | time | memory a process | network | bound by |", "|---|---|---|---|---|"]
    for name, cost in costs(work, rates, nodes=nodes, cores=CORES).items():
        lines.append(_line(name, cost))
    return "\n".join(lines)


def _line(name: str, cost: Cost) -> str:
    network = f"{cost.network_gb:,.1f} GB" if cost.network_gb >= 0.05 else "little"
    cells = (name, duration(cost.seconds), f"{cost.memory_gb:.1f} GB", network, cost.bottleneck)
    return f"| {' | '.join(cells)} |"


def certified(proof: dict) -> str:
    """Say what the certificate stands on."""
    if proof["radius"] <= NEAR * proof["second"]:
        return f"at most {proof['factor']:.2f} (no patch beyond {NEAR} times the second radius)"
    return f"{proof['factor']:.2f} by the measured radius"


def measured_part(rates: Rates, measured: dict) -> str:
    """Write what was measured."""
    chosen, found = measured["selection"], measured["search"]
    proof = chosen["certificate"]
    return f"""# What a million images take

A model on paper: sums and quotients of rates that `python -m benchmarks.scale` measured on
{measured["cores"]} cores of one machine. No cluster of the sizes below was at hand. How to run
one is in the README, "Beyond one machine".

## What was measured

| what | figure |
|---|---|
| extraction with the default network, decoding included | {rates.images:,.0f} images a second and core |
| {chosen["picks"]:,} of {chosen["shape"][0]:,} x {chosen["shape"][1]} patches, one process | {chosen["one_process"]:.1f} s |
| the same over {chosen["shards"]} shards on two workers of Dask, equal pick by pick | {chosen["two_workers"]:.1f} s ({chosen["two_workers"] / chosen["one_process"]:.2f} times), {chosen["rounds"]} rounds, {chosen["worker_peak_gb"]:.2f} GB a worker at its peak |
| the same in two rounds, {OVERSAMPLING} times as many picks in the first | {chosen["two_rounds"]:.1f} s ({chosen["two_workers"] / chosen["two_rounds"]:.1f} times faster); certificate {certified(proof)}, {proof["factor_of_rounds"]:.2f} by both rounds' radii |
| a task of an empty round | {1000 * rates.task_seconds:.0f} ms |
| 5 neighbours, {found["queries"]:,} queries, bank of {found["bank"]:,} x {found["dim"]} | exact {found["exact"]:.2f} s, FAISS flat {found["flat"]:.2f} s, inverted file {found["inverted_file"]:.2f} s (recall {found["recall"]:.3f}) |

The exact selection measures few distances: most patches' bounds say that they cannot be the
farthest. That is why two rounds gain little time here. They gain exchanges: two, where the exact
selection takes {chosen["rounds"]}.
"""


def model_part(rates: Rates) -> str:
    """Write what follows from it, on some nodes."""
    parts = [
        f"""## What follows for {FAB.images:,} images

{FAB.patches} patches of {FAB.dim} dimensions an image ({FAB.images * FAB.patches * FAB.dim / 1e9:,.0f} GB of shards), a bank of
`coreset.size: {FAB.picks}`, and as many images to be scored; nodes of {CORES} cores, one process
a core, {NETWORK / 1e9:.0f} GB/s of network at the coordinator and from the store (assumed). More workers than
shards of {SHARD} images do nothing, and every worker is a task in every round of the exact selection:
past some number of them more make it slower.
"""
    ]
    for nodes in (1, 16, 256):
        parts.append(f"### {nodes} node{'s' * (nodes > 1)}\n\n{table(FAB, rates, nodes)}\n")
    return "\n".join(parts)


def limits_part(measured: dict) -> str:
    """Say how far the model is from what was measured."""
    n, dim = measured["selection"]["shape"]
    whole = FAB.images * FAB.patches * FAB.picks * FAB.dim
    share = n * measured["selection"]["picks"] * dim / whole
    return f"""## How far this is from what was measured

The selection that was timed is {share:.1e} of this one's patches times picks times dimensions; the
rest is extrapolated. Extrapolated, too, are: rates a core where {CORES} share a machine's memory,
rounds with more than two workers (each sends {BLOCK} candidates, so a round picks more; each
task is taken to cost what it did with two), and the share of distances that need no measuring,
which depends on the images. Not in the model: slow or full disks, lost workers (their shards are
measured again against all picks), stragglers, the coordinator's own products of candidates.

A bank at a fixed ratio would grow with the images, and its selection and scoring with their square:
1 % of these patches are {FAB.images * FAB.patches // 100:,}. `coreset.size` holds it.
"""


def page() -> str:
    """Write the page's text from the rates."""
    stored = read_json(RATES)
    rates, measured = Rates(**stored["rates"]), stored["measured"]
    parts = measured_part(rates, measured), model_part(rates), limits_part(measured)
    return "\n".join(parts)


def main() -> None:
    """Measure, unless told otherwise, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page alone")
    if not parser.parse_args().page:
        measure()
    write_text(PAGE, page())
    print(f"{RATES}, {PAGE}")


if __name__ == "__main__":
    main()

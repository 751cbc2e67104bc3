"""What a large bank takes in time, memory and network, from rates that were measured.

A model: sums and quotients of the rates in studies/scale/rates.json, which ``python -m
benchmarks.scale`` measures.  It knows nothing of slow disks, busy networks or stragglers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ad.files import read_json
from ad.frontier import BLOCK
from ad.params import Params
from ad.protocol import Protocol

RATES = Path(__file__).parent / "rates.json"
PROCESS_GB = 0.6  # Python, PyTorch and FAISS
NETWORK = 1e9  # bytes a second between a node and the others: assumed, 10 Gbit
STORE = 1e9  # bytes a second that the coordinator reads from the store: assumed
SHARD = 512  # images
POINT = 40  # bytes beside a patch's own: bounds, keys and their order


@dataclass(frozen=True)
class Rates:
    """What one core does in a second, and what a round costs.

    Parameters
    ----------
    images : float
        Images through the default network, decoding included.
    selected : float
        Patches times picks times dimensions of a selection, most of them never measured.
    in_two_rounds : float
        The same of two rounds, certificate included.
    compared : float
        Queries times bank patches times dimensions of an exact search.
    listed : float
        The same of FAISS in float32.
    task_seconds : float
        What a task of a round takes beside its computing: sent, and its answer waited for.
    picks_per_round : float
    """

    images: float
    selected: float
    in_two_rounds: float
    compared: float
    listed: float
    task_seconds: float
    picks_per_round: float


@dataclass(frozen=True)
class Work:
    """What is to be done: training images, their patches, the bank, and images to be scored."""

    images: int
    patches: int  # of an image
    dim: int
    picks: int
    queries: int


@dataclass(frozen=True)
class Cost:
    """What one step takes, and what bounds it.

    Parameters
    ----------
    seconds : float
    memory_gb : float
        Of one process, each with one core.
    network_gb : float
        Over the coordinator's network, both ways.
    bottleneck : str
    """

    seconds: float
    memory_gb: float
    network_gb: float
    bottleneck: str


def read_rates() -> Rates:
    """Read the measured rates."""
    return Rates(**read_json(RATES)["rates"])


def _cost(held: float, sent: float, **seconds: float) -> Cost:
    slowest = max(seconds, key=seconds.__getitem__)
    words = slowest.replace("_", " ")
    return Cost(sum(seconds.values()), PROCESS_GB + held / 1e9, sent / 1e9, words)


def costs(work: Work, rates: Rates, *, nodes: int, cores: int) -> dict[str, Cost]:
    """Reckon every step on some nodes of so many cores, one process a core, a shard a task."""
    workers = min(nodes * cores, max(1, work.images // SHARD))
    n = work.images * work.patches
    held = n * (work.dim + POINT) / workers
    rounds = work.picks / rates.picks_per_round
    reading = n * work.dim / STORE  # the bank is taken from all shards, whose hashes are compared
    talk = work.picks * work.dim * workers + rounds * workers * BLOCK * work.dim
    bank, queries = work.picks * work.dim, work.queries * work.patches
    lists = 4 * work.picks**0.5
    looked = lists + 16 * work.picks / lists
    share = 1.5 * work.picks  # of round one: `oversampling` of the study's settings
    return {
        "extraction": _cost(
            0.4e9, 0, network_pass=(work.images + work.queries) / rates.images / workers
        ),
        "exact selection": _cost(
            held,
            talk,
            distances=n * work.picks * work.dim / rates.selected / workers,
            rounds=rounds * rates.task_seconds * workers,
            reading=reading,
            network=talk / NETWORK,
        ),
        "two rounds": _cost(
            held,
            3 * share * work.dim + bank * workers,
            distances=n * work.picks * work.dim / rates.in_two_rounds / workers,
            second_round=share * work.picks * work.dim / rates.selected / cores,
            reading=reading,
            network=(3 * share * work.dim + bank * workers) / NETWORK,
        ),
        "exact scoring": _cost(
            bank + 0.2e9,
            0,
            distances=queries * work.picks * work.dim / rates.compared / workers,
        ),
        "inverted file": _cost(
            8 * bank,
            0,
            sorting_the_bank=work.picks * lists * work.dim / rates.listed,
            distances=queries * looked * work.dim / rates.listed / workers,
        ),
    }


def duration(seconds: float) -> str:
    """Say a duration in a unit that suits it."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"


def announce(
    counts: Mapping[str, int], params: Params, workers: int, shape: tuple[int, ...]
) -> str:
    """Say before the work starts what it will take.

    Parameters
    ----------
    counts : mapping of str to int
        Images to select from (``train``), and others, which are scored.
    shape : tuple of int
        Of the pipeline's features: images, height, width, dimensions.
    """
    _, height, width, dim = shape
    grid = height * width
    n = counts["train"] * grid
    picks = Protocol(params.coreset, params.score, params.seed).bank_size(n)
    queries = sum(counts.values()) - counts["train"]
    work = Work(counts["train"], grid, dim, picks, queries)
    found = costs(work, read_rates(), nodes=1, cores=workers)
    steps = ", ".join(f"{name} {duration(cost.seconds)}" for name, cost in found.items())
    disk = sum(counts.values()) * grid * dim / 1e9
    memory = max(cost.memory_gb for cost in found.values())
    network = max(cost.network_gb for cost in found.values())
    return (
        f"scale: {n:,} patches of {dim} dimensions, a bank of {picks:,}, {workers} process(es). "
        f"By rates measured elsewhere (docs/scale.md): {steps}; about {memory:.1f} GB a process, "
        f"{disk:.2f} GB of shards, {network:.3f} GB over the network"
    )

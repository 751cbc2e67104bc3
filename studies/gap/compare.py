"""Say at which stage two recorded runs part first.

Every stage is a dictionary of values, by image id or another name, so that one function compares
them all.  A difference counts as a cause where no stage before it explains it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ad.images import shown
from studies.gap.records import FORMAT, SAMPLED

EQUAL, ROUNDING, DIFFERS, UNKNOWN = "equal", "rounding", "differs", "unknown"
# Relative to an array's standard deviation, or to a score: more than another order of summation
# gives, and less than half precision gives.
ROUNDED = 1e-4
FIRST = 3  # differences that are written out
Answer = tuple[str, str]  # a state, and words


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Summary(_Strict):
    """One image's array."""

    hash: str
    mean: float
    sd: float
    sample: list[float] = Field(min_length=SAMPLED, max_length=SAMPLED)


class Bank(_Strict):
    """A memory bank; ``rows`` are the first rows' hashes."""

    hash: str
    size: int
    rows: list[str]


class Weights(_Strict):
    """A network and its weights' file; random weights have no hash."""

    backbone: str
    source: str
    sha256: str | None


class Record(_Strict):
    """What a record may hold; what a run does not know is left out."""

    format: Literal[FORMAT]
    environment: dict[str, JsonValue] = {}  # system, versions, devices
    parameters: dict[str, JsonValue] = {}
    files: dict[str, str] = {}  # hash of each image file's bytes
    listing: dict[str, list[int]] = {}  # by folder: the system's own order, as sorted positions
    ids: list[str] = []  # images in the order in which the run took them
    pixels: dict[str, Summary] = {}  # decoded: uint8, (height, width, 3), RGB, not resized
    inputs: dict[str, Summary] = {}  # what the network was given
    weights: Weights | None = None
    features: dict[str, Summary] = {}  # (height, width, dim)
    folds: str | None = None  # hash of which images each fold holds out
    banks: dict[str, Bank] = {}
    validation: dict[str, float] = {}  # scores of the held-out normal images
    threshold: float | None = None  # an image with a score above it is flagged
    scores: dict[str, float] = {}  # of the test images
    submission: list[tuple[str, Literal[0, 1]]] = []  # id and flag, row by row as written
    quality: dict[str, float] = {}  # figures that the run reports


def read_record(path: str | Path) -> Record:
    """Read a record.

    Raises
    ------
    FileNotFoundError, ValueError
        One line: the file, the field, and what is wrong.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such record; 'python -m studies.gap record' makes one")
    try:
        # Mail may add a byte-order mark, and names from Windows may have backslashes.
        text = Path(path).read_text(encoding="utf-8-sig").replace("\\\\", "/")
        return Record.model_validate_json(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 ({error}); record the run again") from None
    except ValidationError as error:
        found = error.errors()[0]
    place = ".".join(map(str, found["loc"]))[:100] or "no record"
    raise ValueError(f"{path}: {place}: {found['msg']}; studies/gap/compare.py lists the fields")


# Stages: values by name, empty where a run does not know them


def _settings(record: Record) -> Mapping:
    """Take the settings, without folders and what no result depends on."""
    given = record.parameters.items()
    return {key: own for key, own in given if not key.startswith(("runtime", "data"))}


def _weights(record: Record) -> Mapping:
    own = record.weights
    return {"backbone": own.backbone, "file": own.sha256 or own.source} if own else {}


def _bank_rows(record: Record) -> Mapping:
    rows = {}
    for name, own in record.banks.items():
        rows |= {f"{name} row {n}": each for n, each in enumerate(own.rows, start=1)}
        rows[name] = own.hash
    return rows


def _one(name: str) -> Callable[[Record], Mapping]:
    return lambda record: {} if getattr(record, name) is None else {name: getattr(record, name)}


def _numbered(rows: list) -> Mapping:
    return {f"row {number}": row for number, row in enumerate(rows, start=1)}


def _joined(record: Record) -> Mapping:
    """Tell of each image whether its flag follows from its own score, and not from another's."""
    flags, limit = dict(record.submission), record.threshold
    known = record.scores.keys() & flags.keys() if limit is not None else ()
    return {key: flags[key] == (record.scores[key] > limit) for key in sorted(known)}


# Stage: its values, and the stages whose differences explain its own.
STAGES: dict[str, tuple[Callable[[Record], Mapping], tuple[str, ...]]] = {
    "parameters": (_settings, ()),
    "files": (lambda r: r.files, ()),
    "order": (lambda r: _numbered(r.ids), ("files",)),
    "pixels": (lambda r: r.pixels, ("files",)),
    "inputs": (lambda r: r.inputs, ("parameters", "pixels")),
    "weights": (_weights, ("parameters",)),
    "features": (lambda r: r.features, ("parameters", "order", "pixels", "inputs", "weights")),
    "folds": (_one("folds"), ("parameters", "order")),
    "banks": (_bank_rows, ("parameters", "order", "features", "folds")),
    "validation": (lambda r: r.validation, ("parameters", "features", "banks")),
    "threshold": (_one("threshold"), ("parameters", "validation")),
    "scores": (lambda r: r.scores, ("parameters", "features", "banks")),
    "joined": (_joined, ()),
    "flags": (lambda r: dict(r.submission), ("scores", "threshold", "joined")),
    "rows": (lambda r: _numbered([name for name, _ in r.submission]), ("order",)),
    "quality": (lambda r: r.quality, ("parameters", "flags", "rows")),
}


def _distance(one: object, two: object) -> float:
    """Return how far values are apart: scores relatively, arrays in standard deviations."""
    if one == two:
        return 0.0
    if isinstance(one, Summary) and isinstance(two, Summary):
        values = [np.array([each.mean, *each.sample]) for each in (one, two)]
        spread, far = max(one.sd, two.sd), np.abs(values[0] - values[1]).max()
    elif isinstance(one, float) and isinstance(two, float):
        spread, far = max(abs(one), abs(two)), abs(one - two)
    else:
        return float("inf")
    return float(far / max(spread, np.finfo(float).tiny))


def _size(value: object) -> tuple[float, str]:
    """Give any value a place in an order, near values near to each other."""
    size = value.mean if isinstance(value, Summary) else value
    return (size, "") if isinstance(size, float) else (0.0, repr(size))


def _text(value: object) -> str:
    return f"mean {value.mean:.6g}" if isinstance(value, Summary) else str(value)[:60]


def _pair(key: str, one: Mapping, two: Mapping) -> str:
    return shown(f"{key}: {_text(one.get(key))} and {_text(two.get(key))}")


def compare_values(one: Mapping, two: Mapping) -> Answer:
    """Compare two runs' values by name: a state, and the first that differ."""
    if not (one and two):
        return UNKNOWN, f"{len(one)} and {len(two)} values recorded"
    names = one | two
    odd = [key for key in names if one.get(key) != two.get(key)]
    if not odd:
        return EQUAL, f"{len(names)} values"
    largest = max(_distance(one.get(key), two.get(key)) for key in odd)
    words = f"{len(odd)} of {len(names)}"
    if largest < np.inf:
        words += f" by up to {largest:.2g}"
    if ROUNDED < largest != 1 and len(one) == len(two):  # flags, 0 and 1, say nothing by it
        ranked = zip(*(sorted(each.values(), key=_size) for each in (one, two)), strict=True)
        if all(_distance(*pair) <= ROUNDED for pair in ranked):
            words += ", the same values elsewhere (joined by position?)"
    first = "; ".join(_pair(key, one, two) for key in odd[:FIRST])
    return (ROUNDING if largest <= ROUNDED else DIFFERS), f"{words}: {first}"


def compare_records(a: Record, b: Record) -> dict[str, Answer]:
    """Compare stage by stage, as far as both records go: state and words by stage."""
    return {stage: compare_values(values(a), values(b)) for stage, (values, _) in STAGES.items()}


def causes(found: Mapping[str, Answer]) -> list[str]:
    """List the stages that differ, and not because of a stage that differs before them.

    Where nothing does, the first stage that shows rounding.
    """

    def explained(stage: str) -> bool:
        return any(found[s][0] == DIFFERS or explained(s) for s in STAGES[stage][1])

    own = [stage for stage in found if found[stage][0] == DIFFERS and not explained(stage)]
    return own or [stage for stage in found if found[stage][0] == ROUNDING][:1]


def page(a: Record, b: Record) -> str:
    """Lay out the comparison as one page of plain text, the verdict first."""
    found = compare_records(a, b)
    first, *others = causes(found) or [None]
    verdict = "The runs are equal in all that both records hold."
    if first:
        slight = " (rounding only)" * (found[first][0] == ROUNDING)
        verdict = f"The runs part first at: {first}{slight}."
        verdict += f" Not explained by that: {', '.join(others)}." * bool(others)
    keys = a.environment | b.environment
    odd = [key for key in keys if a.environment.get(key) != b.environment.get(key)]
    moved = [key for key in a.listing if b.listing.get(key, a.listing[key]) != a.listing[key]]
    lines = [f"{stage:<11}{state:<10}{words}" for stage, (state, words) in found.items()]
    lines += ["(joined: each flag is what its own image's score and the threshold say)", ""]
    lines += ["Environments:", *(f"  {_pair(key, a.environment, b.environment)}" for key in odd)]
    lines += ["  equal"] * (not odd)
    orders = shown(", ".join(moved)) or "none known"
    return "\n".join([verdict, "", *lines, f"Folders listed in other orders: {orders}", ""])

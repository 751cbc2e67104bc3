"""Record a run in one small file of hashes and numbers, and say where two runs part first.

    python -m studies.gap record run.json        describe the finished run of this folder
    python -m studies.gap compare a.json b.json  one page; exit code 1 where something parts

A record holds no images and no paths of the machine, and is small enough for mail.  `FIELDS` is its
schema.  To record another implementation's run, copy this file, which needs Python and NumPy alone,
beside its code and write what there is; what a run does not know is left out::

    from records import *
    write_record("run.json", {
        "parameters": {"backbone": "wide_resnet50_2", "image_size": 256},
        "ids": ids,                          # in the order in which the run took the images
        "files": {i: file_hash(path) for i, path in zip(ids, paths)},
        "inputs": {i: summary(x) for i, x in zip(ids, inputs)},      # what the network was given
        "features": {i: summary(x) for i, x in zip(ids, features)},
        "banks": {"bank": bank(array)},      # (n_bank, dim), in the order of selection
        "threshold": 0.5,
        "scores": dict(zip(test_ids, scores)),
        "submission": list(zip(test_ids, flags)),    # the rows as they were written
    })
"""

import argparse
import ast
import csv
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

FORMAT = "anomaly-detection run record 3"
ROWS_KEPT = 100  # first rows of a bank whose hashes are written out, to tell where banks part
SAMPLED = 16  # values of an array that are written out, to tell rounding from gross changes

# The schema: a field's shape, and what it means.  "hash": lower hexadecimal digits; "plain": text,
# a number, a list of them or null; [x]: a list of x; (x, y): a pair; {"*": x}: x by image id or
# another name; {"a": x}: these keys and no others.
SUMMARY = {"hash": "hash", "mean": "number", "sd": "number", "sample": ["number"]}
FIELDS: dict[str, tuple[object, str]] = {
    "environment": ({"*": "plain"}, "system, versions, devices"),
    "parameters": ({"*": "plain"}, "settings of the run"),
    "files": ({"*": "hash"}, "each image file's bytes"),
    "listing": ({"*": ["number"]}, "by folder: the system's own order, as sorted positions"),
    "ids": (["text"], "images in the order in which the run took them"),
    "pixels": ({"*": SUMMARY}, "each image decoded: uint8, (height, width, 3), RGB, not resized"),
    "inputs": ({"*": SUMMARY}, "what the network was given of each image"),
    "weights": ({"backbone": "text", "source": "text", "sha256": "plain"}, "null: random weights"),
    "features": ({"*": SUMMARY}, "each image's patch features, (height, width, dim)"),
    "folds": ("hash", "which images each fold holds out"),
    "banks": ({"*": {"hash": "hash", "size": "number", "rows": ["hash"]}}, "memory banks, by name"),
    "validation": ({"*": "number"}, "scores of the held-out normal images"),
    "threshold": ("number", "an image with a score above it is flagged"),
    "scores": ({"*": "number"}, "scores of the test images"),
    "submission": ([("text", "flag")], "id and flag (0 or 1), row by row as written"),
    "sample_order": (["text"], "ids in the order of the sample submission"),
    "quality": ({"*": "number"}, "figures that the run reports"),
}
Record = Mapping[str, object]

# Describing a run


def array_hash(array: np.ndarray) -> str:
    """Hash an array's dtype, shape and values; 64 bits tell a few hundred images apart."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def file_hash(path: str | Path) -> str:
    """Hash a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def listing(folder: str | Path) -> list[int]:
    """Return the system's own order of a folder, as positions in the sorted order."""
    names = [entry.name for entry in os.scandir(folder)]  # any order: it is the question
    rank = {name: position for position, name in enumerate(sorted(names))}
    return [rank[name] for name in names]


def summary(array: np.ndarray) -> dict[str, object]:
    """Hash one image's array; keep its mean, deviation and some values at evenly spread places."""
    array = np.asarray(array)
    where = np.linspace(0, array.size - 1, SAMPLED).astype(int)
    return {
        "hash": array_hash(array),
        "mean": float(array.mean(dtype=np.float64)),
        "sd": float(array.std(dtype=np.float64)),
        "sample": [float(value) for value in array.reshape(-1)[where]],
    }


def bank(array: np.ndarray) -> dict[str, object]:
    """Describe a memory bank, shape (n_bank, dim), rows in the order of selection."""
    rows = [array_hash(row)[:8] for row in array[:ROWS_KEPT]]
    return {"hash": array_hash(array), "size": len(array), "rows": rows}


def write_record(path: str | Path, record: Record) -> None:
    """Write a record; NumPy's numbers become plain ones, what does not fit `FIELDS` is refused."""
    text = json.dumps({"format": FORMAT, **record}, indent=1, default=lambda value: value.tolist())
    check_record(json.loads(text))
    Path(path).write_text(text + "\n", encoding="utf-8", newline="\n")


def record_run(root: str | Path = ".", *, data: str | Path = "data") -> dict[str, object]:
    """Describe the finished run of this repository in a folder.

    Parameters
    ----------
    root : path
        The folder that holds ``artifacts/``.
    data : path
        The images' folder, relative to ``root`` or absolute; without it the record lacks what only
        images tell.

    Raises
    ------
    FileNotFoundError
        When an artifact is missing; the message names it.
    """
    artifacts = Path(root) / "artifacts"
    try:
        manifest = _table(artifacts / "manifest.csv")
        about = json.loads((artifacts / "features.json").read_text("utf-8"))
        threshold = json.loads((artifacts / "threshold.json").read_text("utf-8"))
        tests = _table(artifacts / "test_scores.csv")
        validation = _table(artifacts / "validation_scores.csv")
        folds = file_hash(artifacts / "folds.csv")
        parts = [np.load(artifacts / "features" / f"{split}.npy", mmap_mode="r")
                 for split in ("train", "test")]  # fmt: skip
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename}: no finished run here; run 'dvc repro'"
        ) from None
    ids = [row["id"] for split in ("train", "test") for row in manifest if row["split"] == split]
    banks = sorted((artifacts / "banks").glob("fold_*[0-9].npy"))
    record = {
        "parameters": _notebook_parameters(artifacts / "notebooks"),
        "ids": ids,
        "files": {row["id"]: row["sha256"][:16] for row in manifest},
        "weights": {key: about["weights"][key] for key in FIELDS["weights"][0]},
        "features": dict(zip(ids, (summary(x) for part in parts for x in part), strict=True)),
        "folds": folds,
        "banks": {path.stem: bank(np.load(path, mmap_mode="r")) for path in banks},
        "validation": {row["id"]: float(row["score"]) for row in validation},
        "threshold": threshold["threshold"],
        "scores": {row["id"]: float(row["score"]) for row in tests},
        "submission": _submission(artifacts, tests),
    }
    environment, quality = artifacts / "environment.json", Path(root) / "metrics" / "evaluate.json"
    if environment.is_file():
        record["environment"] = json.loads(environment.read_text("utf-8"))
    if quality.is_file():
        found = json.loads(quality.read_text("utf-8"))
        record["quality"] = {
            key: value for key, value in found.items() if isinstance(value, int | float)
        }
    images = Path(root) / data
    return record | (_of_images(images, manifest) if images.is_dir() else {})


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def _submission(artifacts: Path, tests: Sequence[Mapping[str, str]]) -> list[tuple[str, int]]:
    """Read the rows as they were written; without that file, the flags of the test images."""
    path = artifacts / "submission.csv"
    if path.is_file():
        return [(row["id"], int(row["label"])) for row in _table(path)]
    return [(row["id"], int(row["flagged"])) for row in tests]


def _notebook_parameters(folder: Path) -> dict[str, object]:
    """Collect the sections that the executed notebooks were given, as ``section.key``."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("0*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if "injected-parameters" in cell["metadata"].get("tags", []):
                for line in ast.parse("".join(cell["source"])).body:
                    if isinstance(line, ast.Assign):
                        name, value = line.targets[0].id, ast.literal_eval(line.value)
                        items = value.items() if isinstance(value, dict) else [("", value)]
                        found |= {f"{name}.{key}".rstrip("."): each for key, each in items}
    return found


def _of_images(images: Path, manifest: Sequence[Mapping[str, str]]) -> dict[str, object]:
    from ad.images import read_rgb  # here, so that a copy of this file needs NumPy alone

    folders = sorted({row["path"].rpartition("/")[0] for row in manifest})
    return {
        "listing": {folder: listing(images / folder) for folder in folders},
        "pixels": {
            row["id"]: summary(np.asarray(read_rgb(images / row["path"]))) for row in manifest
        },
    }


# Reading a record


def check_record(record: object) -> None:
    """Refuse what does not fit `FIELDS`, naming the place.

    Raises
    ------
    ValueError
    """
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"no record of format {FORMAT!r}; record the run again")
    for name, value in record.items():
        if name != "format":
            if name not in FIELDS:
                raise ValueError(f"{name!r} is no field; there are {', '.join(FIELDS)}")
            _check(value, FIELDS[name][0], name)


def _check(value: object, shape: object, place: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "text": isinstance(value, str),
        "hash": isinstance(value, str) and re.fullmatch("[0-9a-f]{8,64}", value),
        "number": number and abs(value) < float("inf"),
        "flag": value in (0, 1) and number,
        "plain": not isinstance(value, dict),
    }
    if isinstance(shape, str):
        if not fits[shape]:
            raise ValueError(f"{place}={str(value)[:60]!r} is no {shape}; see FIELDS in records.py")
        return
    kind = dict if isinstance(shape, dict) else list
    own = isinstance(shape, dict) and "*" not in shape
    if not isinstance(value, kind) or (own and value.keys() != shape.keys()):
        wanted = f"an object of {', '.join(shape)}" if own else f"a {kind.__name__}"
        raise ValueError(f"{place}={str(value)[:60]!r} is not {wanted}; see FIELDS in records.py")
    if isinstance(shape, tuple) and len(value) != len(shape):
        raise ValueError(f"{place} has {len(value)} entries, not {len(shape)}")
    if isinstance(shape, dict):
        for key, each in value.items():
            _check(each, shape[key] if own else shape["*"], f"{place}.{key}")
    else:
        for position, each in enumerate(value):
            _check(each, shape[position if isinstance(shape, tuple) else 0], f"{place}.{position}")


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    doubled = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if doubled:
        raise ValueError(f"key {doubled[0]!r} stands twice")
    return dict(pairs)


def read_record(path: str | Path) -> dict[str, object]:
    """Read a record; refuse anything else in one line that names the file and the field.

    Raises
    ------
    FileNotFoundError, ValueError
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such record; 'python -m studies.gap record' makes one")
    try:
        # Mail may add a byte-order mark, and names from Windows may have backslashes.
        text = path.read_text(encoding="utf-8-sig").replace("\\\\", "/")
        record = json.loads(text, object_pairs_hook=_unique)
        check_record(record)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())[:200]}") from None
    return record


# Comparing two records

EQUAL, ROUNDING, DIFFERS, UNKNOWN = "equal", "rounding", "differs", "unknown"
# Relative to an array's standard deviation, or to a score: more than another order of summation
# gives, and less than half precision gives.
ROUNDED = 1e-4
Answer = tuple[str, str]  # a state, and words


def _few(names: Sequence[object]) -> str:
    return ", ".join(map(str, names[:3])) + (f" and {len(names) - 3} more" * (len(names) > 3))


def _permuted(one: Mapping, two: Mapping) -> bool:
    """Tell whether the same values stand at other keys."""
    values = [Counter(map(repr, each.values())) for each in (one, two)]
    return one != two and values[0] == values[1]


def _by_key(one: Mapping, two: Mapping, what: str, far: Callable | None = None) -> Answer:
    """Compare values by image id or name.

    Parameters
    ----------
    far : callable, optional
        Relative distance of two values; up to `ROUNDED` it is rounding.
    """
    only, moved = sorted(one.keys() ^ two.keys()), [k for k in one if k in two and one[k] != two[k]]
    if _permuted(one, two):
        return DIFFERS, f"the same {what} stand under other ids: {_few(only or moved)}"
    if only:
        return DIFFERS, f"{what} of {len(only)} ids stand in one run only: {_few(only)}"
    if not moved:
        return EQUAL, f"{len(one)} {what} are equal"
    words = f"{len(moved)} of {len(one)} {what} differ: {_few(moved)}"
    if far is None:
        return DIFFERS, words
    largest = max(far(one[key], two[key]) for key in moved)
    words = f"{len(moved)} of {len(one)} {what} differ, by up to {largest:.2g} relative"
    return (ROUNDING if largest <= ROUNDED else DIFFERS), words


def _relative(one: float, two: float) -> float:
    return abs(one - two) / max(abs(one), abs(two), np.finfo(float).tiny)


def _summaries(one: Mapping, two: Mapping) -> float:
    """Distance of two arrays' recorded values in standard deviations; inf where shapes differ."""
    if len(one["sample"]) != len(two["sample"]):
        return float("inf")
    values = [np.array([each["mean"], *each["sample"]]) for each in (one, two)]
    spread = max(one["sd"], two["sd"], np.finfo(float).tiny)
    return float(np.abs(values[0] - values[1]).max() / spread)


def _parameters(a: Record, b: Record) -> Answer:
    """Compare settings; folders, and what no result depends on, are left out."""
    one, two = (
        {k: repr(v) for k, v in each["parameters"].items() if not k.startswith(("runtime", "data"))}
        for each in (a, b)
    )
    odd = sorted(key for key, _ in one.items() ^ two.items())
    words = [f"{key}: {one.get(key)} and {two.get(key)}" for key in dict.fromkeys(odd)]
    return (DIFFERS, "; ".join(words[:5])) if odd else (EQUAL, f"{len(one)} parameters agree")


def _order(a: Record, b: Record) -> Answer:
    """Compare the order in which images were taken, and whether they kept their names."""
    one, two = a["ids"], b["ids"]
    if sorted(one) != sorted(two):
        return DIFFERS, f"the runs list other images: {_few(sorted(set(one) ^ set(two)))}"
    if one != two:
        moved = sum(x != y for x, y in zip(one, two, strict=True))
        return DIFFERS, f"the same images in another order: {moved} of {len(one)} rows moved"
    if moved := _renamed(a.get("features", {}), b.get("features", {})):
        return DIFFERS, f"the same features stand under other ids: {_few(moved)}"
    lists = a.get("listing", {}), b.get("listing", {})
    odd = [key for key in lists[0] if key in lists[1] and lists[0][key] != lists[1][key]]
    note = f"; the systems list {_few(odd)} otherwise, which changed nothing" * bool(odd)
    return EQUAL, f"{len(one)} images in one order{note}"


def _renamed(one: Mapping, two: Mapping) -> list[str]:
    """List images whose features stand under another id; rounding may have changed them, too.

    Each image is matched with the nearest of the other run, itself where that is as near.  Where
    the matches are one to one, and not all of an image with itself, names have moved.
    """
    names = list(one)
    values = [[[each[n]["mean"], *each[n]["sample"]] for n in names if n in each]
              for each in (one, two)]  # fmt: skip
    if one.keys() != two.keys() or len({len(row) for side in values for row in side}) != 1:
        return []
    first, second = map(np.array, values)
    far = np.abs(first[:, None] - second).mean(axis=2)
    nearest, itself = far.argmin(axis=1), np.arange(len(names))
    nearest = np.where(far.diagonal() == far.min(axis=1), itself, nearest)
    one_to_one = len(set(nearest.tolist())) == len(names)
    return [names[row] for row in np.flatnonzero(nearest != itself)] if one_to_one else []


def _weights(a: Record, b: Record) -> Answer:
    one, two = a["weights"], b["weights"]
    odd = [key for key in ("backbone", "sha256") if one[key] != two[key]]
    if odd or (one["sha256"] is None and one["source"] != two["source"]):
        return DIFFERS, "; ".join(f"{k} {one[k]} and {two[k]}" for k in odd or ["source"])
    return EQUAL, f"{one['backbone']}, {str(one['sha256'])[:16]}"


def _banks(a: Record, b: Record) -> Answer:
    if "folds" in a and "folds" in b and a["folds"] != b["folds"]:
        return DIFFERS, "the folds hold out other images"
    one, two = a["banks"], b["banks"]
    state, words = _by_key(one, two, "banks")
    for name in one if state == DIFFERS and one.keys() == two.keys() else ():
        rows = list(zip(one[name]["rows"], two[name]["rows"], strict=False))
        parted = next((n for n, (x, y) in enumerate(rows, start=1) if x != y), None)
        if one[name] != two[name]:
            where = f"row {parted}" if parted else f"some row behind the first {len(rows)}"
            return state, f"{words}; {name} from {where} on"
    return state, words


def _threshold(a: Record, b: Record) -> Answer:
    one, two = a["threshold"], b["threshold"]
    if one == two:
        return EQUAL, f"{one:.6g}"
    far = _relative(one, two)
    words = f"{one:.6g} and {two:.6g} ({far:.2g} relative)"
    return (ROUNDING if far <= ROUNDED else DIFFERS), words


def _flags(a: Record, b: Record) -> Answer:
    for which, record in (("first", a), ("second", b)):
        ids = [name for name, _ in record["submission"]]
        if doubled := [name for name, count in Counter(ids).items() if count > 1]:
            return DIFFERS, f"in the {which} run ids stand twice: {_few(doubled)}"
    one, two = dict(a["submission"]), dict(b["submission"])
    if one.keys() == two.keys() and _permuted(one, two):
        moved = sum(one[key] != two[key] for key in one)
        return DIFFERS, f"{sum(one.values())} flags in each run, {moved} of them under other ids"
    state, words = _by_key(one, two, "flags")
    return state, f"{words}; {sum(one.values())} and {sum(two.values())} images are flagged"


def _rows(a: Record, b: Record) -> Answer:
    """Look for answers that were joined with ids by position, and for rows in another order."""
    if "scores" in a and "scores" in b and _permuted(a["scores"], b["scores"]):
        return DIFFERS, "the same scores stand under other ids: joined by position, not by id"
    for which, record in (("first", a), ("second", b)):
        flags, limit = dict(record["submission"]), record.get("threshold")
        scores = record.get("scores", {}) if limit is not None else {}
        wrong = [k for k, s in scores.items() if k in flags and flags[k] != (s > limit)]
        if wrong:
            words = f"in the {which} run {len(wrong)} flags contradict their own scores"
            return DIFFERS, f"{words} ({_few(wrong)}): joined by position, not by id"
    one, two = ([name for name, _ in record["submission"]] for record in (a, b))
    if sorted(one) == sorted(two) and one != two:
        moved = sum(x != y for x, y in zip(one, two, strict=True))
        sample = a.get("sample_order", sorted(one))
        follows = "first" if one == sample else "second" if two == sample else "neither"
        return DIFFERS, (
            f"{moved} of {len(one)} rows stand in another order, in the sample's order in "
            f"{follows}; a grader that joins by position sees other answers"
        )
    return EQUAL, "flags follow their scores, rows stand in one order"


# Stage: its comparison, the fields that both records need, the stages whose differences explain it.
Stage = tuple[Callable[[Record, Record], Answer], tuple[str, ...], tuple[str, ...]]


def _keyed(field: str, what: str, far: Callable | None = None) -> Callable:
    return lambda a, b: _by_key(a[field], b[field], what, far)


STAGES: dict[str, Stage] = {
    "parameters": (_parameters, ("parameters",), ()),
    "files": (_keyed("files", "image files"), ("files",), ()),
    "order": (_order, ("ids",), ("files",)),
    "pixels": (_keyed("pixels", "decoded images", _summaries), ("pixels",), ("files",)),
    "inputs": (_keyed("inputs", "inputs", _summaries), ("inputs",), ("parameters", "pixels")),
    "weights": (_weights, ("weights",), ("parameters",)),
    "features": (
        _keyed("features", "features", _summaries),
        ("features",),
        ("parameters", "order", "pixels", "inputs", "weights"),
    ),
    "banks": (_banks, ("banks",), ("parameters", "order", "features")),
    "validation": (
        _keyed("validation", "held-out scores", _relative),
        ("validation",),
        ("parameters", "features", "banks"),
    ),
    "threshold": (_threshold, ("threshold",), ("parameters", "validation")),
    "scores": (
        _keyed("scores", "scores", _relative),
        ("scores",),
        ("parameters", "features", "banks"),
    ),
    "flags": (_flags, ("submission",), ("scores", "threshold")),
    "rows": (_rows, ("submission",), ("order",)),
    "quality": (_keyed("quality", "figures"), ("quality",), ("parameters", "flags", "rows")),
}


def compare_records(a: Record, b: Record) -> dict[str, Answer]:
    """Compare stage by stage, as far as both records go: state and words by stage."""
    found = {}
    for stage, (check, needed, _) in STAGES.items():
        lacking = [
            f"{which} record: no {field}"
            for field in needed
            for which, record in (("first", a), ("second", b))
            if field not in record
        ]
        found[stage] = (UNKNOWN, "; ".join(lacking)) if lacking else check(a, b)
    return found


def causes(found: Mapping[str, Answer]) -> list[str]:
    """List the stages that differ, and not because of a stage that differs before them.

    Where nothing does, the first stage that shows rounding.
    """

    def explained(stage: str) -> bool:
        return any(found[s][0] == DIFFERS or explained(s) for s in STAGES[stage][2])

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
    one, two = a.get("environment", {}), b.get("environment", {})
    odd = [key for key in sorted(one.keys() | two.keys()) if one.get(key) != two.get(key)]
    return "\n".join([
        verdict, "",
        *(f"{stage:<11}{state:<10}{words}" for stage, (state, words) in found.items()), "",
        "Environments:", *(f"  {k}: {one.get(k)} and {two.get(k)}" for k in odd),
        *["  equal"] * (not odd), "",
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.gap", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="describe the finished run in one file")
    record.add_argument("out", type=Path)
    record.add_argument("--root", type=Path, default=Path(), help="folder that holds artifacts/")
    record.add_argument("--data", type=Path, default=Path("data"), help="folder of the images")
    compare = commands.add_parser("compare", help="say where two runs part first")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "record":
            write_record(options.out, record_run(options.root, data=options.data))
            print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")
            return 0
        a, b = read_record(options.a), read_record(options.b)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    encoding = sys.stdout.encoding or "utf-8"  # a Windows console may lack an id's letters
    print(page(a, b).encode(encoding, "replace").decode(encoding), end="")
    return int(bool(causes(compare_records(a, b))))

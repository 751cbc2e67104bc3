"""Record a run in one small file, and say where two runs' records part first.

Usage:
    python -m studies.gap.records record OUT.json [--root FOLDER] [--data FOLDER]
    python -m studies.gap.records compare A.json B.json [--figure OUT.png]

``record`` reads a finished run's artifacts/ below the root, and the images' folder.  ``compare``
prints one page; its exit code is 0 where nothing parts and 1 where something does.  A record holds
hashes and numbers, no images, and is small enough for mail.
"""

import argparse
import ast
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ad.dataset import read_manifest, submission_order
from ad.determinism import sha256_array, sha256_file
from ad.files import atomic_path, load_array, read_csv, read_json, write_json
from ad.images import network_input, read_rgb

FORMAT = "anomaly-detection run record 1"
HASH_DIGITS = 16  # 64 bits tell a few hundred images apart; whole hashes would fill the file
PICKS_KEPT = 200  # first picks of a coreset that are written out
PROBE_SIZE = 224  # side of the decoding probe, pixels; the same for every run
FEATURES_SAMPLED = 16  # values of an image's features that are written out
# Relative to the features' standard deviation: what a change of summation order gives at most,
# and what half precision gives.
ROUNDING, REDUCED = 1e-4, 3e-2

STAGES = (
    "parameters",
    "data bytes",
    "listing order",
    "decoding",
    "weights",
    "features",
    "coreset",
    "threshold",
    "scores",
    "submission",
    "row order",
)


NUMBER = (int, float)
# What a record must hold for a comparison, and of which type.
LAYOUT: dict[str, type | tuple[type, ...]] = {
    "environment": dict,
    "parameters": dict,
    "listing": dict,
    "manifest.ids": list,
    "manifest.data": dict,
    "decoding": dict,
    "weights.backbone": str,
    "features.shape": list,
    "features.images": dict,
    "folds": str,
    "coresets": dict,
    "threshold.rule": str,
    "threshold.fold_thresholds": list,
    "threshold.threshold": NUMBER,
    "scores": dict,
    "submission": list,
    "sample_order": list,
    "quality": dict,
}
# What a finished run leaves, beside the features.
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


def _short(digest: str) -> str:
    return digest[:HASH_DIGITS]


def raw_listing(folder: Path) -> list[int]:
    """Return the operating system's own order of a folder, as positions in the sorted order."""
    names = [entry.name for entry in os.scandir(folder)]  # raw order: it is the question
    rank = {name: position for position, name in enumerate(sorted(names))}
    return [rank[name] for name in names]


def _image_folders(root: Path, paths: Sequence[str]) -> list[str]:
    return sorted({path.rpartition("/")[0] for path in paths})


def _decoding(path: Path) -> dict[str, object]:
    """Describe the decoded pixels, and the same image brought to a fixed size."""
    pixels = np.asarray(read_rgb(path))
    probe = network_input(path, size=PROBE_SIZE, resize=None)
    return {
        "pixels": _short(sha256_array(pixels)),
        "channel_means": [float(mean) for mean in pixels.mean(axis=(0, 1), dtype=np.float64)],
        "resized": _short(sha256_array(probe)),
        "resized_sd": float(probe.std(dtype=np.float64)),
    }


def _feature_summary(features: np.ndarray) -> dict[str, object]:
    """Hash one image's features and keep a few numbers that tell rounding from gross changes."""
    flat = np.ascontiguousarray(features).reshape(-1)
    where = np.linspace(0, flat.size - 1, FEATURES_SAMPLED).astype(int)
    return {
        "hash": _short(sha256_array(np.asarray(flat))),
        "mean": float(flat.mean(dtype=np.float64)),
        "sd": float(flat.std(dtype=np.float64)),
        "max": float(flat.max()),
        "sample": [float(value) for value in flat[where]],
    }


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


def record_run(root: str | Path = ".", *, data: str | Path = "data") -> dict[str, object]:
    """Describe a finished run.

    Parameters
    ----------
    root : path
        The folder that holds ``artifacts/``.
    data : path
        The images' folder, relative to ``root`` or absolute.

    Returns
    -------
    dict
        Plain values only; `ad.files.write_json` writes them.

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
    features = load_array(artifacts / "features.npy")
    if len(features) != len(manifest):
        raise ValueError(
            f"{artifacts}: {len(features)} rows in features.npy, {len(manifest)} in manifest.csv; "
            f"run 'dvc repro'"
        )
    listing, decoding = {}, {}
    if images.is_dir():
        for folder in _image_folders(images, [r.path for r in manifest]):
            listing[folder] = raw_listing(images / folder)
        decoding = {r.id: _decoding(images / r.path) for r in manifest}
    coresets = {}
    for path in sorted((artifacts / "coreset").glob("*.npy")):
        picks = load_array(path)
        coresets[path.stem] = {
            "hash": _short(sha256_array(picks)),
            "size": len(picks),
            "first": picks[:PICKS_KEPT].tolist(),
        }
    scores = read_csv(artifacts / "test_scores.csv")
    quality_file = root / "metrics" / "evaluate.json"
    quality = read_json(quality_file) if quality_file.is_file() else {}
    environment_file = artifacts / "environment.json"
    threshold = read_json(artifacts / "threshold.json")
    return {
        "format": FORMAT,
        "environment": read_json(environment_file) if environment_file.is_file() else {},
        "parameters": notebook_parameters(artifacts / "rendered"),
        "listing": listing,
        "manifest": {
            "ids": [r.id for r in manifest],
            "data": {r.id: _short(r.sha256) for r in manifest},
        },
        "decoding": decoding,
        "weights": read_json(artifacts / "inputs.json")["weights"],
        "features": {
            "shape": list(features.shape[1:]),
            "images": {
                r.id: _feature_summary(own) for r, own in zip(manifest, features, strict=True)
            },
        },
        "folds": _short(sha256_file(artifacts / "coreset" / "folds.csv")),
        "coresets": coresets,
        "threshold": {key: threshold[key] for key in ("rule", "fold_thresholds", "threshold")},
        "validation": {
            row["id"]: float(row["score"]) for row in read_csv(artifacts / "validation_scores.csv")
        },
        "scores": {row["id"]: float(row["score"]) for row in scores},
        "submission": [
            [row["id"], int(row["label"])] for row in read_csv(artifacts / "submission.csv")
        ],
        "sample_order": submission_order(images, manifest) if images.is_dir() else [],
        "quality": {key: value for key, value in quality.items() if isinstance(value, int | float)},
    }


def read_record(path: str | Path) -> dict:
    """Read a record; refuse other files in one line."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such record; 'python -m studies.gap.records record' writes one"
        )
    try:
        # Mail may add a byte-order mark, and names from Windows may have backslashes.
        text = path.read_text(encoding="utf-8-sig").replace("\\\\", "/")
        record = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error}); record the run again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{path}: no record of format {FORMAT!r}; record the run again")
    for name, kind in LAYOUT.items():
        value: object = record
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise ValueError(f"{path}: {name} is missing or damaged; record the run again")
    rows = record["submission"]
    if not (
        all(isinstance(score, NUMBER) for score in record["scores"].values())
        and all(isinstance(row, list) and len(row) == 2 for row in rows)
    ):
        raise ValueError(f"{path}: scores or submission are damaged; record the run again")
    return record


@dataclass(frozen=True)
class Finding:
    """What one stage shows.

    Parameters
    ----------
    stage : str
    state : {"equal", "rounding", "differs", "no consequence", "unknown"}
        ``rounding``: differs by no more than another summation order gives.  ``no consequence``:
        differs, but nothing that depends on it does.  ``unknown``: a record lacks it.
    words : str
    """

    stage: str
    state: str
    words: str


@dataclass(frozen=True)
class Comparison:
    """Every stage's finding, in order, and the first stage where the runs part, if any."""

    findings: list[Finding]
    first: Finding | None
    changed_flags: int
    environment: list[str]


def _changed(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    return [key for key in a if key in b and a[key] != b[key]]


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:3])) + (f" and {len(names) - 3} more" * (len(names) > 3))


def _is_permuted(a: Mapping[str, object], b: Mapping[str, object]) -> bool:
    """Tell whether the same values stand at other keys."""
    return a != b and a.keys() == b.keys() and sorted(a.values()) == sorted(b.values())


def _parameters(a: dict, b: dict) -> Finding:
    one, two = a["parameters"], b["parameters"]
    if not one or not two:
        return Finding("parameters", "unknown", "no rendered notebooks in a record")
    odd = [
        f"{key}: {one.get(key)!r} and {two.get(key)!r}"
        for key in sorted(one.keys() | two.keys())
        if one.get(key) != two.get(key) and not key.startswith(("runtime_", "data_path"))
    ]
    if odd:
        return Finding("parameters", "differs", "; ".join(odd[:5]))
    return Finding("parameters", "equal", f"{len(one)} parameters agree")


def _data(a: dict, b: dict) -> Finding:
    one, two = a["manifest"]["data"], b["manifest"]["data"]
    only = sorted(one.keys() ^ two.keys())
    if only:
        return Finding(
            "data bytes", "differs", f"{len(only)} images stand in one run only: {_few(only)}"
        )
    changed = _changed(one, two)
    if _is_permuted(one, two):
        return Finding(
            "data bytes",
            "differs",
            f"the same files stand under other ids: {len(changed)} of {len(one)}, {_few(changed)}",
        )
    if changed:
        return Finding(
            "data bytes",
            "differs",
            f"the bytes of {len(changed)} of {len(one)} images differ: {_few(changed)}",
        )
    return Finding("data bytes", "equal", f"{len(one)} images have the same bytes")


def _listing(a: dict, b: dict) -> Finding:
    ids = a["manifest"]["ids"], b["manifest"]["ids"]
    if sorted(ids[0]) == sorted(ids[1]) and ids[0] != ids[1]:
        moved = sum(x != y for x, y in zip(*ids, strict=True))
        return Finding(
            "listing order",
            "differs",
            f"the runs list the same images in another order: {moved} of {len(ids[0])} rows moved",
        )
    by_id = [
        {name: own["hash"] for name, own in record["features"]["images"].items()}
        for record in (a, b)
    ]
    if _is_permuted(*by_id):
        moved = _changed(*by_id)
        return Finding(
            "listing order",
            "differs",
            f"the same features stand under other ids ({len(moved)} of {len(by_id[0])}, "
            f"{_few(moved)}): images were listed in one order and named in another",
        )
    common = sorted(a["listing"].keys() & b["listing"].keys())
    if not common:
        return Finding("listing order", "unknown", "a record was made without the images")
    changed = [folder for folder in common if a["listing"][folder] != b["listing"][folder]]
    if changed:
        return Finding(
            "listing order",
            "no consequence",
            f"the systems list {len(changed)} of {len(common)} folders in another order "
            f"({_few(changed)}), but both runs use one order of images",
        )
    return Finding("listing order", "equal", f"{len(common)} folders are listed alike")


def _decoded(a: dict, b: dict) -> Finding:
    one, two = a["decoding"], b["decoding"]
    common = [name for name in one if name in two]
    if not common:
        return Finding("decoding", "unknown", "a record was made without the images")
    pixels = [name for name in common if one[name]["pixels"] != two[name]["pixels"]]
    if pixels:
        means = np.array([[r[n]["channel_means"] for n in pixels] for r in (one, two)])
        words = f"decoded pixels of {len(pixels)} of {len(common)} images differ ({_few(pixels)})"
        swapped = np.allclose(means[0], means[1, :, ::-1], rtol=0, atol=1e-9)
        if swapped and not np.allclose(means[0], means[1], rtol=0, atol=1e-9):
            words += "; red and blue are exchanged"
        else:
            words += f"; channel means by up to {np.abs(means[0] - means[1]).max():.3g} of 255"
        return Finding("decoding", "differs", words)
    resized = [name for name in common if one[name]["resized"] != two[name]["resized"]]
    if resized:
        return Finding(
            "decoding",
            "differs",
            f"pixels decode alike, but resizing gives other values in {len(resized)} of "
            f"{len(common)} images ({_few(resized)})",
        )
    return Finding("decoding", "equal", f"{len(common)} images decode and resize alike")


def _weights(a: dict, b: dict) -> Finding:
    one, two = a["weights"], b["weights"]
    odd = [key for key in ("backbone", "sha256", "source") if one.get(key) != two.get(key)]
    if odd == ["source"]:
        return Finding(
            "weights", "equal", f"one file under two names: {one['source']}, {two['source']}"
        )
    if odd:
        words = "; ".join(f"{k} {str(one.get(k))[:24]} and {str(two.get(k))[:24]}" for k in odd)
        return Finding("weights", "differs", words)
    return Finding("weights", "equal", f"{one['backbone']}, {str(one['sha256'])[:16]}")


def _features(a: dict, b: dict) -> Finding:
    if a["features"]["shape"] != b["features"]["shape"]:
        return Finding(
            "features",
            "differs",
            f"shape {a['features']['shape']} and {b['features']['shape']} an image",
        )
    one, two = a["features"]["images"], b["features"]["images"]
    common = [name for name in one if name in two]
    changed = [name for name in common if one[name]["hash"] != two[name]["hash"]]
    if not changed:
        return Finding(
            "features", "equal", f"features of {len(common)} images are equal bit by bit"
        )
    largest = 0.0
    for name in changed:
        own, other = one[name], two[name]
        unit = max(own["sd"], other["sd"], np.finfo(float).tiny)
        numbers = [np.array([r["mean"], r["sd"], r["max"], *r["sample"]]) for r in (own, other)]
        largest = max(largest, float(np.abs(numbers[0] - numbers[1]).max()) / unit)
    size = (
        "rounding" if largest <= ROUNDING else "half precision" if largest <= REDUCED else "gross"
    )
    words = (
        f"{len(changed)} of {len(common)} images differ, by up to {largest:.2g} standard "
        f"deviations in the recorded values ({size})"
    )
    return Finding("features", "rounding" if size == "rounding" else "differs", words)


def _coreset(a: dict, b: dict) -> Finding:
    if a["folds"] != b["folds"]:
        return Finding("coreset", "differs", "the folds hold out other images")
    one, two = a["coresets"], b["coresets"]
    if one.keys() != two.keys():
        return Finding("coreset", "differs", f"coresets {_few(sorted(one.keys() ^ two.keys()))}")
    changed = [name for name in one if one[name]["hash"] != two[name]["hash"]]
    if not changed:
        return Finding("coreset", "equal", f"{len(one)} coresets are equal")
    shown = []
    for name in changed[:3]:
        own, other = one[name], two[name]
        pairs = zip(own["first"], other["first"], strict=False)
        agreed = next((n for n, (x, y) in enumerate(pairs) if x != y), None)
        where = f"from pick {agreed + 1}" if agreed is not None else f"after pick {PICKS_KEPT}"
        if own["size"] != other["size"]:
            where += f", sizes {own['size']} and {other['size']}"
        shown.append(f"{name} {where}")
    return Finding("coreset", "differs", f"{len(changed)} of {len(one)} differ: {'; '.join(shown)}")


def _relative(one: float, two: float) -> float:
    return abs(one - two) / max(abs(one), abs(two), np.finfo(float).tiny)


def _threshold(a: dict, b: dict) -> Finding:
    one, two = a["threshold"], b["threshold"]
    if one == two:
        return Finding("threshold", "equal", f"{one['threshold']:.6g}")
    gap = _relative(one["threshold"], two["threshold"])
    words = f"{one['threshold']:.6g} and {two['threshold']:.6g} ({gap:.2g} relative)"
    if one["rule"] != two["rule"]:
        words += f", rules {one['rule']} and {two['rule']}"
    folds = one["fold_thresholds"], two["fold_thresholds"]
    close = len(folds[0]) == len(folds[1]) and all(
        _relative(x, y) <= ROUNDING for x, y in zip(*folds, strict=True)
    )
    same = close and gap <= ROUNDING and one["rule"] == two["rule"]
    return Finding("threshold", "rounding" if same else "differs", words)


def _scores(a: dict, b: dict) -> Finding:
    one, two = a["scores"], b["scores"]
    changed = _changed(one, two)
    if not changed:
        return Finding("scores", "equal", f"{len(one)} scores are equal")
    if _is_permuted(one, two):
        return Finding("scores", "equal", "the same values; see row order")
    largest = max(_relative(one[name], two[name]) for name in changed)
    state = "rounding" if largest <= ROUNDING else "differs"
    words = f"{len(changed)} of {len(one)} scores differ, by up to {largest:.2g} relative"
    return Finding("scores", state, words)


def _flags(record: dict) -> dict[str, int]:
    return {name: flag for name, flag in record["submission"]}


def _submission(a: dict, b: dict) -> Finding:
    one, two = _flags(a), _flags(b)
    changed = _changed(one, two)
    if one.keys() != two.keys():
        return Finding("submission", "differs", f"ids: {_few(sorted(one.keys() ^ two.keys()))}")
    if changed and sum(one.values()) != sum(two.values()):
        return Finding(
            "submission",
            "differs",
            f"{len(changed)} of {len(one)} flags differ; {sum(one.values())} and "
            f"{sum(two.values())} images are flagged",
        )
    if changed:
        return Finding("submission", "equal", f"{sum(one.values())} flags each; see row order")
    return Finding("submission", "equal", f"{len(one)} flags are equal")


def _row_order(a: dict, b: dict) -> Finding:
    if _is_permuted(a["scores"], b["scores"]):
        moved = _changed(a["scores"], b["scores"])
        return Finding(
            "row order",
            "differs",
            f"the same scores stand under other ids ({len(moved)} of {len(a['scores'])}): "
            f"rows were joined by position, not by id",
        )
    one, two = _flags(a), _flags(b)
    inconsistent = []
    for name, record, flags in (("first", a, one), ("second", b, two)):
        limit = record["threshold"]["threshold"]
        wrong = [i for i, s in record["scores"].items() if i in flags and flags[i] != (s > limit)]
        if wrong:
            inconsistent.append(
                f"in the {name} run {len(wrong)} flags contradict their own scores ({_few(wrong)})"
            )
    changed = _changed(one, two)
    if inconsistent:
        return Finding(
            "row order",
            "differs",
            f"{len(changed)} flags stand under other ids; {'; '.join(inconsistent)}: "
            f"rows were joined by position, not by id",
        )
    orders = [[name for name, _ in record["submission"]] for record in (a, b)]
    if sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1]:
        moved = sum(x != y for x, y in zip(*orders, strict=True))
        follows = [
            bool(r["sample_order"]) and order == r["sample_order"]
            for r, order in zip((a, b), orders, strict=True)
        ]
        return Finding(
            "row order",
            "differs",
            f"ids and flags belong together, but {moved} of {len(one)} rows stand in another "
            f"order (in the sample's order: {follows[0]} and {follows[1]}); a grader that joins "
            f"by position would see other answers",
        )
    if changed:
        return Finding("row order", "equal", "rows are in one order; flags follow their scores")
    return Finding("row order", "equal", "ids, flags and their order are equal")


CHECKS: tuple[Callable[[dict, dict], Finding], ...] = (
    _parameters,
    _data,
    _listing,
    _decoded,
    _weights,
    _features,
    _coreset,
    _threshold,
    _scores,
    _submission,
    _row_order,
)


def compare_records(a: dict, b: dict) -> Comparison:
    """Compare stage by stage; the first that differs is where the runs part.

    Where rounding comes first and a real difference later, the real one is named: rounding alone
    is what any two CPUs show.
    """
    findings = [check(a, b) for check in CHECKS]
    real = [finding for finding in findings if finding.state == "differs"]
    slight = [finding for finding in findings if finding.state == "rounding"]
    first = next(iter(real or slight), None)
    one, two = a["environment"], b["environment"]
    environment = [
        f"{key}: {one.get(key)} and {two.get(key)}"
        for key in sorted(one.keys() | two.keys())
        if one.get(key) != two.get(key)
    ]
    flags = _flags(a), _flags(b)
    return Comparison(findings, first, len(_changed(*flags)), environment)


def verdict(result: Comparison) -> str:
    """State in one sentence where the runs part."""
    if result.first is None:
        words = "The runs are identical in everything recorded"
        slight = [f for f in result.findings if f.state == "no consequence"]
        return f"{words}, but for the {slight[0].stage}: no consequence." if slight else f"{words}."
    if result.first.state == "rounding":
        return (
            f"The runs agree to rounding; it first shows in: {result.first.stage}. "
            f"{result.changed_flags} flags differ."
        )
    earlier = [f.stage for f in result.findings if f.state == "rounding"]
    before = STAGES.index(result.first.stage)
    earlier = [stage for stage in earlier if STAGES.index(stage) < before]
    note = f" (after rounding in: {', '.join(earlier)})" if earlier else ""
    return (
        f"The runs part first at: {result.first.stage}{note}. {result.changed_flags} flags differ."
    )


def page(result: Comparison, a: dict, b: dict) -> str:
    """Lay out one page of plain text."""
    lines = [verdict(result), ""]
    width = max(map(len, STAGES))
    lines += [f"{f.stage:<{width}}  {f.state:<14}  {f.words}" for f in result.findings]
    figures = [
        f"{key}: {a['quality'][key]:.4g} and {b['quality'][key]:.4g}"
        for key in ("f1", "image_auroc", "n_flagged")
        if key in a["quality"] and key in b["quality"]
    ]
    lines += ["", "Quality as each run reports it: " + ("; ".join(figures) or "unknown")]
    lines += ["", "Environments:"]
    lines += [f"  {line}" for line in result.environment] or ["  equal"]
    return "\n".join(lines) + "\n"


def save_comparison(path: str | Path, result: Comparison, a: dict, b: dict) -> None:
    """Write the figure of a comparison as PNG."""
    import matplotlib.pyplot as plt  # only this function draws

    from studies.gap.plots import scores_against_scores, stage_states

    fig, (left, right) = plt.subplots(
        1, 2, figsize=(10, 4.5), layout="constrained", width_ratios=(1, 2)
    )
    stage_states(left, result)
    scores_against_scores(right, a, b)
    with atomic_path(path) as partial:
        fig.savefig(partial, format="png", dpi=110, metadata={"Software": None})
    plt.close(fig)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.gap.records", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="describe the finished run in one file")
    record.add_argument("out", type=Path)
    record.add_argument("--root", type=Path, default=Path(), help="folder that holds artifacts/")
    record.add_argument("--data", type=Path, default=Path("data"), help="folder of the images")
    compare = commands.add_parser("compare", help="say where two runs part first")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    compare.add_argument("--figure", type=Path, help="draw the comparison, too")
    options = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):  # a Windows console may lack an id's letters
        sys.stdout.reconfigure(errors="replace")
    try:
        if options.command == "record":
            write_json(options.out, record_run(options.root, data=options.data))
            print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")
            return 0
        a, b = read_record(options.a), read_record(options.b)
        result = compare_records(a, b)
        sys.stdout.write(page(result, a, b))
        if options.figure:
            save_comparison(options.figure, result, a, b)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(result.first is not None)


if __name__ == "__main__":
    sys.exit(main())

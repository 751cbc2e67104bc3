"""A stage's inputs stay as they are while it runs, and until DVC has read them.

DVC hashes them after the command: it would record an edit for the results from before it, and its
run cache would give those back wherever the edited inputs are asked for.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from ad.files import write_text
from tools.parameters import read_stage
from validation.sections import flatten

STAGE = "DVC_STAGE"  # DVC names the stage to its command
WRITTEN = ("artifacts", "metrics", "reports")
LAST = Path(".dvc/tmp/last_stage.json")  # what the last stage ran with, until that is looked at
MINUTE = 60 * 10**9  # nanoseconds; a record from later is of another run, or of another branch


def _signature(path: Path) -> object:
    """Tell versions of a file or folder apart without reading it."""
    if path.is_dir():
        return [(str(p), _signature(p)) for p in sorted(path.iterdir())]
    with suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    return None


def inputs_state(address: str) -> dict[str, object]:
    """Describe the stage's parameters and dependencies as they are now, by name."""
    try:
        entry, declared = read_stage(address)
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return {"params.yaml or dvc.yaml": None}  # half saved, or without the key
    return {
        **declared,
        **{dep: _signature(Path(dep)) for dep in entry["deps"]},
    }


def _as_recorded(state: dict[str, object]) -> dict[str, object]:
    """Give what DVC will record of parameters and of the files that people edit: values, MD5."""
    found = {}
    for name, value in state.items():
        if ": " in name:
            found[name] = value
        elif isinstance(value, tuple) and Path(name).parts[0] not in WRITTEN:
            content = Path(name).read_bytes()
            found[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return found


@contextmanager
def unchanged_inputs() -> Iterator[None]:
    """Fail a stage whose parameters or dependencies are edited while it runs."""
    address = os.environ.get(STAGE, "")
    if not address:
        yield
        return
    refuse_late_edit(address)
    before = inputs_state(address)
    recorded = _as_recorded(before)
    yield
    after = inputs_state(address)
    changed = [key for key in before | after if before.get(key, 0) != after.get(key, 0)]
    if changed:
        raise SystemExit(
            f"error: {', '.join(changed[:3])} changed while {address} ran, so its results belong "
            f"to neither version and are not recorded; run it again"
        )
    write_text(LAST, json.dumps({"stage": address, "inputs": recorded}))


def refuse_late_edit(address: str = "") -> None:
    """Take the last stage's record back if DVC recorded other inputs than the stage ran with.

    Parameters and files are compared, not folders.

    Parameters
    ----------
    address : str
        The stage that starts; where it is the last one, it just runs again.

    Raises
    ------
    SystemExit
        With what was edited; the stage runs again at the next try.
    """
    try:
        last = json.loads(LAST.read_text(encoding="utf-8"))
        ended = LAST.stat().st_mtime_ns
        pipeline, _, name = last["stage"].rpartition(":")
        lock = Path(pipeline or "dvc.yaml").with_suffix(".lock")
        of_this_run = ended <= lock.stat().st_mtime_ns <= ended + MINUTE
        record = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"].get(name, {})
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return  # no stage has ended, or none was recorded
    found = {dep["path"]: dep.get("md5") for dep in record.get("deps", [])}
    for file, values in record.get("params", {}).items():
        found |= {f"{file}: {key}": value for key, value in flatten(values).items()}
    ran = last["inputs"]
    late = [key for key in ran if of_this_run and key in found and found[key] != ran[key]]
    if late:
        _forget(lock, name, record["cmd"], ended)
    LAST.unlink(missing_ok=True)
    if late and last["stage"] != address:
        raise SystemExit(
            f"error: {', '.join(late[:3])} changed as {last['stage']} ended, so its results belong "
            f"to neither version and are not recorded; run it again"
        )


def _forget(lock: Path, name: str, command: str | list[str], since: int) -> None:
    """Take a stage, and its command's runs since a moment, out of DVC's records."""
    from dvc.repo import Repo  # takes a second, and is hardly ever needed
    from dvc.utils.serialize import modify_yaml

    with modify_yaml(lock) as records:
        records.get("stages", {}).pop(name, None)
    with Repo() as repo:
        runs = Path(repo.stage_cache.cache_dir)
    for run in runs.glob("*/*/*"):  # any order: each one is looked at alone
        text = run.read_text(encoding="utf-8") if run.stat().st_mtime_ns >= since else ""
        if text and yaml.safe_load(text)["cmd"] == command:
            run.unlink()
    remove_empty_runs(runs)


def remove_empty_runs(runs: Path) -> None:
    """Remove the folders of runs that hold none: DVC stops at one, and a kill may leave it."""
    for folder in runs.glob("*/*"):  # any order: each one is looked at alone
        with suppress(OSError):  # it holds something
            folder.rmdir()

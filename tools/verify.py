"""Run the study again from nothing and compare with the committed results.

Usage: python -m tools.verify

The re-run happens in build/verify, a clone of the last commit; the working tree stays as it is.
Everything must be equal, byte for byte, on any machine: the arithmetic is in whole numbers. With
``backbone.arithmetic: float32`` that is promised on the machine of the commit only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tools.parameters import read_params

CLONE = Path("build/verify")


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a command; stop with its message if it fails."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    finished = subprocess.run(
        command, cwd=cwd, env=environment, check=False, text=True, stdout=subprocess.PIPE
    )
    if finished.returncode:
        raise SystemExit(f"error: '{' '.join(command)}' failed with {finished.returncode}")
    return finished.stdout


def clone(target: Path) -> None:
    """Clone the last commit and give it this repository's cache, so that inputs need no network."""
    if target.exists():
        shutil.rmtree(target)
    run("git", "clone", "--quiet", "--no-hardlinks", ".", str(target))
    cache = Path(".dvc/cache").resolve()
    if cache.is_dir():
        run(sys.executable, "-m", "dvc", "cache", "dir", "--local", str(cache), cwd=target)
    command = (sys.executable, "-m", "dvc", "pull", "--quiet", "--remote", "store")
    run(*command, "data.dvc", "data_locked.dvc", cwd=target)


def output_hashes(lock: Path) -> dict[str, str]:
    """Map each output in a dvc.lock to its hash."""
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def input_state(lock: Path) -> dict[str, object]:
    """Map each parameter, and each dependency that no stage makes, to what a dvc.lock has of it."""
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"].values()
    made = output_hashes(lock)
    found = {
        dep["path"]: dep.get("md5")
        for stage in stages
        for dep in stage.get("deps", [])
        if dep["path"] not in made
    }
    for stage in stages:
        for file, values in stage.get("params", {}).items():
            found |= {f"{file}: {key}": value for key, value in values.items()}
    return found


def differing(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """List the keys whose values differ."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def main() -> None:
    """Clone, run, compare, explain."""
    edited = run("git", "status", "--porcelain", "--untracked-files=no").splitlines()
    if edited:
        print(f"Not part of this, as not committed: {', '.join(line[3:] for line in edited)}")
    clone(CLONE)
    print("Running every stage again in build/verify ...", flush=True)
    run(sys.executable, "-m", "dvc", "repro", "--force", cwd=CLONE)
    committed_lock = CLONE / "dvc.lock.committed"
    committed_lock.write_text(run("git", "show", "HEAD:dvc.lock"), encoding="utf-8")
    inputs = differing(input_state(committed_lock), input_state(CLONE / "dvc.lock"))
    if inputs:
        raise SystemExit(
            f"FAILED: dvc.lock was committed with other inputs than these: {', '.join(inputs)}; "
            f"run 'make repro' and commit dvc.lock and the pages with them"
        )
    changed = differing(output_hashes(committed_lock), output_hashes(CLONE / "dvc.lock"))
    if not changed:
        print("Identical: every output has the bytes of the committed dvc.lock.")
        return
    arithmetic = read_params(CLONE / "params.yaml").backbone.arithmetic
    raise SystemExit(
        f"FAILED: {len(changed)} outputs differ from the committed dvc.lock: {', '.join(changed)}. "
        f"The first of them in the order of 'dvc dag' is where they part; backbone.arithmetic is "
        f"{arithmetic}"
    )


if __name__ == "__main__":
    main()

"""Run the study again from nothing and compare with the committed results.

Usage: python -m tools.verify

The re-run happens in build/verify, a clone of the last commit; the working tree stays as it is.
On the same machine and versions everything must be equal, byte for byte. On another CPU, system
or version the scores may differ by rounding: then they are held to a stated tolerance, and what
differs in the environment is printed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from ad.files import read_csv, read_json

CLONE = Path("build/verify")
# Across CPUs float32 sums in another order. A coreset pick may flip at a near tie, which moves
# single scores by up to a few per cent and F1 by an image or two.
SCORE_TOLERANCE = 0.05  # relative, of the sorted test scores
METRIC_TOLERANCE = 0.03  # absolute, of every quality figure


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


def differing(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """List the keys whose values differ."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def numbers(metrics: dict, prefix: str = "") -> dict[str, float]:
    """Flatten a metrics file to its numbers."""
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, dict):
            flat |= numbers(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = float(value)
    return flat


def beyond_tolerance(committed: Path, again: Path) -> list[str]:
    """Compare metrics and sorted scores within the stated tolerances."""
    problems = []
    before, after = (numbers(read_json(p / "metrics/evaluate.json")) for p in (committed, again))
    counts = ("n_flagged", "images", "found", "positive", "negative")
    for key in differing(before, after):
        if key not in before or key not in after:
            problems.append(f"{key} stands in one of the two only")
        elif (
            not key.endswith((*counts, "threshold"))
            and abs(before[key] - after[key]) > METRIC_TOLERANCE
        ):
            problems.append(f"{key}: {before[key]:.4f} committed, {after[key]:.4f} now")
    scores = [
        {row["id"]: float(row["score"]) for row in read_csv(p / "metrics/scores.csv")}
        for p in (committed, again)
    ]
    if scores[0].keys() != scores[1].keys():
        problems.append("metrics/scores.csv: other image ids")
    else:
        far = [
            (abs(scores[1][name] / value - 1), name)
            for name, value in scores[0].items()
            if abs(scores[1][name] - value) > SCORE_TOLERANCE * abs(value)
        ]
        if far:
            worst, name = max(far)
            problems.append(
                f"{len(far)} scores differ by over {SCORE_TOLERANCE:.0%}, {name} by {worst:.1%}"
            )
    return problems


def main() -> None:
    """Clone, run, compare, explain."""
    clone(CLONE)
    print("Running every stage again in build/verify ...", flush=True)
    run(sys.executable, "-m", "dvc", "repro", "--force", cwd=CLONE)
    committed_lock = CLONE / "dvc.lock.committed"
    committed_lock.write_text(run("git", "show", "HEAD:dvc.lock"), encoding="utf-8")
    committed = CLONE / "committed"
    for name in ("metrics/evaluate.json", "metrics/scores.csv", "reports/environment.json"):
        target = committed / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(run("git", "show", f"HEAD:{name}"), encoding="utf-8")
    changed = differing(output_hashes(committed_lock), output_hashes(CLONE / "dvc.lock"))
    if not changed:
        print("Identical: every output has the bytes of the committed dvc.lock.")
        return
    print(f"{len(changed)} outputs differ from the committed dvc.lock: {', '.join(changed)}")
    before, after = (read_json(p / "reports/environment.json") for p in (committed, CLONE))
    causes = differing(before, after)
    for key in causes:
        print(f"  environment: {key} was {before.get(key)!r}, is {after.get(key)!r}")
    if not causes:
        raise SystemExit(
            "FAILED: the environment is the committed one, so equal bytes were promised. Compare "
            "build/verify with your own run; the first output above in the order of 'dvc dag' is "
            "where they part."
        )
    problems = beyond_tolerance(committed, CLONE)
    if problems:
        raise SystemExit("FAILED beyond the tolerance across machines:\n  " + "\n  ".join(problems))
    print(
        f"Within tolerance: every quality figure within {METRIC_TOLERANCE} and every score within "
        f"{SCORE_TOLERANCE:.0%} of the committed ones, in another environment."
    )


if __name__ == "__main__":
    main()

"""Print the result of a run, and what changed against the committed one.

Usage: python -m tools.result
"""

import csv
import io
import json
import subprocess
from pathlib import Path


def committed(path: str) -> str:
    """Return a file as the last commit has it; empty where there is none."""
    command = ["git", "show", f"HEAD:{path}"]
    found = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    return found.stdout if found.returncode == 0 else ""


def decisions(text: str) -> dict[str, str]:
    """Map image ids to decisions."""
    return {row["id"]: row["decision"] for row in csv.DictReader(io.StringIO(text))}


def main() -> None:
    """Print a line a figure, beside the committed one where it differs."""
    now = json.loads(Path("metrics/evaluate.json").read_text(encoding="utf-8"))
    flags = decisions(Path("metrics/scores.csv").read_text(encoding="utf-8"))
    kept = decisions(committed("metrics/scores.csv"))
    same = flags.keys() == kept.keys()  # else the figures are of other images
    before = json.loads(committed("metrics/evaluate.json") or "{}") if same else {}
    lines = []
    for key, name in (("f1", "F1"), ("image_auroc", "image AUROC")):
        if key in now:
            old = f", committed: {before[key]:.3f}" if before.get(key, now[key]) != now[key] else ""
            lines.append(
                f"{name} {now[key]:.3f} (95 % {now[f'{key}_low']:.3f} to "
                f"{now[f'{key}_high']:.3f}{old})"
            )
    old = before.get("threshold", now["threshold"])
    words = f", committed: {old:,.6g}" if old != now["threshold"] else ""
    lines.append(f"threshold {now['threshold']:,.6g}{words}")
    lines.append(f"{now['n_flagged']} of {len(flags)} test images flagged")
    if same:
        turned = sum(flags[name] != kept[name] for name in flags)
        lines.append(f"{turned} changed sides against the committed run")
    print("; ".join(lines), flush=True)


if __name__ == "__main__":
    main()

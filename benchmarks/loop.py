"""What an edit of params.yaml costs, in processor time, beside the import of timm.

Usage: python -m benchmarks.loop          about five minutes; any load
       python -m benchmarks.loop --table  docs/speed.md from benchmarks/loop.csv alone

Works on the last commit, in a clone in build/loop: your tree and your artifacts stay as they are.
Times are user and system of all processes, as wall times depend on who else is there.  The unit T
is ``python -c "import timm"`` before and after each row.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pandas as pd
import yaml

from ad.files import write_text
from ad.tables import write_table
from benchmarks import as_markdown, into_page

RESULTS, CLONE = Path("benchmarks/loop.csv"), Path("build/loop")
UNIT = [sys.executable, "-c", "import timm"]
REPRO = [sys.executable, "-m", "dvc", "repro"]
RESULT = [sys.executable, "-m", "tools.result"]  # `make repro` ends with it
WHOLE, NOTHING = "the whole run, from empty `artifacts/`", "nothing changed"
BACK = "back to the values before"
# Edits: section, key, value and the most that they may cost, in T.
EDITS = [
    ("score", "num_neighbors", 3, 5),
    ("cv", "aggregate", "mean", 5),
    ("cv", "threshold", "quantile:0.95", 5),
    ("coreset", "ratio", 0.1, 12),
]
BARS = {WHOLE: 16, NOTHING: 0.8, BACK: 1.5}


def run(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a command in a clone; return its processor time in seconds, and what it said."""
    # The clone's own modules come first; what an installed `ad` would say does not count.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(folder.resolve()), "PATH": path}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, done.stdout


def repro(what: str, bar: float | None, folder: Path) -> dict[str, object]:
    """Measure one `make repro` between two units."""
    first, _ = run(UNIT, folder)
    seconds, said = run(REPRO, folder)
    ending, _ = run(RESULT, folder)
    second, _ = run(UNIT, folder)
    unit = mean([first, second])
    row = {"what": what, "seconds": seconds + ending, "unit_seconds": unit}
    row |= {"units": row["seconds"] / unit, "bar": bar}
    row["stages"] = " ".join(re.findall(r"^Running stage '(\w+)'", said, re.MULTILINE))
    print(
        f"{row['units']:.2f} T (at most {bar}): {what}: {row['stages'] or 'no stage'}", flush=True
    )
    return row


def changed(text: str, section: str, key: str, value: object) -> tuple[str, object]:
    """Return params.yaml with one value changed, and the value before."""
    params = yaml.safe_load(text)
    old, params[section][key] = params[section][key], value
    return yaml.safe_dump(params), old


def measure(folder: Path) -> pd.DataFrame:
    """Measure every row; an edit begins and ends at the committed values."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    run([sys.executable, "-m", "tools.install_data"], folder)
    run(UNIT, folder)  # once uncounted: files come into memory
    rows = [repro(what, BARS[what], folder) for what in (WHOLE, NOTHING)]
    settings = folder / "params.yaml"
    original = settings.read_text(encoding="utf-8")
    for section, key, value, bar in EDITS:
        text, old = changed(original, section, key, value)
        write_text(settings, text)
        rows.append(repro(f"`{section}.{key}`: {old} -> {value}", bar, folder))
        write_text(settings, original)
        if (section, key, value, bar) == EDITS[-1]:
            rows.append(repro(BACK, BARS[BACK], folder))
        else:
            run(REPRO, folder)
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame) -> str:
    """Lay the table out as docs/speed.md has it."""
    stages = table["stages"].fillna("").replace("", "none").str.replace(" ", ", ")
    return as_markdown(
        pd.DataFrame(
            {
                "what": table["what"],
                "processor time / T": table["units"].map("{:.2f}".format),
                "at most": table["bar"].map("{:g}".format),
                "seconds": table["seconds"].map("{:.1f}".format),
                "T in seconds": table["unit_seconds"].map("{:.1f}".format),
                "stages that ran": stages,
            }
        )
    )


def main() -> None:
    """Measure, then write; the results file is written at the end, whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--table", action="store_true", help="write the page's table alone")
    if not parser.parse_args().table:
        write_table(RESULTS, measure(CLONE))
    table = pd.read_csv(RESULTS)
    into_page("loop", shown(table))
    above = table[table["units"] > table["bar"]]
    if len(above):
        raise SystemExit(f"error: above the bar: {'; '.join(above['what'])}")


if __name__ == "__main__":
    main()

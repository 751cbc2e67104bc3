"""Run the studies on the locked drawings, on which nothing was chosen, and show them beside.

Usage: python -m tools.locked [STUDY ...]        takes about half an hour on two cores

The runs happen in build/locked, a clone of the last commit whose images are the locked ones. Pages
go to reports/locked/, and their findings, which the studies' own pages repeat, to
reports/locked/findings.json.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from ad.files import read_json, write_json, write_text
from tools.notebook_page import notebook_body, story
from tools.page import LOCKED, REPORTS, page, words
from tools.verify import clone

CLONE = Path("build/locked")
LEFT_OUT = "gap"  # asks nothing that other drawings could answer


def repro(*targets: str) -> None:
    """Run stages in the clone, or stop."""
    command = [Path(sys.executable).absolute(), "-m", "tools.repro", *targets]
    if subprocess.run(command, cwd=CLONE, check=False).returncode:
        raise SystemExit(f"error: {' '.join(targets) or 'the pipeline'} failed in {CLONE}")


def show(names: list[str]) -> None:
    """Write the pages of the clone's executed notebooks, and what they found beside the others'."""
    data = read_json(Path("artifacts/inputs.json"))["data"]["sha256"]  # that they stand beside
    before = read_json(LOCKED) if LOCKED.is_file() else {}
    findings = before["findings"] if before.get("beside") == data else {}
    for name in names:
        notebook = CLONE / REPORTS / "studies" / f"{name}.ipynb"
        title = f"{words(name)}, on the locked set"
        note = (
            "<blockquote><strong>The locked set:</strong> drawings of another seed, on which "
            f'nothing was chosen. <a href="../studies/{name}.html">The study itself</a>'
            "</blockquote>"
        )
        body = note + notebook_body(notebook, command="make locked")
        write_text(LOCKED.parent / f"{name}.html", page(title, body, current=title, up="../"))
        findings[name] = story(notebook)["finding"]
    write_json(LOCKED, {"beside": data, "findings": dict(sorted(findings.items()))})


def main(studies: list[str]) -> None:
    """Run and show."""
    clone(CLONE)
    params = yaml.safe_load((CLONE / "params.yaml").read_text(encoding="utf-8"))
    params["data"] = {"path": "data_locked", "locked": None}
    write_text(CLONE / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    if Path("weights").is_dir():
        shutil.copytree("weights", CLONE / "weights", dirs_exist_ok=True)
    for path in (CLONE / REPORTS / "studies").iterdir():  # any order: all go
        path.unlink()
    repro()
    everyone = sorted(path.parent.name for path in Path("studies").glob("*/dvc.yaml"))
    for study in studies or [name for name in everyone if name != LEFT_OUT]:
        repro(f"studies/{study}/dvc.yaml")
        made = sorted(path.stem for path in (CLONE / REPORTS / "studies").glob("[0-9]*.ipynb"))
        show(made)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Put what people read into reports/: the executed notebooks and a page of each.

Usage: python -m tools.build_report                       the pipeline's pages
       python -m tools.build_report NOTEBOOK.ipynb ...    a page beside each executed notebook

Everything is self-contained: the pages need no network and no scripts.
"""

import sys
from pathlib import Path

from ad.files import atomic_path, read_json, write_text
from tools.front_page import locked_note
from tools.notebook_page import notebook_body
from tools.page import LOCKED, REPORTS, STAGES, command_of, page, words
from tools.stage import stage_command

RENDERED, ARTIFACTS = Path("artifacts/rendered"), Path("artifacts")


def copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with atomic_path(target) as partial:
        partial.write_bytes(source.read_bytes())


def locked_finding(name: str) -> str:
    """Say what the same study found on the locked set; empty where it has not run there."""
    found = read_json(LOCKED).get(name) if LOCKED.is_file() else None
    if not found:
        return ""
    return (
        f'<div class="lead"><p><strong>On the locked set, on which nothing was chosen:</strong></p>'
        f'{found}<p><a href="../locked/{name}.html">The whole page</a></p></div>'
    )


def study_page(notebook: Path) -> None:
    """Write the page of an executed notebook beside it; it stands one folder below the index."""
    name = notebook.stem
    body = notebook_body(notebook, beside=locked_finding(name), command=command_of(name))
    made = page(words(name), body, current=name, up="../")
    write_text(notebook.with_suffix(".html"), made)


def main(notebooks: list[str]) -> None:
    """Write every page, then the files beside them."""
    for notebook in notebooks:
        study_page(Path(notebook))
    if notebooks:
        return
    for stage in STAGES:
        copy(RENDERED / f"{stage}.ipynb", REPORTS / f"{stage}.ipynb")
        rendered = RENDERED / f"{stage}.ipynb"
        body = notebook_body(rendered, command=command_of(stage)) + locked_note()
        write_text(REPORTS / f"{stage}.html", page(words(stage), body, current=stage))
    for name in ("histogram.png", "wall.png"):
        copy(ARTIFACTS / "figures" / name, REPORTS / name)
    copy(ARTIFACTS / "submission.csv", REPORTS / "submission.csv")
    print(f"report: {len(STAGES)} pages in {REPORTS}/")


if __name__ == "__main__":
    with stage_command(*map(Path, sys.argv[1:2])):
        main(sys.argv[1:])

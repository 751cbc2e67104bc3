"""Put what people read of the pipeline into reports/: its executed notebooks and a page of each.

Usage: python -m tools.build_report

Everything is self-contained: the pages need no network and no scripts.
"""

from pathlib import Path

from ad.files import atomic_path, write_text
from tools.front_page import locked_note
from tools.notebook_page import notebook_body
from tools.page import REPORTS, STAGES, command_of, page, words
from tools.stage import stage_command

RENDERED, ARTIFACTS = Path("artifacts/rendered"), Path("artifacts")


def copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with atomic_path(target) as partial:
        partial.write_bytes(source.read_bytes())


def main() -> None:
    """Write every page, then the files beside them."""
    for stage in STAGES:
        rendered = RENDERED / f"{stage}.ipynb"
        copy(rendered, REPORTS / rendered.name)
        body = notebook_body(rendered, command=command_of(stage)) + locked_note()
        write_text(REPORTS / f"{stage}.html", page(words(stage), body, current=stage))
    for name in ("histogram.png", "wall.png"):
        copy(ARTIFACTS / "figures" / name, REPORTS / name)
    copy(ARTIFACTS / "submission.csv", REPORTS / "submission.csv")
    print(f"report: {len(STAGES)} pages in {REPORTS}/")


if __name__ == "__main__":
    with stage_command():
        main()

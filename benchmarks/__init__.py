"""Speed beside the alternatives, and what an edit of params.yaml costs: docs/speed.md."""

import re
from pathlib import Path

import pandas as pd

from ad.files import write_text

PAGE = Path("docs/speed.md")


def as_markdown(table: pd.DataFrame) -> str:
    """Lay a table of texts out in Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def into_page(name: str, text: str, page: Path = PAGE) -> None:
    """Put a text between the marks of its name in a page."""
    old = page.read_text(encoding="utf-8")
    marks = rf"(<!-- {name} -->\n).*?(\n?<!-- end of {name} -->)"
    if not re.search(marks, old, re.DOTALL):
        raise SystemExit(f"error: {page}: lacks <!-- {name} --> and <!-- end of {name} -->")
    found = re.sub(marks, lambda m: f"{m[1]}{text}\n{m[2].lstrip()}", old, flags=re.DOTALL)
    write_text(page, found)

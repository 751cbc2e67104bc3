"""The shell of a page: head, styles, ways to the other pages. No scripts, nothing from outside."""

import html
from pathlib import Path

REPORTS = Path("reports")
LOCKED = REPORTS / "locked" / "findings.json"  # of the studies on the locked set; see tools.locked
STAGES = (
    "01_extract_features",
    "02_build_coreset",
    "03_cv_threshold",
    "04_evaluate",
    "05_locked",
    "06_detector",
)

# A page needs its own styles and images, and nothing else may run or load.
POLICY = "default-src 'none'; img-src 'self' data: file:; style-src 'unsafe-inline'"
STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def words(stem: str) -> str:
    """Write a page's file name as its name."""
    number, _, name = stem.partition("_")
    return f"{number.lstrip('0')} {name.replace('_', ' ')}"


def study_names() -> list[str]:
    """List the pages of studies that ran, in order of their numbers."""
    return sorted(path.stem for path in (REPORTS / "studies").glob("[0-9]*.ipynb"))


def command_of(stem: str) -> str:
    """Return the command that makes a page again, as far as its source is in this repository."""
    if stem in STAGES:
        return "make repro"
    found = sorted(Path("studies").rglob(f"{stem}.ipynb"))
    if not found:
        return "make bench" if stem.startswith("30_") else ""
    study, *inside = found[0].relative_to("studies").parent.parts
    return f"make {'-'.join([study, *inside])}"


def neighbours(stem: str, pages: list[str]) -> tuple[str | None, str | None]:
    """Return the pages before and after one, in the order of their numbers."""
    at = pages.index(stem)
    return (pages[at - 1] if at else None, pages[at + 1] if at + 1 < len(pages) else None)


def page(title: str, body: str, *, current: str = "index", up: str = "") -> str:
    """Wrap a body in a page with its own styles.

    Parameters
    ----------
    title, body : str
        The title as text, the body as HTML.
    current : str
        The page's name: ``index``, or a notebook's without its ending.
    up : str
        Leads to the folder of the index.
    """
    links = []
    for name, text in [("index", "Result"), *((stage, words(stage)) for stage in STAGES)]:
        here = ' aria-current="page"' if name == current else ""
        links.append(f'<a href="{up}{name}.html"{here}>{html.escape(text)}</a>')
    links.append(f'<a href="{up}index.html#studies">Studies</a>')
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n'
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f'<nav aria-label="Pages">{" ".join(links)}</nav>\n<main>\n{body}\n</main>\n'
        f"{_turn(current)}</body>\n</html>\n"
    )


def _turn(current: str) -> str:
    """Lead to the page before and the page after."""
    if current in STAGES:
        pages, first = list(STAGES), '<a href="index.html">Result</a>'
    elif current in study_names():
        pages, first = study_names(), '<a href="../index.html#studies">Studies</a>'
    else:
        return ""
    before, after = neighbours(current, pages)
    left = f'<a href="{before}.html">&larr; {words(before)}</a>' if before else first
    right = f'<a href="{after}.html">{words(after)} &rarr;</a>' if after else ""
    return f'<nav class="turn" aria-label="Turn the page">{left}<span>{right}</span></nav>\n'

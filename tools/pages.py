"""Render executed notebooks as pages: code folded, formulas set, nothing from outside.

Usage: python -m tools.pages FOLDER              pages of this run
       python -m tools.pages reports --publish   all pages, with what is written about the run

Conclusions are written by hand about the committed run (cells tagged "committed", docs/front.md),
and are on published pages alone, as another run may say something else.
"""

import argparse
import base64
import re
import shutil
from pathlib import Path

import bleach
import nbformat
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from ad.files import read_json, write_text

NOTEBOOKS, REPORTS = Path("artifacts/notebooks"), Path("reports")
PIPELINE = ("01_features", "02_coreset", "03_threshold", "04_evaluate", "05_detector")
TEMPLATE = Path(__file__).with_name("template")
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])", re.DOTALL)
# What an output may hold; everything else shows as text.
TAGS = {
    *("a", "blockquote", "br", "code", "div", "em", "h2", "h3", "li", "ol", "p", "pre", "span"),
    *("strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
ATTRIBUTES = {"*": ["class", "colspan", "rowspan"], "a": ["href"]}
MOST_ROWS = 12  # of a table that stands open
BOX = '<div class="wide" role="group" aria-label="Table" tabindex="0">'


class PageExporter(HTMLExporter):
    """Notebooks as whole pages, by the template beside this file."""

    def __init__(self, **options: object) -> None:
        super().__init__(
            template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)], **options
        )
        self.register_filter("markdown2html", set_markdown)
        self.register_filter("clean_html", clean)
        self.register_filter("box_tables", box_tables)


def clean(html: str) -> str:
    """Leave in an output's HTML what cannot act; the rest shows as text."""
    return bleach.clean(html, tags=TAGS, attributes=ATTRIBUTES, protocols={"https", "http"})


def box_tables(html: str) -> str:
    """Let wide tables scroll by themselves, also by keyboard, and fold long ones."""

    def boxed(match: re.Match) -> str:
        n_rows, table = match[0].partition("<tbody")[2].count("<tr"), f"{BOX}{match[0]}</div>"
        if n_rows <= MOST_ROWS:
            return table
        return f"<details><summary>Table of {n_rows} rows</summary>{table}</details>"

    html = html.replace("<th></th>", "<td></td>")  # an empty header heads nothing
    return re.sub(r"<table.*?</table>", boxed, html, flags=re.DOTALL)


def set_markdown(source: str) -> str:
    """Turn Markdown into HTML, formulas into MathML."""
    formulas = []

    def keep(match: re.Match) -> str:
        formulas.append(convert(match[1] or match[2], display="block" if match[1] else "inline"))
        return f"\ue000{len(formulas) - 1}\ue001"  # no letters that Markdown, or the data, uses

    parts = re.split(r"(```.*?```|`[^`]*`)", source, flags=re.DOTALL)  # code stays as it is
    kept = "".join(part if part.startswith("`") else FORMULA.sub(keep, part) for part in parts)
    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True)
    html = MarkdownWithMath(renderer=renderer).render(kept)
    return re.sub("\ue000(\\d+)\ue001", lambda match: formulas[int(match[1])], html)


def title_of(notebook: nbformat.NotebookNode, name: str) -> str:
    """Return a page's title: its first heading."""
    found = (
        re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE) if notebook.cells else None
    )
    return found[1] if found else name


def name_figures(page: nbformat.NotebookNode, heading: str) -> None:
    """Note in each cell the heading that it is under: the text in place of its pictures."""
    for cell in page.cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"^##+ (.+)$", cell.source, re.MULTILINE)
            heading = found[-1] if found else heading
        cell.metadata.heading = heading


def front_page(publish: bool) -> nbformat.NotebookNode:
    """Make the front page: written by hand where it is published, else this run's result."""
    v4 = nbformat.v4
    if publish:
        cells = [v4.new_markdown_cell(Path("docs/front.md").read_text(encoding="utf-8"))]
    else:
        words = "# The result of this run\n\nThe settings are those of `params.yaml`."
        evaluated = nbformat.read(NOTEBOOKS / "04_evaluate.ipynb", as_version=4).cells
        cells = [v4.new_markdown_cell(words)]
        cells += [cell for cell in evaluated if "result" in cell.metadata.get("tags", [])]
    return v4.new_notebook(cells=cells)


def pages_of(publish: bool) -> dict[str, nbformat.NotebookNode]:
    """Return the pages by name, in the order in which they lead to each other."""
    folders = (REPORTS, NOTEBOOKS) if publish else (NOTEBOOKS,)  # what was not run here stays
    found = {path.stem: path for folder in folders for path in sorted(folder.glob("*.ipynb"))}
    pages = {"index": front_page(publish)}
    for name in sorted(found):
        if name.endswith(".failed") or not (publish or name in PIPELINE):
            continue
        pages[name] = nbformat.read(found[name], as_version=4)
        if not publish:
            pages[name].cells = [
                cell
                for cell in pages[name].cells
                if "committed" not in cell.metadata.get("tags", [])
            ]
    words = Path("docs/glossary.md").read_text(encoding="utf-8")
    pages["glossary"] = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(words)])
    return pages


def save_wall(path: Path) -> None:
    """Write the last picture of the result's cells, examples above their maps, to a file."""
    for cell in nbformat.read(NOTEBOOKS / "04_evaluate.ipynb", as_version=4).cells:
        if "result" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                if picture := output.get("data", {}).get("image/png"):
                    path.write_bytes(base64.b64decode(picture))


def main(folder: Path, *, publish: bool) -> None:
    """Write every page, and the files that they show."""
    pages, exporter = pages_of(publish), PageExporter()
    data = read_json(Path("artifacts/features.json"))["data"]
    if publish and not data["name"].startswith("ELPV"):
        raise SystemExit("error: published pages are about the default cells, and data/ is another")
    source = f"{data['name']}, {data['licence']} ({data['attribution']})"
    note = f"Pictures: {source if data['attribution'] else 'of their owners'}."
    style = (TEMPLATE / "page.css").read_text(encoding="utf-8")
    for name, page in pages.items():
        about = {"name": name, "title": title_of(page, name), "pages": list(pages), "style": style}
        about |= {"note": note, "code": name not in ("index", "glossary")}
        name_figures(page, about["title"])
        body, _ = exporter.from_notebook_node(page, {"page": about})
        write_text(folder / f"{name}.html", body)
    save_wall(folder / "wall.png")
    if publish:
        for name in pages.keys() - {"index", "glossary"}:
            if (NOTEBOOKS / f"{name}.ipynb").is_file():
                shutil.copyfile(NOTEBOOKS / f"{name}.ipynb", folder / f"{name}.ipynb")
        shutil.copyfile("artifacts/submission.csv", folder / "submission.csv")
    print(f"Open {folder}/index.html in a browser.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--publish", action="store_true")
    given = parser.parse_args()
    main(given.folder, publish=given.publish)

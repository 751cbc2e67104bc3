"""An executed notebook as the body of a page: the finding first, code folded, formulas set."""

import html
import re
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter

from pages.glossary import GLOSSARY, occurrences
from tools.safe_html import safe_html

# The section of a notebook whose first output is its finding.
FINDINGS = (
    "The answer",
    "The answer of the whole study",
    "What it shows",
    "Outputs and findings",
    "Held against the pipeline",
)
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])", re.DOTALL)
# Elements of formulas, without links and whatever else LaTeX may ask for.
MATHML = re.compile(
    r"</?(math|m(row|i|n|o|text|sup|sub|subsup|frac|sqrt|root|over|under|underover|space|padded"
    r"|table|tr|td|style))( (xmlns|display|stretchy|fence|form|mathvariant|accent|width|lspace"
    r"|rspace|minsize|maxsize|columnalign|linethickness|movablelimits|displaystyle)"
    r"=\"[^\"<>:]*(://www\.w3\.org[^\"<>]*)?\")*\s*/?>|[^<>]+"
)
CODE = "Code"
MARKS = {0xE000: None, 0xE001: None}  # of formulas: none may come from the data
LEAD_LETTERS = 700  # of a finding that leads its page
KINDS = {
    "celltag_parameters": "Parameters",
    "celltag_injected-parameters": "Parameters of this run",
}


class Formulas:
    """Formulas of a notebook's own text, kept apart while the rest is rendered and filtered."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def taken_out(self, source: str) -> str:
        """Put a mark in place of each formula of Markdown text; code is left as it is."""
        parts = re.split(r"(`[^`]*`)", source)
        return "".join(p if p.startswith("`") else FORMULA.sub(self._mark, p) for p in parts)

    def _mark(self, match: re.Match) -> str:
        formula, display = (match[1] or match[2]).strip(), "block" if match[1] else "inline"
        try:
            made = convert(formula, display=display)
        except Exception:  # whatever its parser raises for what is no formula
            return match[0]
        if MATHML.sub("", made):  # links and the like
            return match[0]
        self.found.append(made)
        return f"\ue000{len(self.found) - 1}\ue001"

    def put_back(self, body: str) -> str:
        """Put MathML in place of the marks."""
        return re.sub("\ue000(\\d+)\ue001", lambda match: self.found[int(match[1])], body)


def notebook_body(path: Path, *, beside: str = "", command: str = "") -> str:
    """Render a notebook as HTML; nothing in it, or in the data, is active there.

    ``beside`` is HTML that stands below the finding, ``command`` what runs it again.
    """
    text = path.read_text(encoding="utf-8").translate(MARKS)
    notebook, formulas = nbformat.reads(text, as_version=4), Formulas()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = formulas.taken_out(cell.source)
    exporter = HTMLExporter(template_name="basic", embed_images=True)
    exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(notebook)
    soup = BeautifulSoup(safe_html(body), "html.parser")
    _number_sections(soup)
    _fold_code(soup)
    _caption_figures(soup)
    for block in soup.find_all("pre"):  # what may scroll can be reached by keyboard
        block["tabindex"] = "0"
    for table in soup.find_all("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "table", "tabindex": "0"}))
    _lead_in(soup, beside, command)
    return formulas.put_back(f"{soup}{words_of(soup)}")


def _number_sections(soup: BeautifulSoup) -> None:
    """Give headings ids that links can name."""
    for number, heading in enumerate(soup.find_all(["h2", "h3"])):
        slug = re.sub(r"[^a-z0-9]+", "-", heading.get_text().lower()).strip("-")
        heading["id"] = f"{slug}-{number}"


def _fold_code(soup: BeautifulSoup) -> None:
    """Fold every cell's code; a cell without code shows nothing of it."""
    for number, cell in enumerate(soup.select("div.code_cell > div.input")):
        kinds = [KINDS[name] for name in cell.parent["class"] if name in KINDS]
        area = cell.select_one(".highlight")
        if area is None or not area.get_text().strip():
            cell.decompose()
            continue
        area["id"], area["tabindex"] = f"code-{number}", "0"
        fold = soup.new_tag("details", attrs={"class": "code"})
        summary = soup.new_tag("summary")
        summary.string = kinds[0] if kinds else CODE
        cell.replace_with(fold)
        fold.append(summary)
        fold.append(area)


def _caption_figures(soup: BeautifulSoup) -> None:
    """Give figures numbers and words, and lead to their code."""
    for number, image in enumerate(soup.find_all("img"), start=1):
        heading = image.find_previous(["h1", "h2", "h3"])
        title = heading.get_text() if heading else ""
        title = re.sub("\ue000\\d+\ue001", "…", title)
        image["alt"] = f"Figure {number}: {title}" if title else f"Figure {number}"
        figure = soup.new_tag("figure", attrs={"id": f"figure-{number}"})
        image.wrap(figure)
        caption = soup.new_tag("figcaption")
        caption.string = f"Figure {number}. {title} "
        cell = image.find_parent("div", class_="code_cell")
        code = cell.select_one("details.code .highlight") if cell else None
        if code is not None:
            link = soup.new_tag("a", attrs={"href": f"#{code['id']}"})
            link.string = "The code that drew it"
            caption.append(link)
        figure.append(caption)


def _finding(soup: BeautifulSoup) -> tuple[Tag, list[Tag]] | None:
    """Return the heading of the findings, and their first paragraphs, up to some length."""
    for heading in soup.find_all("h2"):
        cell = heading.find_parent("div", class_="text_cell")
        output = cell.find_next_sibling("div", class_="code_cell") if cell else None
        if heading.get_text() not in FINDINGS or output is None:
            continue
        first, length = [], 0
        for paragraph in output.select(".output p"):
            length += len(paragraph.get_text())
            if first and length > LEAD_LETTERS:
                break
            first.append(paragraph)
        if first:
            return heading, first
    return None


def _lead_in(soup: BeautifulSoup, beside: str, command: str) -> None:
    """Put finding, contents, the command and the switch for code below the question."""
    title = soup.find("h1")
    if title is None:
        return
    parts = []
    if found := _finding(soup):
        heading, first = found
        parts.append(
            f'<div class="lead">{"".join(map(str, first))}<p>'
            f'<a href="#{heading["id"]}">The whole finding</a></p></div>'
        )
    parts.append(beside)
    sections = "".join(
        f'<li><a href="#{heading["id"]}">{html.escape(heading.get_text())}</a></li>'
        for heading in soup.find_all("h2")
    )
    if sections:
        parts.append(f'<nav class="contents" aria-label="Contents"><ol>{sections}</ol></nav>')
    if command:
        parts.append(
            f"<p>To repeat it: <code>{html.escape(command)}</code> in a clone of the repository; "
            f"what to change stands under <em>Parameters of this run</em>.</p>"
        )
    parts.append('<label class="switch"><input id="unfold" type="checkbox"> Show all code</label>')
    first = title.find_next_sibling("p") or title
    first.insert_after(BeautifulSoup("\n".join(parts), "html.parser"))


def words_of(soup: BeautifulSoup) -> str:
    """Explain the words of the page, from what is not code."""
    text = " ".join(
        piece for piece in soup.find_all(string=True) if piece.find_parent(["pre", "code"]) is None
    )
    listed = "".join(
        f"<dt>{html.escape(word)}</dt><dd>{html.escape(GLOSSARY[word])}</dd>"
        for word in occurrences(text)
    )
    if not listed:
        return ""
    return (
        f'<h2 id="words">Words on this page</h2>\n<details open><summary>What they mean</summary>'
        f'<dl class="words">{listed}</dl></details>\n'
    )


def story(path: Path) -> dict[str, str]:
    """Take from an executed notebook its title, question, finding and first figure, as HTML."""
    soup = BeautifulSoup(notebook_body(path), "html.parser")
    found, image = _finding(soup), soup.select_one("figure img")
    question = next((p for p in soup.find_all("p") if p.get_text().startswith("Question.")), None)
    return {
        "title": soup.find("h1").get_text() if soup.find("h1") else path.stem,
        "question": question.get_text().removeprefix("Question.").strip() if question else "",
        "finding": "".join(map(str, found[1])) if found else "",
        "figure": str(image) if image else "",
    }

"""Ids, defects and names from a data set are text: on pages, in tables and in figures."""

import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from test_report import INPUTS, cells, changed

from ad.plots import plain, plain_image
from ad.report import inputs_note, literal, markdown_table
from tools.front_page import index_body
from tools.notebook_page import notebook_body
from tools.page import page
from tools.safe_html import ATTRIBUTES, TAGS, safe_html

HOSTILE = (
    "<b onmouseover=alert(4)>",
    "<details open ontoggle=alert(1)>",
    '<iframe srcdoc="<script>alert(1)</script>">',
    "<script>alert(1)</script>",
    "<svg/onload=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "<img src='data:image/svg+xml,<svg onload=alert(1)>'>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='java\nscript:alert(1)'>x</a>",
    "<style>body{display:none}</style>",
    "<meta http-equiv=refresh content=0;url=//example.org>",
    "<!--><script>alert(1)</script>",
    "<<script>alert(1)//<</script>",
    "</td></table><form action=//example.org><input>",
    "[x](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "[x]: javascript:alert(1)",
    "<https://example.org>",
    "https://example.org www.example.org a@example.org",
    "`code` **bold** _em_ ~~gone~~ $x_{$ \\[y\\] a|b",
    "&lt;script&gt; &#60;b&#62;",
)


# What the page puts around a notebook's cells, with its attributes.
MATHS = ("mrow", "msub", "msup", "msubsup", "mfrac", "munder", "mover", "munderover", "mspace")
MATHS += ("mi", "mn", "mo", "mtext")
OURS = {
    "main": (),
    "details": {"open"},
    "summary": (),
    "figure": (),
    "figcaption": (),
    "nav": {"aria-label"},
    "label": (),
    "input": {"type"},
    "div": {"tabindex"},
    "pre": {"tabindex"},
    "math": {"xmlns", "display"},
    **{name: {"stretchy", "width", "movablelimits"} for name in MATHS},
}


class Page(HTMLParser):
    """Collect what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless(text: str) -> Page:
    """Assert that a page holds nothing but what pages are made of."""
    found = Page(text)
    for tag, attributes in found.tags:
        assert TAGS.fullmatch(tag) or tag in OURS, tag
        for name, value in attributes.items():
            assert name in {*ATTRIBUTES, *OURS.get(tag, ())}, (tag, name)
            assert not re.match(r"\s*(javascript|vbscript|data:text)", value or "", re.IGNORECASE)
            assert name != "src" or value.startswith("data:image/png;base64,")
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_shows_the_text_and_nothing_else(text):
    one_line = " ".join(text.split())
    table = markdown_table([{"defect": text, "n": 1}])
    assert cells(table) == [["defect", "n"], [one_line, "1"]]
    html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(table)
    found = Page(html)
    assert {tag for tag, _ in found.tags} <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert one_line in found.text


def test_plain_words_stay_readable_in_the_source():
    words = "wide_resnet101_2, 224 x 224 (3 of 5): -0.5 % in test/blob/000.png"
    assert literal(words) == words


@pytest.mark.parametrize("text", HOSTILE)
def test_a_rendered_notebook_is_harmless(text, tmp_path: Path):
    v4 = nbformat.v4
    outputs = [
        v4.new_output("display_data", {"text/markdown": f"{text}\n\n| a |\n| --- |\n| {text} |"}),
        v4.new_output("display_data", {"text/html": text}),
        v4.new_output("stream", text=text),
        v4.new_output("display_data", {"application/javascript": "alert(1)"}),
        v4.new_output("display_data", {"image/svg+xml": "<svg onload='alert(1)'/>"}),
        v4.new_output("error", ename="E", evalue=text, traceback=[text]),
    ]
    notebook = v4.new_notebook(
        cells=[v4.new_markdown_cell(text), v4.new_code_cell(f"x = {text!r}", outputs=outputs)]
    )
    nbformat.write(notebook, tmp_path / "a.ipynb")
    assert_harmless(notebook_body(tmp_path / "a.ipynb"))


def test_what_pages_are_made_of_stays_byte_for_byte():
    body = (
        '<div class="jp-Cell" id="cell-id=cell-01"><h2>A &amp; B &#8217;</h2>\n<p>1 &lt; 2 '
        '<a href="../ad/x.py">x</a> <a href="https://example.org">y</a></p>\n'
        '<img alt="a &quot;b&quot;" src="data:image/png;base64,iVBORw0KGgo=">\n'
        '<td style="text-align:right">1</td></div>'
    )
    assert safe_html(body) == body


def test_what_is_left_out_shows_as_text():
    assert Page(safe_html("<iframe src=x>")).text == "<iframe src=x>"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_index_and_the_note_of_the_inputs(text):
    inputs = changed("weights", source=text, backbone=text, sha256=text)
    summary = {"n_flagged": 1, "n_test": 2, "note": text}
    body = index_body(summary, inputs, {}, [])
    allowed = {"histogram.png", "wall.png"}
    for tag, attributes in Page(body).tags:
        assert TAGS.fullmatch(tag) or tag in {*OURS, "section"}
        assert set(attributes) <= {"class", "src", "alt", "href", "id", "tabindex", "open"}
        assert tag != "img" or attributes["src"] in allowed
    rendered = MarkdownIt("commonmark").render(inputs_note(inputs))
    assert {tag for tag, _ in Page(rendered).tags} <= {"p", "code", "strong", "blockquote"}
    assert "RANDOM" not in inputs_note(INPUTS)


def test_a_page_runs_and_loads_nothing():
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page("t", ""))
    assert policy[1].startswith("default-src 'none'")
    assert "script" not in policy[1]


@pytest.mark.parametrize(
    "text",
    ["$", "a$b$c", "$x_{$", r"\$", "$$", r"$\frac{1}$", "한글 이름", "x" * 255, "a\nb$", *HOSTILE],
)
def test_any_text_can_be_a_title(text, tmp_path: Path):
    figure = Figure(figsize=(1.7, 2), layout="constrained")
    ax = figure.subplots()
    plain_image(ax, np.zeros((8, 8, 3), np.uint8), text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(tmp_path / "a.png")
    drawn = ax.title.get_text()
    assert not matplotlib.cbook.is_math_text(drawn)
    assert max(map(len, drawn.replace(r"\$", "$").split("\n"))) <= 24


def test_a_title_is_what_it_says():
    assert plain("test/blob/000 50 %") == "test/blob/000 50 %"
    assert plain("a" * 30 + "b" * 30) == "a" * 19 + "…" + "b" * 20
    figure = Figure()
    drawn = figure.text(0, 0, plain("$5 and $6"))
    assert drawn._preprocess_math(drawn.get_text()) == ("$5 and $6", False)

"""What a page makes of an executed notebook: finding first, code folded, formulas, words."""

from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from pages.glossary import GLOSSARY, occurrences
from tools import front_page, page
from tools.notebook_page import Formulas, notebook_body, story

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def output(**data: str):
    return v4.new_output(
        "display_data", {key.replace("_", "/"): text for key, text in data.items()}
    )


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """Write an executed notebook with a figure, a formula and a finding of several paragraphs."""
    cells = [
        v4.new_markdown_cell("# 7. A study\n\n**Question.** Does it help?\n\nMore of it."),
        v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]}),
        v4.new_code_cell("", outputs=[]),
        v4.new_markdown_cell("## First part\n\nBy $\\lVert f \\rVert^2$ and `a$b$`, at $5 or $6."),
        v4.new_code_cell("draw()", outputs=[output(image_png=PIXEL)]),
        v4.new_markdown_cell("## What it shows"),
        v4.new_code_cell("say()", outputs=[output(text_markdown="It **does**: F1.\n\nA bit.")]),
    ]
    path = tmp_path / "07_study.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


def test_the_finding_stands_below_the_question_and_links_lead_somewhere(notebook: Path):
    soup = BeautifulSoup(notebook_body(notebook), "html.parser")
    text = soup.get_text()
    assert text.index("Does it help?") < text.index("It does: F1.") < text.index("More of it.")
    targets = {element["id"] for element in soup.find_all(id=True)}
    links = [a["href"] for a in soup.find_all("a") if a["href"].startswith("#")]
    assert len(links) == 4  # the finding, two sections, the figure's code
    assert all(link[1:] in targets for link in links)


def test_code_is_folded_and_an_empty_cell_is_left_out(notebook: Path):
    soup = BeautifulSoup(notebook_body(notebook), "html.parser")
    folds = soup.select("details.code")
    assert [fold.summary.get_text() for fold in folds] == ["Parameters", "Code", "Code"]
    assert not any(fold.has_attr("open") for fold in folds)
    assert all(pre.find_parent("details") for pre in soup.select(".highlight pre"))


def test_a_figure_says_its_section_and_leads_to_its_code(notebook: Path):
    soup = BeautifulSoup(notebook_body(notebook), "html.parser")
    figure = soup.select_one("figure#figure-1")
    assert figure.img["alt"] == "Figure 1: First part"
    code = soup.find(id=figure.a["href"][1:])
    assert "draw" in code.get_text()


def test_formulas_become_mathml_and_prices_and_code_do_not(notebook: Path):
    body = notebook_body(notebook)
    assert body.count("<math") == 1 and "rVert" not in body
    assert "a$b$" in body and "$5 or $6" in body
    formulas = Formulas()
    kept = formulas.taken_out(r"$\href{javascript:alert(1)}{x}$ and $\left($")
    assert "href" in kept and not formulas.found


def test_words_are_explained_once_where_the_page_has_them(notebook: Path):
    soup = BeautifulSoup(notebook_body(notebook), "html.parser")
    assert [dt.get_text() for dt in soup.select("dl.words dt")] == ["F1"]
    assert occurrences("Thresholds by AUROC; auroc") == ["threshold", "AUROC"]
    assert occurrences("threshold_rule, unfolded") == []
    assert all(len(words) < 200 and words.endswith(".") for words in GLOSSARY.values())


def test_a_story_is_the_question_the_finding_and_the_first_figure(notebook: Path):
    told = story(notebook)
    assert told["question"] == "Does it help?"
    assert told["finding"] == "<p>It <strong>does</strong>: F1.</p><p>A bit.</p>"
    assert PIXEL in told["figure"]


SUMMARY = {"n_flagged": 3, "n_test": 10, "f1": 0.75, "f1_low": 0.5, "f1_high": 0.9}
HEADLINE = {"f1": 0.75, "low": 0.4, "high": 0.95, "holds": "test images, threshold"}


def test_the_front_page_says_how_sure_it_is():
    wide = front_page.sentence(SUMMARY, HEADLINE)
    assert "0.40 to 0.95" in wide and "0.50 to 0.90" in wide and "test images, threshold" in wide
    of_another_run = front_page.sentence(SUMMARY, HEADLINE | {"f1": 0.8})
    assert "0.40" not in of_another_run and "0.500 to 0.900" in of_another_run
    assert "unknown" in front_page.sentence({"n_flagged": 3, "n_test": 10}, {})


def test_every_study_that_ran_is_told_once(notebook: Path, tmp_path: Path, monkeypatch):
    studies = tmp_path / "reports/studies"
    studies.mkdir(parents=True)
    names = ["07_other", "11_reconpatch", "11_reconpatch_full", "23_mechanism"]
    for name in names:
        (studies / f"{name}.ipynb").write_bytes(notebook.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert page.study_names() == names
    soup = BeautifulSoup(front_page.stories(names), "html.parser")
    questions = [h3.get_text() for h3 in soup.find_all("h3")]
    assert questions[0].startswith("Why did the same code") and questions[-1] == "7 other"
    links = [a["href"] for a in soup.find_all("a") if a["href"].endswith(".html")]
    assert sorted(links) == [f"studies/{name}.html" for name in names]


def test_pages_turn_to_their_neighbours_only():
    first, last = page.STAGES[0], page.STAGES[-1]
    assert 'href="index.html">Result</a><span>' in page.page("t", "", current=first)
    turned = page.page("t", "", current=last)
    assert f'href="{page.STAGES[-2]}.html">&larr;' in turned and "&rarr;" not in turned

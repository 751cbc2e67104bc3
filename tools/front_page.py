"""The front page: the result, the maps, what each study found; and a page of every study.

Usage: python -m tools.front_page
"""

import html
from collections.abc import Mapping
from pathlib import Path

from bs4 import BeautifulSoup

from ad.files import read_json, write_text
from ad.judging import MEANINGS
from ad.report import figure
from tools.notebook_page import notebook_body, story, words_of
from tools.page import LOCKED, REPORTS, STAGES, command_of, page, study_names, words
from tools.stage import stage_command

# The team's questions in their order, each with the pages that answer it, the first one shown.
QUESTIONS = {
    "Why did the same code score 1 and 0.44?": ("23", "21", "22"),
    "Does ReConPatch help, and how few dimensions will do?": ("11_reconpatch", "11", "10"),
    "Which backbone, at which cost?": ("13",),
    "Which threshold, without a single anomaly?": ("12_thresholds", "12"),
    "Does it help to augment the normal images?": ("14",),
    "Can settings be searched for without labels?": ("15",),
    "What does it cost, beside the alternatives?": ("30",),
}


def sentence(summary: Mapping, headline: Mapping) -> str:
    """Say the result and how sure it is.

    Parameters
    ----------
    summary : mapping
        ``metrics/evaluate.json``.
    headline : mapping
        The thresholds' study's, of this very run; empty where it has not seen it.
    """
    flagged = f"{summary['n_flagged']} of {summary['n_test']} test images are flagged"
    if "f1" not in summary:
        return (
            f"{flagged}; the test labels are unknown, so nothing here says how many of them are "
            f"right."
        )
    text = f"F1 = {summary['f1']:.3f} at a threshold chosen from normal images alone"
    low, high = summary["f1_low"], summary["f1_high"]
    if headline.get("f1") == summary["f1"]:
        return (
            f"{text}. With other images, coresets and seeds it may as well be "
            f"{headline['low']:.2f} to {headline['high']:.2f} (95 % interval over "
            f"{headline['holds']}); over test images alone {low:.2f} to {high:.2f}. {flagged}."
        )
    return f"{text} (95 % interval over test images alone {low:.3f} to {high:.3f}); {flagged}."


def locked_note(path: Path = Path("metrics/locked.json")) -> str:
    """Say what the same protocol gives on the set that nothing was chosen on."""
    locked = read_json(path) if path.is_file() else {}
    if "f1" not in locked:
        return ""
    auroc = f", image AUROC {locked['image_auroc']:.3f}" if "image_auroc" in locked else ""
    return (
        f"<p><small>On the locked set, drawings that nothing was chosen on, the pipeline's F1 is "
        f"{locked['f1']:.3f} ({locked['f1_low']:.3f} to {locked['f1_high']:.3f}, the threshold "
        f"held fixed){auroc}.</small></p>\n"
    )


def _result(summary: Mapping, inputs: Mapping, headline: Mapping) -> str:
    data, weights = inputs["data"], inputs["weights"]
    notes = []
    if weights["source"] == "random":
        notes.append("RANDOM WEIGHTS: the backbone was never trained; the figures mean nothing.")
    if data["synthetic"]:
        notes.append("Synthetic images, drawn by this repository; not real devices.")
    digest = f", SHA-256 <code>{html.escape(weights['sha256'])}</code>" if weights["sha256"] else ""
    licence = ", licence Apache-2.0" if weights["source"].startswith("efficientnet-lite") else ""
    rows = "".join(
        f"<tr><th>{html.escape(text)}</th><td>{_cell(summary[key])}</td></tr>"
        for key, text in MEANINGS.items()
        if key in summary
    )
    return (
        "<h1>Anomaly detection: the result</h1>\n"
        + "".join(
            f"<blockquote><strong>{html.escape(note)}</strong></blockquote>" for note in notes
        )
        + f"<p><strong>{html.escape(sentence(summary, headline))}</strong></p>\n{locked_note()}"
        f"<p>Backbone <code>{html.escape(weights['backbone'])}</code>, weights "
        f"<code>{html.escape(weights['source'])}</code>{digest}{licence}; "
        f"{data['n_train']} training and {summary['n_test']} test images, {data['layout']} "
        f"layout.</p>\n"
        '<figure><img src="wall.png" alt="Test images and their anomaly maps, with the colour '
        'scale"><figcaption>Test images, and where the detector looks. '
        '<a href="04_evaluate.html">How they came about</a></figcaption></figure>\n'
        '<figure><img src="histogram.png" alt="Histogram of the image scores with the threshold, '
        "and the ROC curve where labels are known\"><figcaption>Every test image's score beside "
        "the threshold.</figcaption></figure>\n"
        f'<div class="table" tabindex="0"><table>{rows}</table></div>\n'
        '<p>Every image\'s decision: <a href="submission.csv">submission.csv</a>. '
        "All figures: <code>metrics/evaluate.json</code>.</p>\n"
    )


def _cell(value: object) -> str:
    return figure(value) if isinstance(value, float) else html.escape(str(value))


def _story(question: str, pages: list[str]) -> str:
    """One question, one sentence of finding, one figure, from the first of its pages."""
    told = story(REPORTS / "studies" / f"{pages[0]}.ipynb")
    links = ", ".join(f'<a href="studies/{name}.html">{words(name)}</a>' for name in pages)
    return (
        f'<section class="story"><h3>{html.escape(question)}</h3>\n{told["finding"]}\n'
        f"<figure>{told['figure']}<figcaption>{links}</figcaption></figure></section>\n"
    )


def stories(names: list[str]) -> str:
    """Tell every study that ran, in the order of the questions."""
    left, told = list(names), []
    for question, prefixes in QUESTIONS.items():
        pages = [n for prefix in prefixes for n in names if n.startswith(prefix)]
        pages = [name for name in dict.fromkeys(pages) if name in left]
        left = [name for name in left if name not in pages]
        if pages:
            told.append(_story(question, pages))
    told += [_story(words(name), [name]) for name in left]
    return "".join(told)


def index_body(summary: Mapping, inputs: Mapping, headline: Mapping, names: list[str]) -> str:
    """Lead with the result, then the steps, then what the studies found."""
    steps = "".join(f'<li><a href="{name}.html">{words(name)}</a></li>' for name in STAGES)
    found = (
        f"<p>Each study is of its own last run, and says on which images.</p>\n{stories(names)}"
        if names
        else "<p>No study has run yet: <code>make studies</code>.</p>"
    )
    body = (
        f"{_result(summary, inputs, headline)}"
        f"<h2>How it came about</h2>\n<p>To repeat it: <code>make repro</code> in a clone of the "
        f"repository; the settings are in <code>params.yaml</code>.</p>\n<ul>{steps}</ul>\n"
        f'<h2 id="studies">What was asked, and what was found</h2>\n{found}'
    )
    return f"{body}{words_of(BeautifulSoup(body, 'html.parser'))}"


def locked_finding(name: str, inputs: Mapping) -> str:
    """Say what a study found on the locked set; empty unless it ran there beside these images."""
    kept = read_json(LOCKED) if LOCKED.is_file() else {}
    found = kept.get("findings", {}).get(name)
    if not found or kept["beside"] != inputs["data"]["sha256"]:
        return ""
    return (
        f'<div class="lead"><p><strong>On the locked set, on which nothing was chosen:</strong></p>'
        f'{found}<p><a href="../locked/{name}.html">The whole page</a></p></div>'
    )


def study_page(name: str, inputs: Mapping) -> None:
    """Write the page of a study's executed notebook beside it, one folder below the index."""
    notebook = REPORTS / "studies" / f"{name}.ipynb"
    beside = locked_finding(name, inputs)
    body = notebook_body(notebook, beside=beside, command=command_of(name))
    made = page(words(name), body, current=name, up="../")
    write_text(notebook.with_suffix(".html"), made)


def main() -> None:
    """Write every study's page, and the front page."""
    thresholds = Path("metrics/thresholds.json")
    headline = read_json(thresholds).get("headline", {}) if thresholds.is_file() else {}
    summary, inputs = read_json(Path("metrics/evaluate.json")), read_json("artifacts/inputs.json")
    for name in study_names():
        study_page(name, inputs)
    body = index_body(summary, inputs, headline, study_names())
    write_text(REPORTS / "index.html", page("Anomaly detection: the result", body))


if __name__ == "__main__":
    with stage_command():
        main()

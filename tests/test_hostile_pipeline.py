"""The whole study on a data set with hostile names, in a folder with spaces and Korean letters."""

import re
import sys

from small_data import save_csv, write_competition
from test_hostile_text import HOSTILE, assert_harmless
from test_pipeline import call, make_repository

LINES = (
    "check_inputs: 12 training and 8 test images, competition layout; resnet10t, weights random; "
    "RANDOM WEIGHTS: quality figures will mean nothing",
    "01_extract_features",
    "02_build_coreset",
    "03_cv_threshold",
    "04_evaluate",
    "05_locked",
    "report: 6 pages in reports/",
)


def test_hostile_names_run_through_and_stay_text(tmp_path):
    folder = make_repository(tmp_path / "가나 다 $(touch x) 'y'")
    labels = write_competition(folder / "data", with_labels=True)
    texts = [" ".join(text.split()) for text in HOSTILE]
    ids = {name: f"{text} {name}" for name, text in zip(labels, texts, strict=False)}
    anomalous = [name for name, label in labels.items() if label]
    kinds = dict(zip(anomalous, texts[-len(anomalous) :], strict=True))
    data = folder / "data"
    save_csv(data / "test.csv", ["id", "img_path"], [(ids[n], f"test/{n}.png") for n in labels])
    save_csv(data / "sample_submission.csv", ["id", "label"], [(ids[n], 0) for n in labels])
    save_csv(
        data / "test_labels.csv",
        ["id", "label", "defect"],
        [(ids[n], label, kinds.get(n, "good")) for n, label in labels.items()],
    )
    ran = call(folder, sys.executable, "-m", "tools.repro")
    assert ran.stdout.splitlines() == list(LINES)
    assert ran.stderr == ""
    shown = ""
    for path in sorted((folder / "reports").glob("*.html")):
        body = path.read_text(encoding="utf-8").partition("</nav>")[2].rpartition("</body>")[0]
        body = re.sub(r'src="(histogram|wall)\.png"', "", body)
        shown += assert_harmless(body).text
    for text in kinds.values():
        assert text in shown, text
    assert sorted(p.name for p in folder.glob("x*")) == []

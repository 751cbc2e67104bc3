"""What the detector's page says follows from the verdicts."""

import numpy as np
import pytest

from ad.params import Score
from ad.detector.detector import Verdict
from ad.detector.export import describe, rates
from ad.detector.make import without_form


def verdict(p_value: float) -> Verdict:
    return Verdict(1.0, False, p_value, np.zeros((1, 1)), np.zeros(1), np.zeros(2), 1.0, "")


def test_rates_count_and_keep_or_break_their_promise():
    uniform = [verdict((n + 0.5) / 100) for n in range(100)]
    anomalous = [verdict(0.004), verdict(0.2)]
    labels = [0] * 100 + [1, 1]
    text = rates([*uniform, *anomalous], labels, 213)
    assert "| 0.05 | 5 of 100 | 1 of 2 |" in text
    assert "At no rate" in text and "no rate below 0.0047" in text
    shifted = rates([*(verdict(v.p_value**3) for v in uniform), *anomalous], labels, 213)
    assert "than chance explains at 0.005, 0.01" in shifted
    assert "nothing to count" in rates(uniform, [None] * 100, 213)


@pytest.mark.parametrize(
    ("arithmetic", "changes", "aggregate", "words"),
    [
        ("integer", {}, "max", ""),
        ("float32", {}, "max", "backbone.arithmetic=float32"),
        ("integer", {"squared": False}, "max", "score.squared=False"),
        ("integer", {"reweight": True}, "max", "score.reweight=True"),
        ("integer", {"index": "faiss_flat"}, "max", "score.index=faiss_flat"),
        ("integer", {}, "median", "cv.aggregate=median"),
    ],
)
def test_settings_without_an_exact_form_are_named(arithmetic, changes, aggregate, words, tmp_path):
    why = without_form(arithmetic, Score(num_neighbors=5, **changes), aggregate)
    assert why.startswith(words) and bool(why) == bool(words)
    if why:
        assert why in describe(tmp_path / "none.onnx", why)

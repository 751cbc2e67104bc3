"""Damaged records end in a comparison or in one line: no traceback, whatever stands in them."""

import copy
import json
import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studies.gap.compare import compare_records, page
from studies.gap.record import read_record

EXAMPLE = Path(__file__).resolve().parents[3] / "studies/gap/example/sorted.json"
WHOLE = json.loads(EXAMPLE.read_text(encoding="utf-8"))
SMALL = WHOLE | {
    key: dict(list(WHOLE[key].items())[:3]) for key in ("data", "decoding", "scores")
}  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Put junk in place of a part of a record, leave a part out, or cut the file."""
    record = copy.deepcopy(SMALL)
    for _ in range(draw(st.integers(1, 3))):
        place: object = record
        while isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place)))
            if draw(st.booleans()) or not isinstance(place[key], dict):
                place.pop(key) if draw(st.booleans()) else place.update({key: draw(JUNK)})
                break
            place = place[key]
    text = json.dumps(record, default=str).encode()
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text


@settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(damaged())
def test_records(tmp_path_factory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "record.json"
    path.write_bytes(content)
    try:
        record, whole = read_record(path), read_record(EXAMPLE)
        for a, b in ((record, whole), (whole, record), (record, record)):
            assert page(compare_records(a, b), a, b)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error) and str(path.name) in str(error)

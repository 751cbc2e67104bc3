"""Records: what they hold, the published schema, the writer for others, and junk."""

import ast
import copy
import json
import random
import shutil
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from planted import write_run
from small_data import write_mvtec

from ad.determinism import sha256_array, sha256_file
from studies.gap import write_record as writer
from studies.gap.__main__ import main
from studies.gap.compare import compare_records
from studies.gap.record import FORMAT, SCHEMA, Record, read_record, schema
from studies.gap.recorder import ARTIFACTS, record_run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    write_mvtec(root / "data", n_train=4, n_normal=4, n_anomalous=4, size=32)
    write_run(root, root / "data")
    return root


@pytest.fixture(scope="module")
def recorded(run_folder):
    return json.loads(json.dumps(record_run(run_folder).model_dump(exclude_none=True)))


def test_the_published_schema_is_the_code_s_and_a_record_fits_it(recorded):
    published = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert published == schema(), "write record.schema.json again"
    jsonschema.validate(recorded, published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**recorded, "score": {}}, published)
    for name, field in Record.model_fields.items():
        kind = str(field.annotation)
        assert field.description or "record." in kind, f"{name} is not described"


def test_a_record_is_small_plain_and_says_nothing_of_the_machine(recorded, run_folder):
    text = json.dumps(recorded)
    assert str(run_folder) not in text
    assert len(text) < 3000 * len(recorded["ids"])
    assert recorded["parameters"] == {"image_size": 32, "backbone_name": "resnet10t"}
    assert recorded["quality"] == {"f1": 1.0}


def test_without_images_the_rest_is_recorded(run_folder, tmp_path):
    bare = record_run(run_folder, data=tmp_path / "absent")
    assert bare.decoding is None
    assert bare.listing is None
    assert bare.scores


def test_the_writer_needs_numpy_alone_and_hashes_as_the_pipeline(tmp_path):
    tree = ast.parse(Path(writer.__file__).read_text(encoding="utf-8"))
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert {n for n in names if n.partition(".")[0] not in sys.stdlib_module_names} == {"numpy"}
    array = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    assert writer.array_hash(array) == sha256_array(array)[: writer.HASH_DIGITS]
    (tmp_path / "x").write_bytes(b"abc")
    assert writer.file_hash(tmp_path / "x") == sha256_file(tmp_path / "x")[: writer.HASH_DIGITS]


def foreign(tmp_path: Path, order: list[int], *, name: str) -> Record:
    """Write the record of another implementation that takes its images in some order."""
    ids = [f"{number:03d}" for number in range(6)]
    generator = np.random.default_rng(0)
    arrays = generator.random((6, 2, 2, 5), dtype=np.float32)
    values = generator.random(6)
    listed = [ids[number] for number in order]
    writer.write_record(
        tmp_path / name,
        {
            "ids": listed,
            "features": writer.features(ids, arrays),
            "coresets": {"bank": writer.coreset(np.array(order))},
            "threshold": {"threshold": np.float32(0.5)},
            "scores": dict(zip(ids, values, strict=True)),
            "submission": [[i, int(v > 0.5)] for i, v in zip(ids, values[order], strict=True)],
        },
    )
    return read_record(tmp_path / name)


def test_two_runs_of_another_implementation_on_two_listings(tmp_path):
    a = foreign(tmp_path, [0, 1, 2, 3, 4, 5], name="a.json")
    b = foreign(tmp_path, [3, 0, 5, 1, 2, 4], name="b.json")
    assert compare_records(a, a).first is None
    result = compare_records(a, b)
    assert result.first.stage == "listing order"
    assert "6 of 6 rows moved" in result.first.words


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "no such record"),
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "no record"),
        (b"\xff\xfe", "no JSON"),
        (b'{"format": "another"}', "no record"),
        (json.dumps({"format": FORMAT, "score": {}}).encode(), "score"),
        (json.dumps({"format": FORMAT, "scores": {"a": "high\n\n"}}).encode(), "scores.a"),
        (json.dumps({"format": FORMAT, "scores": {"a": float("nan")}}).encode(), "scores.a"),
        (json.dumps({"format": FORMAT, "submission": [["a"]]}).encode(), "submission.0"),
        (f'{{"format": "{FORMAT}", "scores": {{"a": 1, "a": 2}}}}'.encode(), "stands twice"),
    ],
    ids=str,
)
def test_a_bad_record_is_one_clear_line(tmp_path, capsys, content, part):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["compare", str(path), str(path)]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert len(error.strip().splitlines()) == 1


def places(value, path=()):
    """List every place in a tree of dicts and lists."""
    yield path
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in list(keys)[:3]:
        yield from places(value[key], (*path, key))


def test_junk_anywhere_gives_a_line_or_a_comparison_and_never_a_traceback(
    recorded, tmp_path, capsys
):
    writer.write_record(tmp_path / "a.json", recorded)
    junk = (None, "x", -1, 1e300, [], {}, [[]], {"x": []}, True, [1, "a"], {"": None})
    choice = random.Random(0)
    for path in list(places(recorded))[1:]:
        damaged = copy.deepcopy(recorded)
        place = damaged
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = choice.choice(junk)
        (tmp_path / "b.json").write_text(json.dumps(damaged), encoding="utf-8")
        code = main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
        printed = capsys.readouterr()
        assert code in (0, 1, 2)
        assert code != 2 or len(printed.err.strip().splitlines()) == 1


def test_without_a_run_recording_says_so(tmp_path, capsys):
    assert main(["record", str(tmp_path / "x.json"), "--root", str(tmp_path)]) == 2
    assert "dvc repro" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_tables_and_names_as_windows_leaves_them_make_no_difference(run_folder, recorded, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    for path in sorted((tmp_path / "run").rglob("*.csv")):
        text = path.read_text(encoding="utf-8").replace("\n", "\r\n")
        if path.name != "folds.csv":  # its bytes are hashed
            path.write_bytes(text.encode("utf-8-sig"))
    found = record_run(tmp_path / "run").model_dump(exclude_none=True)
    assert json.loads(json.dumps(found)) == recorded
    text = json.dumps(recorded).replace("test/good/", r"test\\good\\")
    assert r"test\\good\\001" in text
    (tmp_path / "windows.json").write_text(text, encoding="utf-8")
    result = compare_records(
        Record.model_validate(recorded), read_record(tmp_path / "windows.json")
    )
    assert result.first is None


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_missing_artifact_is_named(run_folder, tmp_path, capsys, name):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "artifacts" / name).unlink()
    assert main(["record", str(tmp_path / "x.json"), "--root", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert Path(name).name in error
    assert "dvc repro" in error
    assert len(error.strip().splitlines()) == 1

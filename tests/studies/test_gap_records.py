"""Plant causes in a run's record, one or two at a time: the comparison names the first of them."""

import ast
import copy
import json
import random
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from small_data import save_png

from ad.data import ImageRecord, write_manifest
from ad.determinism import sha256_array, sha256_file
from ad.files import save_array, write_csv, write_json, write_text
from studies.gap import compare, records
from studies.gap.__main__ import main
from studies.gap.compare import Record, causes, compare_records, page
from studies.gap.records import record_run

IDS = [f"{split}/{n}" for split, count in (("train", 6), ("test", 5)) for n in range(count)]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Write what a finished run leaves: 6 training and 5 test images, two banks."""
    root, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    artifacts, listed, scores = root / "artifacts", [], rng.random(5)
    for name in IDS:
        path = root / "data" / f"{name}.png"
        save_png(path, rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        about = {"label": 0, "defect": None, "mask": None, "sha256": sha256_file(path)}
        listed.append(ImageRecord(name, f"{name}.png", name.split("/")[0], **about))
    write_manifest(artifacts / "manifest.csv", listed)
    for split, count in (("train", 6), ("test", 5)):
        values = rng.random((count, 2, 2, 5), dtype=np.float32)
        save_array(artifacts / "features" / f"{split}.npy", values)
    for fold in range(2):
        save_array(artifacts / "banks" / f"fold_{fold}.npy", rng.random((12, 5), dtype=np.float32))
    weights = {"backbone": "net", "source": "net.pth", "sha256": "a" * 64, "layers": []}
    write_json(artifacts / "features.json", {"weights": weights})
    write_json(artifacts / "threshold.json", {"threshold": 0.5})
    write_json(root / "metrics" / "evaluate.json", {"f1": 1.0})
    for name, header, rows in (
        ("folds", ["id", "fold"], [[name, 0] for name in IDS[:6]]),
        ("validation_scores", ["id", "score"], [[name, n / 7] for n, name in enumerate(IDS[:6])]),
        ("test_scores", ["id", "score"], zip(IDS[6:], scores, strict=True)),
        ("submission", ["id", "label"], zip(IDS[6:], (scores > 0.5).astype(int), strict=True)),
    ):
        write_csv(artifacts / f"{name}.csv", header, rows)
    params = "params: {params.yaml: {seed: 0, cv.folds: 2, image: {input_size: 32}}}"
    write_text(root / "dvc.lock", f"stages:\n  features: {{{params}}}\n  result: {{}}\n")
    return root


@pytest.fixture(scope="module")
def recorded(run_folder):
    made = {"format": records.FORMAT, **record_run(run_folder, run_folder / "data")}
    return json.loads(json.dumps(made))


def checked(*written: dict) -> list[Record]:
    return [Record.model_validate_json(json.dumps(own)) for own in written]


def compared(a: dict, b: dict) -> dict[str, tuple[str, str]]:
    return compare_records(*checked(a, b))


def shifted(values: dict) -> dict:
    """Give each key its neighbour's value."""
    keys = list(values)
    return dict(zip(keys, [values[key] for key in keys[1:] + keys[:1]], strict=True))


def nudge(b, size):
    for own in b["features"].values():
        own["hash"] = own["hash"][::-1]
        own["sample"][3] += size * own["sd"]


def other_order(b):
    b["ids"][:4] = b["ids"][3::-1]


def renamed_with_rounding(b):
    b["features"] = shifted(b["features"])
    nudge(b, 1e-6)
    b["scores"] = shifted(b["scores"])


def other_weights(b):
    b["weights"]["sha256"] = "f" * 64
    nudge(b, 0.7)
    b["threshold"] *= 1.5


def other_bank(b):
    b["banks"]["fold_0"]["hash"] = "1" * 16
    b["banks"]["fold_0"]["rows"][5] = "1" * 8


def flags_under_other_ids(b):
    flags = shifted(dict(b["submission"]))
    b["submission"] = [[name, flags[name]] for name, _ in b["submission"]]


# What each plant is found as: its stage, and words of it.
PLANTED = {
    "settings": (lambda b: b["parameters"].update({"image.input_size": 64}), "parameters", "32"),
    "bytes": (lambda b: b["files"].update({"test/1": "0" * 16}), "files", "test/1"),
    "order": (other_order, "order", "row 1: train/0 and train/3"),
    "decoding": (lambda b: b["pixels"]["test/1"].update(hash="1" * 16, mean=0.0), "pixels", "1 of"),
    "weights": (other_weights, "weights", "file: aaa"),
    "features": (lambda b: nudge(b, 0.7), "features", "by up to 0.7"),
    "names": (renamed_with_rounding, "features", "the same values elsewhere"),
    "folds": (lambda b: b.update(folds="1" * 16), "folds", "and 1111"),
    "bank": (other_bank, "banks", "2 of 26: fold_0 row 6"),
    "held-out": (lambda b: b["validation"].popitem(), "validation", "and None"),
    "threshold": (lambda b: b.update(threshold=0.50001), "threshold", "0.5 and 0.50001"),
    "scores": (lambda b: b["scores"].update({"test/0": 0.7}), "scores", "1 of 5"),
    "rows by position": (flags_under_other_ids, "joined", "True and False"),
    "twice": (lambda b: b["submission"].append(b["submission"][0]), "rows", "row 6: None"),
    "row order": (lambda b: b["submission"].reverse(), "rows", "4 of 5"),
    "figures": (lambda b: b["quality"].update(f1=0.44), "quality", "f1: 1.0 and 0.44"),
}


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_cause_is_named_first(recorded, plant):
    change, stage, words = PLANTED[plant]
    changed = copy.deepcopy(recorded)
    change(changed)
    for pair in ((recorded, changed), (changed, recorded)):
        found = compared(*pair)
        assert causes(found)[0] == stage, found
        assert found[stage][0] == ("rounding" if plant == "threshold" else "differs")
    assert words in compared(recorded, changed)[stage][1]


def test_of_two_planted_causes_the_earlier_is_named_first(recorded):
    order = list(compare.STAGES)
    for one, two in combinations(PLANTED.values(), 2):
        if "threshold" not in (one[1], two[1]):  # planted as rounding, which no cause waits for
            changed = copy.deepcopy(recorded)
            one[0](changed)
            two[0](changed)
            first = causes(compared(recorded, changed))[0]
            assert first == min(one[1], two[1], key=order.index)


def test_answers_joined_by_position_are_told_from_other_features(recorded):
    changed = copy.deepcopy(recorded)
    flags_under_other_ids(changed)
    nudge(changed, 1e-6)
    assert compared(recorded, changed)["features"][0] == "rounding"
    assert causes(compared(recorded, changed)) == ["joined"]
    other_weights(changed)
    assert causes(compared(recorded, changed)) == ["weights", "joined"]


def test_equal_runs_are_called_equal_and_a_listing_alone_has_no_consequence(recorded):
    again = copy.deepcopy(recorded)
    again["listing"]["test"].reverse()
    assert causes(compared(recorded, again)) == []
    text = page(*checked(recorded, again))
    assert text.startswith("The runs are equal") and "in other orders: test\n" in text


@pytest.mark.parametrize("field", sorted(Record.model_fields.keys() - {"format"}))
def test_records_that_lack_a_field_are_compared_as_far_as_they_go(recorded, field):
    bare = {key: value for key, value in recorded.items() if key != field}
    only = {key: recorded[key] for key in ("format", field) if key in recorded}
    for pair in ((recorded, bare), (bare, bare), (only, recorded)):
        assert causes(compared(*pair)) == []


def test_a_record_is_small_and_says_nothing_of_the_machine(recorded, run_folder):
    assert str(run_folder) not in json.dumps(recorded)
    assert len(json.dumps(recorded)) < 2500 * len(IDS)
    assert recorded["parameters"] == {"seed": 0, "cv.folds": 2, "image.input_size": 32}
    assert "pixels" not in record_run(run_folder, run_folder / "absent")


def test_the_writer_needs_numpy_alone_and_hashes_as_the_pipeline():
    lines = ast.parse(Path(records.__file__).read_text(encoding="utf-8")).body
    names = {n.module for n in lines if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in lines if isinstance(n, ast.Import) for a in n.names}
    assert {n for n in names if n.split(".")[0] not in sys.stdlib_module_names} == {"numpy"}
    array = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    assert records.array_hash(array) == sha256_array(array)[:16]


def test_two_runs_of_another_implementation_through_files_and_mail(tmp_path, capsys):
    scores = np.random.default_rng(1).random(5).astype(np.float32)
    ids = [f"sub/{n}" for n in range(5)]
    for name, order in (("a", [0, 1, 2, 3, 4]), ("b", [3, 1, 4, 0, 2])):
        flags = (scores[order] > 0.5).astype(int)
        rows = list(zip(ids, flags, strict=True))
        written = {"ids": [ids[n] for n in order], "threshold": np.float64(0.5), "submission": rows}
        records.write_record(tmp_path / f"{name}.json", written)
    text = (tmp_path / "b.json").read_text().replace("\n", "\r\n").replace("sub/", r"sub\\")
    (tmp_path / "b.json").write_bytes(text.encode("utf-8-sig"))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
    assert "part first at: order" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 0
    with pytest.raises(ValueError, match="nan"):
        records.write_record(tmp_path / "c.json", {"scores": {"a": float("nan")}})


def test_junk_anywhere_gives_a_line_or_a_page_and_never_a_traceback(recorded, tmp_path, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(recorded))
    hopeless = ["", "{", "[1]", '{"format": "another"}', "[" * 100_000, '"\udc80"']
    texts, choice = list(hopeless), random.Random(0)
    junk = (None, "x", -1, 1e300, [], {}, [[]], {"x": []}, True, [1, "a"], {"": None}, float("inf"))
    for name, own in recorded.items():
        texts.append(json.dumps({**recorded, name: choice.choice(junk)}))
        if own and isinstance(own, dict):
            texts.append(
                json.dumps({**recorded, name: {**own, next(iter(own)): choice.choice(junk)}})
            )
    for text in texts:
        bad.write_bytes(text.encode(errors="surrogateescape"))
        code = main(["compare", str(good), str(bad)])
        error = capsys.readouterr().err
        assert code in (0, 1) or len(error.strip().splitlines()) == 1
        assert code == 2 or text not in hopeless
    for arguments, words in (
        (["compare", str(good), str(tmp_path / "absent.json")], "no such record"),
        (["record", str(bad), "--root", str(tmp_path)], "no finished run here"),
    ):
        assert main(arguments) == 2
        assert words in capsys.readouterr().err

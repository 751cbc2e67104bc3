"""Random tables, parameters and images: understood, or refused in one line, and nothing else.

The same inputs every time; FUZZ_EXAMPLES=10000 tries more of them.
"""

import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_data import write_competition

from ad.data import read_manifest, write_manifest
from ad.images import InputRule, network_input, read_rgb
from tools.headers import read_header
from tools.parameters import read_params
from ad.scan import scan

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
SECONDS = 20  # for one input; more is a hang
REFUSALS = (ValueError, OSError, MemoryError)

always_the_same = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Guard:
    """Watches from the interpreter's own audit events what is written, and where."""

    def __init__(self) -> None:
        self.inside: Path | None = None
        self.outside: list[str] = []
        sys.addaudithook(self.see)  # for good, so it is one for all tests, and mostly off

    def see(self, event: str, arguments: tuple) -> None:
        """Note a path that is written, removed or renamed outside of the folder allowed."""
        if self.inside is None:
            return
        if event == "open":
            path, mode, flags = arguments
            if not (set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "os.link"):
            path = arguments[0]
        else:
            return
        if isinstance(path, str | bytes | Path) and os.fspath(path) != os.devnull:
            whole = os.path.realpath(os.fsdecode(path))
            if not f"{whole}/".startswith(f"{self.inside}/") and "__pycache__" not in whole:
                self.outside.append(whole)


GUARD = Guard()


@contextlib.contextmanager
def refused_at_most(inside: Path) -> Iterator[None]:
    """Allow a refusal in one line; no other exception, no hang, no write outside of a folder."""

    def hang(*_unused: object) -> None:
        raise AssertionError(f"not done after {SECONDS} s")

    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, hang)
        signal.alarm(SECONDS)
    GUARD.inside, GUARD.outside = inside.resolve(), []
    try:
        yield
    except REFUSALS as error:
        assert "\n" not in str(error).strip(), repr(str(error))
        assert str(error).strip()
    finally:
        GUARD.inside = None
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)
    assert GUARD.outside == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a small data set in competition layout, whose tables are replaced."""
    root = tmp_path_factory.mktemp("fuzz")
    write_competition(root, n_train=2, n_test=2, with_labels=True, size=16)
    return root


# Tables

TABLES = {
    "train.csv": "id,img_path,label\nA,train/TRAIN_000.png,0\nB,./train/TRAIN_001.png,0\n",
    "test.csv": "id,img_path\nC,test/TEST_000.png\nD,test\\TEST_001.png\n",
    "sample_submission.csv": "id,label\nD,0\nC,0\n",
    "test_labels.csv": "id,label,defect\nC,0,good\nD,1,blob\n",
}
CELLS = st.one_of(
    st.sampled_from(
        [
            *("", "0", "1", "A", "C", "good", ".", "../x.png", "/etc/passwd", "C:\\x"),
            *("train/TRAIN_000.png", "\0", '"', '"a,b"', "a\nb", "\ufeff", "\r", "=1+1"),
            *("x" * 300, "가나", "\u202e"),
        ]
    ),
    st.text(max_size=8),
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Cut, overwrite, repeat and insert pieces of a valid file."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        piece = draw(st.binary(max_size=6))
        kind = draw(st.sampled_from(["cut", "drop", "over", "in", "twice"]))
        if kind == "cut":
            del content[place:]
        elif kind == "drop":
            del content[place : place + 4]
        elif kind == "over":
            content[place : place + len(piece)] = piece
        elif kind == "in":
            content[place:place] = piece
        else:
            content[place:place] = content[place : place + 40]
    return bytes(content)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, bytes]:
    """Replace cells of the tables, or damage their bytes."""
    found = {name: text.encode() for name, text in TABLES.items()}
    for name in draw(st.sets(st.sampled_from(sorted(TABLES)), min_size=1, max_size=2)):
        if draw(st.booleans()):
            found[name] = draw(damaged(found[name]))
            continue
        rows = [line.split(",") for line in TABLES[name].splitlines()]
        for _ in range(draw(st.integers(1, 3))):
            row = draw(st.sampled_from(rows))
            row[draw(st.integers(0, len(row) - 1))] = draw(CELLS)
        joined = "\n".join(",".join(row) for row in rows)
        found[name] = joined.encode("utf-8", "surrogatepass")
    return found


@always_the_same
@given(tables())
@example({name: text.encode() for name, text in TABLES.items()})
@example({**{n: t.encode() for n, t in TABLES.items()}, "train.csv": b"id,img_path,label\n\xff"})
def test_tables(folder: Path, found: dict[str, bytes]):
    for name, content in found.items():
        (folder / name).write_bytes(content)
    with refused_at_most(folder):
        records = scan(folder, threads=1)
        assert len(records) == 4
        write_manifest(folder / "manifest.out", records)
        assert read_manifest(folder / "manifest.out") == records


# Parameters

PARAMS = (Path(__file__).resolve().parents[2] / "params.yaml").read_text(encoding="utf-8")
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6),
    st.sampled_from(["max", "quantile:2", "hub", "1e-6", 10**30, -1, float("nan")]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def parameters(draw: st.DrawFn) -> bytes:
    """Replace a value in the parameters, or damage the file's bytes."""
    if draw(st.booleans()):
        return draw(damaged(PARAMS[:900].encode()))
    params = yaml.safe_load(PARAMS)
    section = draw(st.sampled_from(sorted(params)))
    if draw(st.booleans()) or not isinstance(params[section], dict):
        params[section] = draw(VALUES)
    else:
        params[section][draw(st.sampled_from(sorted(params[section])))] = draw(VALUES)
    return yaml.safe_dump(params, allow_unicode=True).encode("utf-8", "surrogatepass")


@always_the_same
@given(parameters())
@example(PARAMS.encode())
@example(b"a: &a [*a]")
@example(b"? [1]\n: 2")
def test_parameters(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_bytes(content)
    with refused_at_most(path.parent):
        read_params(path)


# Images


def encoded(mode: str, suffix: str, **options: object) -> bytes:
    """Draw and encode a small picture."""
    values = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(stream, format=suffix, exif=exif, **options)
    return stream.getvalue()


WHOLE = [
    encoded("RGB", "png"),
    encoded("P", "png"),
    encoded("I;16", "png"),
    encoded("LA", "png"),
    encoded("RGB", "jpeg"),
    encoded("CMYK", "jpeg", progressive=True),
    encoded("RGB", "tiff", compression="tiff_lzw"),
    encoded("L", "tiff"),
    encoded("1", "bmp"),
]
HUGE = WHOLE[0][:16] + b"\x7f\xff\xff\xff" * 2 + WHOLE[0][24:]


@always_the_same
@given(st.sampled_from(WHOLE).flatmap(damaged))
@example(WHOLE[0])
@example(HUGE)
@example(b"")
def test_images(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "a.png"
    path.write_bytes(content)
    readers: list[Callable] = [read_header, read_rgb, lambda p: network_input(p, InputRule(8, 9))]
    for read in readers:
        with refused_at_most(path.parent), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)

"""The rooms: who may import whom, and how large a room, a file and a function may be."""

import ast
import json
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    "ad",
    "integer",
    "pretrained",
    "validation",
    "cluster",
    "line",
    "pages",
    "notebooks",
    "studies",
    "embedded",
    "tools",
    "benchmarks",
)
OUTSIDE = {"yaml", "dvc", "papermill", "nbformat", "IPython"}  # of no concern to the method
BELOW = {"ad", "integer", "pretrained", "validation"}  # what every room above may enter
AD_LINES, FILE_LINES, BODY_LINES, PARAMETERS = 2500, 300, 50, 7


def sources(room: str) -> list[Path]:
    """List a room's modules and notebooks."""
    return sorted(p for kind in ("*.py", "*.ipynb") for p in (ROOT / room).rglob(kind))


def tree_of(path: Path) -> ast.Module:
    """Parse a module, or the code of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    return ast.parse(text)


def imported(path: Path) -> Iterator[str]:
    """Give the dotted names that a source imports, wherever in it."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str:
    """Name the room that an import enters; each study is one of its own."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "studies" else parts[0]


def allowed(path: Path) -> set[str]:
    """Name the rooms that a source may enter."""
    room, *inside = path.relative_to(ROOT).parts
    if room == "studies" and len(inside) > 1:
        return {*BELOW, "cluster", "pages", "studies.shared", f"studies.{inside[0]}"}
    if path == ROOT / "ad" / "inspect.py":  # the door to the line
        return {"line"}
    rooms = {
        "ad": BELOW,
        "integer": {"integer"},
        "pretrained": {"pretrained"},
        "validation": {"validation"},
        "cluster": {"cluster"},
        "embedded": {*BELOW, "embedded"},
        "benchmarks": {*ROOMS, "studies.shared", "studies.scale"},
    }
    return rooms.get(room, {*BELOW, "line", "pages", room})


EVERY_SOURCE = [path for room in ROOMS for path in sources(room)]


@pytest.mark.parametrize("path", EVERY_SOURCE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_one_way(path):
    ours = {room_of(name) for name in imported(path) if name.split(".")[0] in ROOMS}
    assert ours <= allowed(path), f"enters {sorted(ours - allowed(path))}"


def test_the_method_knows_nothing_of_its_surroundings():
    for path in sources("ad"):
        roots = {name.partition(".")[0] for name in imported(path)}
        assert not roots & OUTSIDE, f"{path.name} imports {roots & OUTSIDE}"
        assert "matplotlib" not in roots, f"{path.name} draws"


@pytest.mark.parametrize("room", ["ad", "integer", "line", "pages", "studies", "tools", "embedded"])
def test_no_circle(room):
    graph = {}
    for path in sources(room):
        module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        names = {name for full in imported(path) for name in (full, full.rpartition(".")[0])}
        files = {name for name in names if (ROOT / f"{name.replace('.', '/')}.py").is_file()}
        graph[module] = files - {module}
    assert list(TopologicalSorter(graph).static_order())  # a circle raises


def test_the_method_stays_small():
    lines = {
        path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in sources("ad")
    }
    assert sum(lines.values()) <= AD_LINES, f"{sum(lines.values())} lines in ad/"


# The renderer draws its scene in long formulas; it is no part of the method.
MODULES = [p for p in EVERY_SOURCE if p.suffix == ".py" and "renderer" not in p.parts]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_and_functions_are_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef):
            continue
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        assert len([n for n in names if n not in ("self", "cls")]) <= PARAMETERS, node.name
        body = node.body[1:] if ast.get_docstring(node) else node.body
        length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        assert length <= BODY_LINES, f"{node.name} has {length} lines"

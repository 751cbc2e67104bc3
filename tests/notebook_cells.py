"""Run a notebook's cells in this process: a kernel of its own takes seconds to start."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pytest


def code(notebook: Path) -> list[str]:
    """Return the sources of a notebook's code cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cells(
    notebook: Path,
    parameters: Mapping[str, object],
    monkeypatch: pytest.MonkeyPatch,
    *,
    drawn: bool = True,
) -> list[str]:
    """Run a notebook where it lies; return what the last expressions of its cells say.

    Not ``drawn``, cells that end in a figure are left out.
    """
    monkeypatch.chdir(notebook.parent)
    plt.switch_backend("Agg")  # no window
    names: dict[str, object] = {}
    shown = []
    for number, text in enumerate(code(notebook)):
        if not drawn and text.endswith("plt.show()"):
            continue
        tree = ast.parse(text)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, notebook.name, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), notebook.name, "eval"), names)
            shown.append(getattr(value, "data", None) or "")
        if number == 0:
            names |= {name: value for name, value in parameters.items() if name in names}
    plt.close("all")
    return shown

"""What a run's page keeps, and what of the machine it drops."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tools.run_notebook import settle


def page(tmp_path: Path, *, version: str, count: int, said: str, warned: str) -> Path:
    """Write what papermill leaves: one cell with what it printed, and the machine's marks."""
    outputs = [
        new_output("stream", name="stdout", text=said),
        new_output("stream", name="stderr", text=warned),
    ]
    marks = {"execution": {"started": f"2026-01-0{count}"}, "papermill": {"duration": count}}
    cell = new_code_cell("print(score)", outputs=outputs, id=f"id-{count}", metadata=marks)
    language = {"name": "python", "pygments_lexer": "ipython3", "version": version}
    metadata = {"language_info": language, "papermill": {"duration": count}}
    path = tmp_path / f"{version}-{count}.ipynb"
    nbformat.write(new_notebook(cells=[cell], metadata=metadata), path)
    return path


@pytest.mark.parametrize(
    "said",
    ["F1 0.889\n", "<object at 0x7f31c2aa9b50>\n", "/tmp/ipykernel_417/3.py\n"],
    ids=["figure", "address", "process"],
)
def test_equal_runs_on_two_machines_give_equal_pages(tmp_path, said):
    other = said.replace("7f31c2aa9b50", "7e00d0a1c3f4").replace("417", "9")
    one = page(tmp_path, version="3.11.7", count=1, said=said, warned="1 %")
    two = page(tmp_path, version="3.11.2", count=2, said=other, warned="99 %")
    assert settle(one) == settle(two)
    assert "3.11" not in settle(one)


def test_another_result_gives_another_page(tmp_path):
    one = page(tmp_path, version="3.11.7", count=1, said="F1 0.889\n", warned="")
    two = page(tmp_path, version="3.11.7", count=2, said="F1 0.890\n", warned="")
    assert settle(one) != settle(two)
    assert "F1 0.889" in settle(one)


def test_where_the_tree_lies_does_not_show(tmp_path, monkeypatch):
    pages = []
    for name in ("one", "두 번째 tree"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        path = page(folder, version="3.11.7", count=1, said=f"{folder}/data\n", warned="")
        pages.append(settle(path))
    assert pages[0] == pages[1]

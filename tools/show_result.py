"""Print a run's result in a few lines, and where to look next.

Usage: python -m tools.show_result
"""

from pathlib import Path

from ad.files import read_json


def main() -> None:
    """Print the result of the last run."""
    summary = read_json(Path("metrics/evaluate.json"))
    inputs = read_json(Path("artifacts/inputs.json"))
    print()
    if inputs["weights"]["source"] == "random":
        print("RANDOM WEIGHTS: the figures mean nothing.")
    if inputs["data"]["synthetic"]:
        print("Synthetic images, drawn by this repository.")
    for key in ("image_auroc", "f1", "threshold"):
        if key in summary:
            print(f"{key:12} {summary[key]:.3f}")
    print(f"{'flagged':12} {summary['n_flagged']} of {summary['n_test']}")
    print("Open reports/index.html in a browser.")


if __name__ == "__main__":
    main()

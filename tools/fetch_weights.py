"""Fetch timm's pretrained weights on a connected machine, for use on another.

Writes weights/<name>.<tag>.safetensors, and beside it a note of the hub's commit and the SHA-256;
carry both to the other machine's weights/, where backbone.weights: hub finds them.
"""

import argparse
from pathlib import Path

from ad.files import read_json
from ad.weights import hub_weights

FOLDER = Path("weights")
TEAM = ("wide_resnet101_2", "resnet50", "efficientnet_b1", "densenet121")  # of the team's report


def main(arguments: list[str] | None = None) -> None:
    """Fetch each network's file, unless it is here, and print its hash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=TEAM, help="timm models; default: %(default)s")
    try:
        for name in parser.parse_args(arguments).names:
            path = hub_weights(name, FOLDER)
            note = read_json(path.with_name(f"{path.name}.json"))
            print(f"{path}  commit {note['revision']}  SHA-256 {note['sha256']}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

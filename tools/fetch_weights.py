"""Fetch timm's pretrained weights on a connected machine, for use on another.

Writes weights/<name>.<tag>.safetensors; carry the files to the other machine's weights/. The
backbone study finds them there; for the pipeline set backbone.weights to one.
"""

import argparse
import shutil
from pathlib import Path

from ad.determinism import sha256_file
from ad.files import atomic_path
from ad.weights import empty_model, hub_weights

FOLDER = Path("weights")
TEAM = ("wide_resnet101_2", "resnet50", "efficientnet_b1", "densenet121")  # of the team's report


def main(arguments: list[str] | None = None) -> None:
    """Fetch each network's file, unless it is here, and print its hash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=TEAM, help="timm models; default: %(default)s")
    try:
        for name in parser.parse_args(arguments).names:
            tag = empty_model(name).pretrained_cfg.get("tag")
            target = FOLDER / f"{name}{f'.{tag}' if tag else ''}.safetensors"
            if not target.is_file():
                with atomic_path(target) as partial:
                    shutil.copyfile(hub_weights(name), partial)
            print(f"{target}  SHA-256 {sha256_file(target)}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

"""Fetch timm's pretrained weights on a connected machine, for use on another.

Usage: python -m tools.fetch_weights [BACKBONE ...]

Writes weights/<name>.<tag>.safetensors; carry the files to the other machine's weights/ and set
backbone.weights to one. Without names it fetches those of the backbone study.
"""

import shutil
import sys
from pathlib import Path

import timm

from ad.backbone import hub_weights
from ad.determinism import sha256_file
from ad.files import atomic_path

STUDY = ("wide_resnet101_2", "resnet50", "efficientnet_b1", "densenet121", "resnet18")


def main(names: list[str]) -> None:
    """Fetch each network's file and print its hash."""
    for name in names or STUDY:
        try:
            if not timm.is_model(name):
                raise ValueError(f"{name!r} is no timm model")
            model = timm.create_model(name, pretrained=False)
            target = Path("weights") / f"{name}.{model.pretrained_cfg['tag']}.safetensors"
            if not target.exists():
                with atomic_path(target) as partial:
                    shutil.copyfile(hub_weights(model, name), partial)
        except (ValueError, OSError) as error:
            raise SystemExit(f"error: {error}") from None
        print(f"{target}  SHA-256 {sha256_file(target)}")


if __name__ == "__main__":
    main(sys.argv[1:])

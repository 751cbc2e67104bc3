"""Fetch timm's pretrained weights on a connected machine, for use on another.

Usage: python -m tools.fetch_weights [BACKBONE ...]

Writes weights/<name>.<tag>.safetensors; carry the files to the other machine's weights/. The
backbone study finds them there; for the pipeline set backbone.weights to one. Without names it
fetches all of the backbone study (backbones.names in params.yaml) that weights/ does not hold.
"""

import shutil
import sys
from pathlib import Path

from ad.backbone import hub_weights
from ad.determinism import sha256_file
from ad.files import atomic_path
from studies.backbones.cost import empty_model, weights_files
from tools.check_inputs import read_params

FOLDER = Path("weights")


def main(names: list[str]) -> None:
    """Fetch each network's file and print its hash."""
    if names[:1] in (["-h"], ["--help"]):
        raise SystemExit(__doc__)
    try:
        for name in names or read_params(Path("params.yaml"))["backbones"]["names"]:
            files = weights_files(name, FOLDER)
            # Our own file is enough for the study; who names a network wants timm's.
            usable = [p for p in files if not (names and p.name.startswith("embedded_"))]
            present = [path for path in usable if path.is_file()]
            target = present[0] if present else files[-2]
            if not present:
                with atomic_path(target) as partial:
                    shutil.copyfile(hub_weights(empty_model(name), name), partial)
            print(f"{target}  SHA-256 {sha256_file(target)}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])

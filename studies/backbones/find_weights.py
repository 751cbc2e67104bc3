"""Say for each network of the study where its weights are.

Writes artifacts/studies/backbone_weights/<name>.json: a file and its SHA-256, or why there is none.
Runs every time, because files may have come into weights/.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ad.files import write_json
from studies.shared.networks import find_weights

FOLDER = Path("artifacts/studies/backbone_weights")


def main(parameters: Mapping[str, object]) -> None:
    """Look for the weights of every name in the study's parameters."""
    for name in parameters["backbones_names"]:
        own = parameters["backbone_weights"] if name == parameters["backbone_name"] else None
        source = parameters["backbones_weights"]
        found = find_weights(name, Path("weights"), source=source, configured=own)
        write_json(FOLDER / f"{name}.json", asdict(found))

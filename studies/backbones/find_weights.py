"""Say for each network of the backbone study where its weights are.

Usage: python -m studies.backbones.find_weights

Writes artifacts/studies/backbone_weights/<name>.json: a file and its SHA-256, or why there is none.
Runs every time, because files may have come into weights/.
"""

from dataclasses import asdict
from pathlib import Path

from studies.backbones.cost import find_weights
from ad.files import write_json
from tools.check_inputs import read_params

FOLDER = Path("artifacts/studies/backbone_weights")


def main() -> None:
    """Look for the weights of every name in params.yaml."""
    try:
        params = read_params(Path("params.yaml"))
        settings, own = params["backbones"], params["backbone"]
        for name in settings["names"]:
            configured = own["weights"] if name == own["name"] else None
            found = find_weights(
                name, Path("weights"), source=settings["weights"], configured=configured
            )
            write_json(FOLDER / f"{name}.json", asdict(found))
            print(f"{name}: {found.missing or found.weights}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

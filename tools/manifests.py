"""Look at several folders of images and write a manifest of each.

Usage: python -m tools.manifests PARAMS.yaml OUT      ``folders`` of the parameters names them
"""

import re
import sys
from pathlib import Path

from ad.dataset import write_manifest
from tools.parameters import read_yaml
from tools.scan import scan
from tools.stage import stage_command


def main(params: Path, out: Path) -> None:
    """Scan every folder; one that is damaged stops with a line."""
    folders = read_yaml(params)["folders"]
    for folder in folders:
        name = re.sub(r"[^\w.-]+", "_", folder).strip("_")
        try:
            records = scan(Path(folder))
        except (ValueError, OSError) as error:
            raise SystemExit(f"error: folders: {folder}: {error}") from None
        write_manifest(out / f"{name}.csv", records)
    print(f"sweep: {len(folders)} folders")


if __name__ == "__main__":
    with stage_command():
        main(*map(Path, sys.argv[1:3]))

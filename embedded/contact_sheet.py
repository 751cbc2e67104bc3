"""Show a rendered set on one sheet: a row of normals, then ten pictures and masks a defect.

Usage: ``python -m embedded.contact_sheet data embedded/data_card.png``.
"""

import argparse
from pathlib import Path

from PIL import Image

from ad.files import atomic_path
from embedded.renderer.defects import DEFECTS, N_VARIANTS

TILE, STEP = 112, 116  # pixels


def contact_sheet(root: Path) -> Image.Image:
    """Put pictures of the set in ``root`` on a sheet, each class from plain to subtle."""
    rows = [sorted((root / "test/good").iterdir())]
    for kind in DEFECTS:
        rows += [sorted((root / part / kind).iterdir()) for part in ("test", "ground_truth")]
    sheet = Image.new("RGB", (N_VARIANTS * STEP, len(rows) * STEP), "white")
    for y, row in enumerate(rows):
        for x, path in enumerate(row[:N_VARIANTS]):
            with Image.open(path) as image:
                tile = image.convert("RGB").resize((TILE, TILE), Image.Resampling.BILINEAR)
            sheet.paste(tile, (x * STEP + 2, y * STEP + 2))
    return sheet


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a set in MVTec AD layout, with masks")
    parser.add_argument("output", type=Path, help="picture to write, PNG")
    options = parser.parse_args(arguments)
    with atomic_path(options.output) as partial:
        contact_sheet(options.folder).quantize(256).save(partial, format="PNG", optimize=True)


if __name__ == "__main__":
    main()

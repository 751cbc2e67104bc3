"""Tables to files and back, every float exactly."""

from pathlib import Path

import pandas as pd

from ad.files import write_text


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as CSV; floats keep the digits that bring them back exactly."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_table(path: str | Path) -> pd.DataFrame:
    """Read what `write_table` wrote, every float exactly; ``id`` and ``defect`` are texts."""
    return pd.read_csv(
        path,
        dtype={"id": str, "defect": str, "label": "Int64"},
        keep_default_na=False,  # an image may be called NA
        na_values={"label": [""]},
    )

"""How results are shown: lines of JSON, a table, a CSV file, a page for a shift leader."""

import codecs
import csv
import html
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from ad.files import append_whole, open_alone, write_text
from ad.images import shown

Row = Mapping[str, object]
TABLE = "{:<8} {:>14} {:>8} {:>7} {:>9}  {:<26} {}"
HEADER = TABLE.format("decision", "score", "p-value", "share", "ms", "regions, the first", "image")
# What follows the number of regions is of the one with the largest score.
BOX = ("left", "top", "right", "bottom")
COLUMNS = ("id", "decision", "score", "p_value", "regions", *BOX, "area", "share", "error")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Inspection</title>
<style>
body {{ font: 1rem sans-serif; margin: 2rem }}
td, th {{ padding: 0.3rem 1rem; text-align: left }}
img {{ max-width: 20rem }}
</style>
<h1>Inspection</h1>
<p>{summary} All are in <a href="results.csv">results.csv</a>. A frame is a region above the patch
threshold; a share above 1 flags a picture.</p>
<table>
<tr><th>Picture<th>Decision<th>Score<th>p-value<th>Regions<th>Map
{rows}
</table>
"""


def note(text: str) -> None:
    """Say something beside the results."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def json_line(row: Row) -> str:
    """Write a line in ASCII: no terminal, log or code page misreads it."""
    return json.dumps(row, allow_nan=False)


def in_words(row: Row) -> str:
    """Write a line of the table."""
    if "error" in row:
        reason, name = str(row["error"]), str(row["id"])
        words = reason if reason.startswith(name) else f"{name}: {reason}"
        return TABLE.format(row["decision"], "", "", "", "", "", shown(words))
    regions = row["regions"]
    box = "{},{} to {},{}".format(*regions[0]["box"]) if regions else ""
    return TABLE.format(
        row["decision"],
        f"{row['score']:,.1f}",
        f"{row['p_value']:.3f}",
        f"{regions[0]['share']:.2f}" if regions else "",
        row["milliseconds"],
        f"{len(regions)}: {box}" if regions else "0",
        shown(row["id"]),
    )


def cells(row: Row) -> list[object]:
    """Write a line of the CSV file; no cell is a formula for a spreadsheet."""
    first = (row.get("regions") or [{}])[0]
    texts = [shown(row[name]) if name in row else "" for name in ("id", "error")]
    name, error = (f"./{text}" if text[:1] in tuple("=+-@") else text for text in texts)
    numbers = [row.get("score"), row.get("p_value"), len(row.get("regions", ()))]
    of_first = [*first.get("box", [None] * 4), first.get("area"), first.get("share")]
    return [name, row["decision"], *numbers, *of_first, error]


def csv_text(lines: Iterable[Iterable[object]]) -> bytes:
    """Write lines of a CSV file."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue().encode()


class Outputs:
    """Where results go, beside the results' file of a watch.

    Parameters
    ----------
    table : bool
        A table for people on standard output, no JSON.
    report : path, optional
        Folder of a page with all that did not pass, and of a CSV file of all results; both are
        written anew.
    earlier : iterable of rows
        Results of a watch before its restart.
    """

    def __init__(
        self, *, table: bool = False, report: Path | None = None, earlier: Iterable[Row] = ()
    ) -> None:
        self.table, self.report = table, report
        self.inspected, self.notable, self.page_at = 0, [], -math.inf
        if report is not None:
            page = report / "index.html"
            if page.is_file() and b"<title>Inspection</title>" not in page.read_bytes():
                raise ValueError(f"{page}: not a page of this command; name another --report")
            self.sheet = open_alone(report / "results.csv")
            os.ftruncate(self.sheet, 0)
            # Spreadsheets take UTF-8 for what it is by its mark alone.
            lines = [cells(self._noted(row)) for row in earlier]
            append_whole(self.sheet, codecs.BOM_UTF8 + csv_text([COLUMNS, *lines]))
            self.write_page()
        if table:
            print(HEADER, flush=True)

    def keep(self, row: Row) -> None:
        """Add a result to the CSV file, and to the page when it is next written."""
        if self.report is not None:
            append_whole(self.sheet, csv_text([cells(row)]))
            self._noted(row)

    def _noted(self, row: Row) -> Row:
        self.inspected += 1
        if row["decision"] != "pass":
            self.notable.append(row)
        return row

    def close(self) -> None:
        """Write the page, and leave the files to others."""
        if self.report is not None:
            self.write_page()
            os.close(self.sheet)

    def show(self, row: Row) -> None:
        """Print a result."""
        print(in_words(row) if self.table else json_line(row), flush=True)

    def write_page(self, pause: float = 0.0) -> None:
        """Write the page, unless it was written less than ``pause`` seconds ago."""
        if self.report is None or time.monotonic() - self.page_at < pause:
            return
        summary = f"{self.inspected} pictures inspected, {len(self.notable)} did not pass."
        rows = "\n".join(map(page_row, self.notable))
        write_text(self.report / "index.html", PAGE.format(summary=summary, rows=rows))
        self.page_at = time.monotonic()


def page_row(row: Row) -> str:
    """Write a line of the page."""
    if "error" in row:
        values = ["", "", row["error"], ""]
    else:
        found = [
            "{},{} to {},{}, {} px, share {:.2f}".format(*own["box"], own["area"], own["share"])
            for own in row["regions"]
        ]
        values = [f"{row['score']:,.1f}", f"{row['p_value']:.3f}", "; ".join(found)]
        values.append(row.get("map_error", ""))
    texts = [row["id"], row["decision"], *values]
    line = "".join(f"<td>{html.escape(shown(text))}" for text in texts)
    if "map" in row:
        line += f'<img loading="lazy" alt="" src="maps/{quote(Path(row["map"]).name)}">'
    return f"<tr>{line}"

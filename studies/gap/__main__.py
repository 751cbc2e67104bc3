"""Record a run in one small file, and say where two runs' records part first.

Usage:
    python -m studies.gap record OUT.json [--root FOLDER] [--data FOLDER]
    python -m studies.gap compare A.json B.json [--figure OUT.png]

``record`` reads a finished run's artifacts/ below the root, and the images' folder; other
implementations write theirs with studies/gap/write_record.py.  ``compare`` prints one page; its
exit code is 0 where nothing parts and 1 where something does.  A record holds hashes and numbers,
no images, and is small enough for mail.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from studies.gap.compare import compare_records, page, save_comparison
from studies.gap.record import read_record
from studies.gap.recorder import record_run
from studies.gap.write_record import write_record


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.gap", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="describe the finished run in one file")
    record.add_argument("out", type=Path)
    record.add_argument("--root", type=Path, default=Path(), help="folder that holds artifacts/")
    record.add_argument("--data", type=Path, default=Path("data"), help="folder of the images")
    compare = commands.add_parser("compare", help="say where two runs part first")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    compare.add_argument("--figure", type=Path, help="draw the comparison, too")
    options = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):  # a Windows console may lack an id's letters
        sys.stdout.reconfigure(errors="replace")
    try:
        if options.command == "record":
            found = record_run(options.root, data=options.data)
            write_record(options.out, found.model_dump(exclude_none=True))
            print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")
            return 0
        a, b = read_record(options.a), read_record(options.b)
        result = compare_records(a, b)
        sys.stdout.write(page(result, a, b))
        if options.figure:
            save_comparison(options.figure, result, a, b)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return int(result.first is not None)


if __name__ == "__main__":
    sys.exit(main())

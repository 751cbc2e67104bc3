"""Record a run in one small file, and say where two runs part first.

python -m studies.gap record run.json        describe the finished run of this folder
python -m studies.gap compare a.json b.json  one page; exit code 1 where something parts
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ad.images import shown
from studies.gap.compare import causes, compare_records, page, read_record
from studies.gap.records import record_run, write_record


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.gap", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="describe the finished run in one file")
    record.add_argument("out", type=Path)
    record.add_argument("--root", type=Path, default=Path(), help="folder that holds artifacts/")
    record.add_argument("--data", type=Path, default=Path("data"), help="folder of the images")
    compare = commands.add_parser("compare", help="say where two runs part first")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "record":
            write_record(options.out, record_run(options.root, options.root / options.data))
            print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")
            return 0
        a, b = read_record(options.a), read_record(options.b)
    except (ValueError, OSError) as error:
        print(f"error: {shown(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    sys.stdout.reconfigure(errors="replace")  # a Windows console may lack an id's letters
    print(page(a, b), end="")
    return int(bool(causes(compare_records(a, b))))


if __name__ == "__main__":
    sys.exit(main())

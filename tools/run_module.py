"""Run a module as a DVC stage: its ``main`` gets the stage's parameters.

Usage: python -m tools.run_module MODULE [key=value ...]
"""

import importlib
import os
import sys

from tools.parameters import stage_parameters
from tools.stage import stage_command
from tools.unchanged import STAGE


def main(arguments: list[str]) -> None:
    """Run the module; what is wrong with its inputs is one line."""
    if not arguments:
        raise SystemExit(__doc__)
    name, *extra = arguments
    try:
        parameters = stage_parameters(os.environ.get(STAGE, ""), extra)
        print(" ".join([name, *extra]), flush=True)
        importlib.import_module(name).main(parameters)
    except (ValueError, OSError, MemoryError) as error:
        raise SystemExit(f"error: {name}: {error}") from None


if __name__ == "__main__":
    with stage_command():
        main(sys.argv[1:])

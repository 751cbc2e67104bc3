"""Run a study's command as a stage.

Usage: python -m tools.run_module studies.sweep

Like a notebook's stage it stops cleanly, and fails when its parameters or code changed meanwhile.
"""

import os
import runpy
import sys

from tools.stage import stage_command

if __name__ == "__main__":
    # Threads that wait by spinning make a run on busy cores a hundred times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with stage_command():
        runpy.run_module(sys.argv[1], run_name="__main__")

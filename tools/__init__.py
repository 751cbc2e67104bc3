"""Commands beside the library: stages' runner, checks, reports, data and weights."""

import gc
import os
import signal
import sys

# nbformat's JSON schema checks take this where it is there, for addresses that no notebook has;
# its import takes 1.5 s of every stage.
sys.modules.setdefault("rfc3987_syntax", None)


def _stop(*_unused: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(130)


# Imports make half a million objects; to look through them for cycles as often as by default takes
# a second of a command, or of a notebook's kernel, with timm in it.
FEW_COLLECTIONS = 10_000

if sys.argv[0] == "-m":
    gc.set_threshold(FEW_COLLECTIONS)
    # A command imports for seconds before it starts, and has nothing to put in order until then
    # (tools.stage.stoppable takes over); the default is a stack trace from inside a library.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)

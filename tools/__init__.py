"""Commands beside the library: stages' runner, checks, reports, data and weights."""

import os
import signal
import sys

# nbformat's JSON schema checks take this where it is there, for addresses that no notebook has;
# its import takes 1.5 s of every stage.
sys.modules.setdefault("rfc3987_syntax", None)


def _stop(*_unused: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(130)


# A command imports for seconds before it starts, and has nothing to put in order until then
# (tools.stage.stoppable takes over); the default is a stack trace from inside a library.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)

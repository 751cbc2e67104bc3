"""Commands beside the library: the stages' runner, pages, data, weights, sweeps."""

import sys

# nbformat's schema checks take this where it is there, for addresses that no notebook has; its
# import takes over a second of every process.
sys.modules.setdefault("rfc3987_syntax", None)

"""Commands beside the library: stages' runner, checks, reports, data and weights."""

import sys

# nbformat's JSON schema checks take this where it is there, for addresses that no notebook has;
# its import takes 1.5 s of every stage.
sys.modules.setdefault("rfc3987_syntax", None)

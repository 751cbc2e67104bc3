"""`python -m studies.gap record run.json`, `... compare a.json b.json`; see records.py."""

import sys

from studies.gap.records import main

sys.exit(main())

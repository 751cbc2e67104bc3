"""Why the same code scored 1 on one system and 0.44 on another: see 21_gap.ipynb."""

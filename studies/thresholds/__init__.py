"""Which threshold rule keeps its promise on new cells: see 12_thresholds.ipynb."""

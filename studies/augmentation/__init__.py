"""Which changed copies of normals help, and which hide defects."""

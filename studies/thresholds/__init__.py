"""Which threshold rule keeps its promise on unseen normals."""

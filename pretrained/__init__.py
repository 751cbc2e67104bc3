"""Where a network's weights come from, and how they get into it."""

"""Why two systems reported different scores, and what the printed values can come from."""

"""Why the same code scored F1 = 1 on one system and 0.44 on another."""

"""Procedural renderer of a TO-92 transistor on strip board, with masks of its defects."""

"""What people are shown of a run: figures, tables, sentences, the environment."""

"""The studies: one package each, deletable on its own."""

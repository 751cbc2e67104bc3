"""The studies, a package each; they use `ad`, and `ad` knows nothing of them."""

"""Settings chosen without labels and with them, on cells of two kinds: see 14_settings.ipynb."""

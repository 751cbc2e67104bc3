"""Many categories, settings and seeds in one command, here or on a cluster."""

"""One very large bank: features in shards, selection and search over them, here or on a cluster."""

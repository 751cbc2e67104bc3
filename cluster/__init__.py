"""Where tasks run: here, or on Dask; imports nothing of the other rooms."""

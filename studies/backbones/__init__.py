"""Other networks, and the default beside other settings, cells and methods."""

"""How few dimensions will do, and whether ReConPatch helps."""

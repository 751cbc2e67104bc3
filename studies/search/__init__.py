"""How far a search without labels gets."""

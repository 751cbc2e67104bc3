"""How few dimensions will do, and does ReConPatch help?"""

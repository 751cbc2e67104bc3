"""How far does a search without labels get?"""

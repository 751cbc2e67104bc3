"""Nothing in here must be read to understand PatchCore: exact arithmetic, the same bits everywhere.

``features.make_whole`` turns a timm network and normal images into a network of whole numbers and
features of one byte; ``network.Runner`` runs it.  ``products`` and ``resizing`` are exact, too.
"""

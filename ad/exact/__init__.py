"""Exact arithmetic: the same bits on every processor, engine, thread count and runtime.

``features.make_whole`` turns a timm network and normal images into a network of whole numbers and
features of one byte; ``quantize.to_integer`` makes the network, ``network.Runner`` runs it.
``products`` and ``resizing`` are exact, too.  Nothing here knows of anomalies.
"""

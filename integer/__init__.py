"""Convolutional networks as whole numbers: the same bits on every processor, engine and runtime.

``quantize.to_integer`` makes one from a timm network and normal images, ``network.Runner`` runs it.
The pipeline does not use it yet.
"""

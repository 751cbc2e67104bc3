"""Anomaly detection on frozen patch features: PatchCore from image to F1.

The modules in the order in which the data pass through them: ``params``, ``dataset``,
``images``, ``backbone``, ``features``, ``coreset``, ``neighbors``, ``memory_bank``, ``threshold``,
``localization``, ``metrics``, ``plots``.  ``determinism``, ``parallel``, ``files``
and ``progress`` serve all.
"""

__version__ = "0.2.0"

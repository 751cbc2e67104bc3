"""Anomaly detection on frozen patch features: PatchCore from image to F1.

In the order of the data: ``data``, ``layouts``, ``scan``, ``images``, ``backbone``, ``features``,
``extraction``, ``coreset``, ``neighbors``, ``scores``, ``thresholds``, ``protocol`` (`run_protocol`
is all of it), ``localization``, ``evaluation``.  ``params`` holds the settings, ``exact`` the
whole-number arithmetic, ``detector`` the file for a line.
"""

__version__ = "0.2.0"

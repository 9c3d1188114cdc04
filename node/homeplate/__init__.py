"""Homeplate: the licence plate reader (ALPR) node that keeps plates home."""

__version__ = "0.1.0"

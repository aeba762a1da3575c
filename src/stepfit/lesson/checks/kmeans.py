"""Judges of the exercises 2.1 and on: k-means."""

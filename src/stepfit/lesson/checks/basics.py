"""Judges of the exercises 1.1 and on: PyTorch basics."""

"""Judges of the exercises 3.1 and on: linear and logistic regression."""

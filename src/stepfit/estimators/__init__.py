"""Estimators with scikit-learn's conventions; what they run is the same iterators of steps."""

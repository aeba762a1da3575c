"""Gradient descent: one engine for any model, loss and optimizer."""

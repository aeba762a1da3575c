"""Watchers of steps: progress, figures, animations, traces for the player. None of them computes."""

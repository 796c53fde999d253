"""Measurements: speed, memory, and quality for training time."""

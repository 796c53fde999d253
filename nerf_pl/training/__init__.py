"""Training: from options to checkpoints, driven by Lightning."""

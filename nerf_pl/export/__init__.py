"""What other programs can open: a mesh of a trained model."""

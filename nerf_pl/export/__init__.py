"""What other programs can open: a mesh of a trained model, and a page for browsers."""

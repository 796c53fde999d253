"""What other programs can open: meshes, points and cameras of a trained model, and a page for browsers."""

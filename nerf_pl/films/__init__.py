"""Films of a trained model along camera paths."""

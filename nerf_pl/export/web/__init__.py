"""A page that shows a trained model in any browser: the model is baked into a sparse grid, which a shader marches."""

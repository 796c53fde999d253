"""Evaluation of a trained model: pictures, scores and a page that shows them."""

from nerf_pl.evaluation.views import Output, evaluate

__all__ = ["Output", "evaluate"]

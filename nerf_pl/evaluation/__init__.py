"""Evaluation of a trained model: pictures and their scores."""

from nerf_pl.evaluation.views import Output, evaluate, kind_of_pictures

__all__ = ["Output", "evaluate", "kind_of_pictures"]

"""Checkpoints: files that are read without running code, and models made from them."""

from nerf_pl.checkpoints.begun import as_begun, begun_with, clashes_told
from nerf_pl.checkpoints.files import read_checkpoint, read_own_checkpoint, stamp_of, write_checkpoint
from nerf_pl.checkpoints.models import Run, facts, find_checkpoint, load_model, open_run, save_model, save_portable
from nerf_pl.checkpoints.portable import SUFFIX, is_portable
from nerf_pl.checkpoints.splits import load_cameras, load_split, load_training
from nerf_pl.checkpoints.views import frame_in, require_frame, require_same_views
from nerf_pl.checkpoints.weights import compare, load_weights, stored_config

__all__ = [
    "SUFFIX", "Run", "as_begun", "begun_with", "clashes_told", "compare", "facts", "find_checkpoint", "frame_in",
    "is_portable", "load_cameras", "load_model", "load_split", "load_training", "load_weights", "open_run",
    "read_checkpoint", "read_own_checkpoint", "require_frame", "require_same_views", "save_model", "save_portable",
    "stamp_of", "stored_config", "write_checkpoint",
]  # fmt: skip

"""Many trainings from one command: each with its evaluation in processes of its own, and one table of all scores."""

from nerf_pl.sweep.board import Board
from nerf_pl.sweep.jobs import Job, labels_of
from nerf_pl.sweep.queue import work_through
from nerf_pl.sweep.same import require_same_options, require_same_scenes
from nerf_pl.sweep.scores import (
    DONE,
    FAILED,
    STOPPED,
    TABLE,
    VALUES,
    Row,
    markdown,
    means_told,
    planned,
    read_rows,
    row_of,
    scored,
    split_to_score,
    versions_told,
    weights_of,
    write_scores,
)
from nerf_pl.sweep.slots import Slot, slots_of
from nerf_pl.sweep.worker import Worker

__all__ = [
    "DONE", "FAILED", "STOPPED", "TABLE", "VALUES", "Board", "Job", "Row", "Slot", "Worker",
    "labels_of", "markdown", "means_told", "planned", "read_rows", "require_same_options", "require_same_scenes",
    "row_of", "scored", "slots_of", "split_to_score", "versions_told", "weights_of", "work_through", "write_scores",
]  # fmt: skip

"""Every option has one home, one name and one default.

The command line is made from these classes, a run stores them in its checkpoint, and the code receives their values as
arguments. Names keep the classic spelling. A method's own options are in its folder.
"""

from nerf_pl.options.config import Config, ModelOptions, Resume, RunFolders, to_dict
from nerf_pl.options.kind import SceneKind
from nerf_pl.options.ranges import Options, differing, fixed_in_a_run, sizes_for
from nerf_pl.options.shared import EPOCHS, MOST_RAYS, DataOptions, OptimOptions, TrainOptions

__all__ = [
    "EPOCHS", "MOST_RAYS",
    "Config", "DataOptions", "ModelOptions", "OptimOptions", "Options", "Resume", "RunFolders", "SceneKind",
    "TrainOptions",
    "differing", "fixed_in_a_run", "sizes_for", "to_dict",
]  # fmt: skip

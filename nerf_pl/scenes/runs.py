"""What of a run is given in place of a scene."""

import json
from pathlib import Path

from nerf_pl.errors import content_of

CHECKPOINTS, LAST, SETTINGS = "checkpoints", "last.ckpt", "settings.json"  # in the folder of a run


def run_at(path: Path) -> Path | None:
    """The folder of the run that a path is of: the folder itself, its checkpoints or one of these. None if there is no
    such run."""
    beside = [path.parent] if path.name == CHECKPOINTS else []
    within = [path.parent.parent] if path.parent.name == CHECKPOINTS and path.is_file() else []
    return next((folder for folder in (path, *beside, *within) if (folder / CHECKPOINTS / LAST).is_file()), None)


def scene_of(run: Path) -> str | None:
    """The folder of the scene that a run was trained on, from its settings. None if they do not say it, or if it is
    gone."""
    try:
        scene = json.loads(content_of(run / SETTINGS))["scene"]
        return scene if Path(scene).is_dir() else None
    except (OSError, ValueError, RecursionError, TypeError, LookupError):  # damaged, or of another program
        return None

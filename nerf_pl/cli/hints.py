"""What a word that is not understood may have been meant for."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

LIKENESS = 0.6
SAME_MEANING = {
    "iters": "max_steps", "iterations": "max_steps", "n_iters": "max_steps", "max_num_iterations": "max_steps",
    "num_steps": "max_steps", "steps": "max_steps", "time": "seconds", "minutes": "seconds", "duration": "seconds",
    "name": "exp_name", "experiment_name": "exp_name", "run_name": "exp_name", "expname": "exp_name",
    "method": "methods",
    "output": "out", "output_dir": "out", "output_path": "out", "out_dir": "out", "o": "out",
    "gpu": "num_gpus", "gpus": "num_gpus", "devices": "num_gpus", "device": "num_gpus", "cpu": "num_gpus",
    "learning_rate": "lr", "bs": "batch_size", "resolution": "img_wh", "size": "img_wh", "width": "img_wh",
    "half_res": "downscale", "factor": "downscale", "resize": "downscale", "downscale_factor": "downscale",
    "holdout": "test_every", "llffhold": "test_every", "ckpt": "ckpt_path", "load_checkpoint": "ckpt_path",
    "white_bkgd": "background", "bg_color": "background", "bound": "scale", "aabb_scale": "scale",
    "scene_scale": "scale", "continue": "resume", "restart": "overwrite", "force": "overwrite",
    "camera_path": "path", "trajectory": "path", "n_frames": "frames", "num_frames": "frames",
    "pose_refinement": "refine_poses", "optimize_poses": "refine_poses", "appearance": "fit_colours",
}  # fmt: skip
"""Names that other programs have for an option of ours."""


def meant_command(word: str, commands: Iterable[str]) -> list[str]:
    """The commands that a word is like. A folder or a film is something to train on or to prepare."""
    near = difflib.get_close_matches(word.lower(), list(commands), n=2, cutoff=LIKENESS)
    if not near and Path(word).exists():
        return [f"nerf {'train' if Path(word).is_dir() else 'prepare'} {word}"]
    return near


def meant_options(words: Iterable[str], options: Iterable[str], elsewhere: Mapping[str, str]) -> list[str]:
    """For words that begin with a dash, the options that they are like, or that other programs call so. elsewhere: the
    command that has an option."""
    known, found = list(options), []
    for word in words:
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit():
            name = word.lstrip("-").partition("=")[0].replace("-", "_")
            same = [SAME_MEANING[name]] if SAME_MEANING.get(name) in known else []
            near = [f"--{each}" for each in same or difflib.get_close_matches(name, known, n=1, cutoff=LIKENESS)]
            found += [f"{elsewhere[name]}, which has --{name}"] if name in elsewhere and not same else near
    return list(dict.fromkeys(found))

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
    "optimize_extrinsics": "refine_poses", "camera_optimizer.mode": "refine_poses",
    "optimize_exposure": "fit_colours", "use_appearance_embedding": "fit_colours",
    "n_extra_learnable_dims": "fit_colours",
    "steps_per_eval_image": "val_every", "steps_per_eval_all_images": "val_every", "steps_per_save": "save_minutes",
    "load_dir": "resume", "load_snapshot": "resume", "snapshot": "resume", "mixed_precision": "precision",
    "num_devices": "num_gpus", "device_type": "accelerator", "vis": "view", "gui": "view",
    "websocket_port": "port", "websocket_host": "host", "train_num_rays_per_batch": "batch_size",
    "eval_num_rays_per_chunk": "chunk", "near_plane": "near", "near_distance": "near", "far_plane": "far",
    "background_color": "background", "random_bg_color": "random_background", "distortion_loss_mult": "distortion",
    "disable_scene_contraction": "unbounded", "num_levels": "levels", "n_levels": "levels",
    "features_per_level": "features", "n_features_per_level": "features", "log2_hashmap_size": "log2_size",
    "base_res": "base_resolution", "max_res": "finest_resolution", "per_level_scale": "finest_resolution",
    "hidden_dim": "hidden", "n_neurons": "hidden", "hidden_dim_color": "colour_hidden",
    "eval_interval": "test_every", "eval_mode": "test_every", "scale_factor": "scale",
    "matching_method": "matcher", "colmap_matcher": "matcher", "num_frames_target": "frames", "video_fps": "frames",
    "camera_path_filename": "path", "video_camera_path": "path", "screenshot_transforms": "path",
    "video_n_seconds": "frames", "num_points": "count", "marching_cubes_res": "resolution",
    "marching_cubes_density_thresh": "threshold", "screenshot_spp": "rays_per_pixel", "video_spp": "rays_per_pixel",
    "height": "img_wh", "spheric_poses": "spheric",
}  # fmt: skip
"""Names that other programs have for an option of ours."""
FOLDERS = {"data", "scene", "root_dir", "training_data", "source_path", "datadir", "data_dir", "load_config", "run"}
"""Names that other programs, or the classic commands, have for the folder that stands alone here."""


SAME_COMMAND = {
    "compare": "report", "test": "eval", "score": "eval", "film": "render", "video": "render", "process": "prepare",
    "process_data": "prepare", "colmap": "prepare", "convert": "import", "show": "view",
}  # fmt: skip
"""What others may call a command of ours."""


def meant_command(word: str, commands: Iterable[str]) -> list[str]:
    """The commands that a word is like. A folder or a film is something to train on or to prepare."""
    if (same := SAME_COMMAND.get(word.lower().replace("-", "_"))) is not None:
        return [same]
    near = difflib.get_close_matches(word.lower(), list(commands), n=2, cutoff=LIKENESS)
    if not near and Path(word).exists():
        return [f"nerf {'train' if Path(word).is_dir() else 'prepare'} {word}"]
    return near


def meant_options(
    words: Iterable[str], options: Iterable[str], elsewhere: Mapping[str, str], takes_folder: bool = False
) -> list[str]:
    """For words that begin with a dash, the options that they are like, or that other programs call so, with parts and
    dots before the name or without. elsewhere: the command that has an option. takes_folder: whether a folder stands
    alone, without an option."""
    known, found = list(options), []
    for word in words:
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit():
            path = word.lstrip("-").partition("=")[0].replace("-", "_").split(".")
            ends = (".".join(path[i:]) for i in range(len(path)))
            meaning, name = next((SAME_MEANING[end] for end in ends if end in SAME_MEANING), ""), path[-1]
            if takes_folder and name in FOLDERS and name not in known:
                found.append(f"the folder alone, without {word.partition('=')[0]}")
                continue
            same = [meaning] if meaning in known else []
            near = [f"--{each}" for each in same or difflib.get_close_matches(name, known, n=1, cutoff=LIKENESS)]
            found += [f"{elsewhere[name]}, which has --{name}"] if name in elsewhere and not same else near
    return list(dict.fromkeys(found))

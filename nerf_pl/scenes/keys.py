"""The keys of a scene's JSON file: those that are read, those that mean nothing here, and what is said of others."""

import re
from collections.abc import Sequence
from pathlib import Path

from nerf_pl.console import warn
from nerf_pl.scenes.lenses import FISHEYE_FLAGS, FOCALS, FOREIGN, MODELS, PANORAMA_FLAG, SIZES, VAGUE
from nerf_pl.scenes.pictures import list_some

READ = {
    *(key for axis in FOCALS.values() for key in axis), *(key for side in SIZES.values() for key in side),
    *MODELS, *FISHEYE_FLAGS, PANORAMA_FLAG, *(f"k{i}" for i in range(1, 7)), "cx", "cy", "p1", "p2",
    "fisheye_crop_radius", "frames", "file_path", "mask_path", "transform_matrix", "depth_file_path",
    "integer_depth_scale", "ply_file_path", "clear_distance", "aabb_scale", "scale", "offset",
    "train_filenames", "val_filenames", "test_filenames", "depth_path", "test_frames",
}  # fmt: skip
# what other programs note for themselves: how they placed a scene, how sharp a picture is, and the like
IDLE = re.compile(
    r"_.*|rotation|sharpness|colmap_\w+|applied_\w+|orientation_override|auto_scale_\w+|up|aabb|render_aabb\w*|"
    r"(frame_)?(id|index|name|timestamp|exposure\w*|iso|aperture)|version|comments?|description|sharpen|"
    r"importance_sampling|n_extra_learnable_dims|enable_depth_loading|camera_(id|label)|is_bad|has_mask|image_(id|name)|coordinates"
)
INSTEAD = {
    "white_transparent": "--background white", "black_transparent": "--background black", "near": "--near",
    "far": "--far", "mask_color": "mask_path", "mask": "mask_path", "depth_path": "depth_file_path",
}  # fmt: skip
DEPTH, THEIR_DEPTH, DEPTH_UNIT = "depth_file_path", "depth_path", "integer_depth_scale"  # the second is Instant-NGP's
TIME = "time"


def spelled(entry: dict[str, object], shared: dict[str, object]) -> dict[str, object]:
    """A frame with the spellings of keys that are read here; one that is there already counts. shared: what the file
    says of all frames. As in Instant-NGP, depth_path counts where the file has integer_depth_scale: elsewhere it may
    name any picture."""
    if THEIR_DEPTH in entry and shared.get(DEPTH_UNIT) is not None:
        return {DEPTH: entry[THEIR_DEPTH], **entry}
    return entry


def tell_keys(path: Path, values: dict[str, object], entries: Sequence[object]) -> None:
    """Say which keys of a file and of its frames are not understood, and so change nothing. path: how messages call the
    file. So are times: a scene that moves is learned as if it stood still."""
    frames = [entry for entry in entries if isinstance(entry, dict)]
    keys = {key for each in (values, *frames) for key, value in each.items() if value not in (None, False)}
    known = {
        key for key in keys if key in READ or IDLE.fullmatch(key) or VAGUE.fullmatch(key) or FOREIGN.fullmatch(key)
    }
    if values.get(DEPTH_UNIT) is None:
        known.discard(THEIR_DEPTH)
    if other := sorted(keys - known - {TIME}):
        named = [f"{key} ({INSTEAD[key]} instead)" if key in INSTEAD else key for key in other]
        warn(f"{path}: keys that are not understood, and change nothing: {list_some(named, 6)}")
    times = {str(frame[TIME]) for frame in frames if frame.get(TIME) is not None}
    if len(times) > 1:
        warn(f"{path}: the frames are of {len(times)} times; what moves is learned as if it stood still")

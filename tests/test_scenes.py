"""What holds for scenes of every layout."""

import colmap_files
import llff_files
import pytest
import torch

from nerf_pl.scenes import detect, load_scene
from nerf_pl.scenes.demo import make_demo


@pytest.mark.parametrize("layout", ["blender", "llff", "transforms", "colmap"])
def test_cameras_without_their_pictures(tmp_path, layout):
    if layout == "llff":
        llff_files.write_scene(tmp_path, llff_files.facing())
    elif layout == "colmap":
        colmap_files.write_scene(tmp_path, "sparse/0")
    else:
        make_demo(tmp_path / "toys", size=16, n_train=3, n_val=1, n_test=1)
        (tmp_path / "toys").rename(tmp_path / layout)
        if layout == "transforms":
            (tmp_path / layout / "transforms_train.json").rename(tmp_path / layout / "transforms.json")
            for split in ("val", "test"):
                (tmp_path / layout / f"transforms_{split}.json").unlink()
    root = tmp_path / layout if layout in ("blender", "transforms") else tmp_path
    assert detect(root) == layout
    whole, bare = (load_scene(root, test_every=0, pictures=pictures) for pictures in (True, False))
    assert torch.equal(bare.cameras.c2w, whole.cameras.c2w)
    assert torch.equal(bare.cameras.K, whole.cameras.K)
    assert torch.equal(bare.aabb, whole.aabb)
    assert bare.background == whole.background
    assert bare.images.shape == whole.images.shape
    assert whole.images.any()
    assert not bare.images.any()
    assert bare.images.untyped_storage().nbytes() == 1

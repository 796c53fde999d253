"""What holds for scenes of every layout."""

import shutil
from dataclasses import replace

import colmap_files
import llff_files
import numpy as np
import pytest
import torch
from PIL import Image

from nerf_pl.cameras import Cameras, image_rays, ndc_rays
from nerf_pl.scenes import LOADERS, Request, Scene, available_splits, detect, load_scene
from nerf_pl.scenes.pictures import read_headers


@pytest.fixture(params=LOADERS)
def scene_folder(request, tmp_path, scene_dir):
    """A folder whose name is its layout."""
    root = tmp_path / request.param
    if request.param == "llff":
        llff_files.write_scene(root, llff_files.facing())
    elif request.param == "colmap":
        colmap_files.write_scene(root, "sparse/0")
    else:
        shutil.copytree(scene_dir, root)
        if request.param == "transforms":
            (root / "transforms_train.json").rename(root / "transforms.json")
            for split in ("val", "test"):
                (root / f"transforms_{split}.json").unlink()
    return root


def test_a_folder_of_every_layout(scene_folder):
    layout = scene_folder.name
    assert detect(scene_folder) == layout
    assert [name for name, loader in LOADERS.items() if loader.recognises(scene_folder)] == [layout]
    assert available_splits(scene_folder) == ("train", "val", "test")
    # cameras without their pictures
    whole, bare = (load_scene(scene_folder, Request(test_every=0, pictures=pictures)) for pictures in (True, False))
    assert torch.equal(bare.cameras.c2w, whole.cameras.c2w)
    assert torch.equal(bare.cameras.K, whole.cameras.K)
    assert torch.equal(bare.aabb, whole.aabb)
    assert bare.background == whole.background
    assert bare.images.shape == whole.images.shape
    assert whole.images.any()
    assert not bare.images.any()
    assert bare.images.untyped_storage().nbytes() == 1
    # where in its pixel a ray passes is up to the caller
    corner = load_scene(scene_folder, Request(test_every=0, pixel_offset=0.0))
    assert whole.cameras.pixel_offset == 0.5
    assert replace(corner.cameras, pixel_offset=0.5).K.equal(whole.cameras.K)
    middle, moved = whole.view(1).rays(), corner.view(1).rays(within=(0.5, 0.5))
    assert torch.equal(corner.aabb, whole.aabb)
    assert torch.equal(middle.origins, moved.origins)
    assert torch.equal(middle.directions, moved.directions)
    # how it is usually filmed
    assert whole.orbit == ((4.0, 30.0) if layout == "blender" else None)
    assert whole.surrounded is False
    assert load_scene(scene_folder, Request(spheric=True)).surrounded == (layout == "llff")


@pytest.mark.parametrize("ndc", [None, (1.2, 1.1)])
def test_a_view_is_one_camera_of_its_own_size(ndc):
    c2w = torch.cat([torch.eye(3, 4), torch.eye(3, 4) + torch.tensor([0.0, 0, 0, 0.2])]).view(2, 3, 4)
    K = torch.tensor([[9.0, 0, 3], [0, 8, 2], [0, 0, 1]]).repeat(2, 1, 1)
    K[1, 0, 0] = 7
    cameras = Cameras(c2w, K, 6, 5, 0.25, torch.tensor([[6, 4], [3, 5]]))
    images = torch.zeros(2, 5, 6, 3, dtype=torch.uint8)
    background = (0.2, 0.4, 0.6)
    scene = Scene(cameras, images, 0.5, 7.0, torch.eye(2, 3), background=background, ndc=ndc)
    for index, size in enumerate([(6, 4), (3, 5)]):
        view = scene.view(index)
        assert (view.size, view.camera.width, view.camera.height) == (size, *size)
        assert (len(view.camera), view.camera.sizes, view.camera.pixel_offset) == (1, None, 0.25)
        assert (view.near, view.far, view.ndc, view.background) == (0.5, 7.0, ndc, background)
        expected = image_rays(cameras, index, 0.5, 7.0)
        expected = expected if ndc is None else ndc_rays(expected, ndc)
        assert torch.equal(view.rays().origins, expected.origins)
        assert torch.equal(view.rays().directions, expected.directions)
        assert view.camera.c2w.untyped_storage().data_ptr() == cameras.c2w.untyped_storage().data_ptr()
    assert torch.equal(scene.view(-1).camera.K, scene.view(1).camera.K)
    with pytest.raises(IndexError):
        scene.view(2)


@pytest.mark.parametrize("kind", ["early.png", "late.png", "photo.jpg"])
def test_exif_is_found_wherever_it_stands(tmp_path, kind):
    """A PNG may have it after its pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = tmp_path / f"plain-{kind}", tmp_path / kind
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8))
    pixels.save(plain)
    pixels.save(turned, exif=exif)
    if kind == "late.png":
        data = turned.read_bytes()
        start = data.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        turned.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])  # IEND has 12 bytes
    headers = read_headers([plain, turned])
    assert headers.stored == [(6, 4), (6, 4)]
    assert headers.turns() == [1, 6]

"""What comes out in the coordinates of the scene's own file: cameras of films, and what a crop shows."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import colmap_files
import llff_files
import pytest
import torch
from llff_files import around, facing, moved, picture, similarity
from PIL import Image
from tiny import CPU, NGP_FLAGS, config, make, nerf, refused

from nerf_pl.cameras import Cameras, Crop, View, corners_of, ndc_points
from nerf_pl.checkpoints import open_run
from nerf_pl.export.region import region_of
from nerf_pl.films.files import read_keyframes
from nerf_pl.films.keyframes import keyframes_in_file
from nerf_pl.films.paths import look_at
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Scene, frame_of, load_scene
from nerf_pl.scenes.crop import crop_of, cropped


def write_json(root: Path, name: str, c2w: torch.Tensor, **facts: object) -> None:
    root.mkdir()
    frames = []
    for i, pose in enumerate(c2w.tolist()):
        Image.fromarray(picture(i)).save(root / f"{i}.png")
        frames.append({"file_path": f"{i}.png", "transform_matrix": [*pose, [0, 0, 0, 1]]})
    (root / name).write_text(json.dumps({"frames": frames, **facts}))


def scenes(root: Path) -> dict[str, Scene]:
    """A scene in every layout, whose file has coordinates of its own."""
    turned = moved(around(), *similarity(3))
    lens = {"fl_x": 30.0, "w": 24, "h": 16}
    write_json(root / "blender", "transforms_train.json", around(), camera_angle_x=0.8)
    write_json(root / "json", "transforms.json", turned, aabb_scale=16, **lens)
    write_json(root / "boxed", "transforms.json", around(), aabb_scale=1, **lens)
    llff_files.write_scene(root / "facing", facing())
    llff_files.write_scene(root / "around", turned)
    colmap_files.write_scene(root / "colmap")
    return {folder.name: load_scene(folder) for folder in sorted(root.iterdir())}


def poses_in_file(name: str, scene: Scene) -> torch.Tensor:
    """Camera centres as the file has them, of the training views."""
    if name == "colmap":
        return torch.from_numpy(colmap_files.poses())[:, :, 3]
    found = {"facing": facing(), "around": moved(around(), *similarity(3))}
    found["json"] = found["around"]
    return found.get(name, around())[:, :, 3]


def test_round_trip_in_every_layout(tmp_path):
    """Cameras that a film writes are the file's, and come back as the same cameras of the world."""
    pytest.importorskip("pycolmap")
    (tmp_path / "scenes").mkdir()
    for name, scene in scenes(tmp_path / "scenes").items():
        frame = frame_of(scene)
        told = keyframes_in_file(scene.cameras, 30.0, frame)
        (tmp_path / "cameras.json").write_text(json.dumps(told))
        found = read_keyframes(tmp_path / "cameras.json", scene.cameras, frame).cameras
        torch.testing.assert_close(found.c2w, scene.cameras.c2w, atol=1e-4, rtol=1e-4, msg=name)
        torch.testing.assert_close(found.K, scene.cameras.K, msg=name)
        theirs = poses_in_file(name, scene)
        written = torch.tensor([entry["c2w"] for entry in told["keyframes"]])[:, :3, 3]
        away = torch.cdist(written.double(), theirs).amin(1)  # each is one of the file's
        assert away.max() < 1e-3 * theirs.std(), name
        turned = torch.tensor([entry["c2w"] for entry in told["keyframes"]])[:, :3, :3]
        torch.testing.assert_close(turned @ turned.mT, torch.eye(3).expand_as(turned), atol=1e-4, rtol=0, msg=name)


def test_coordinates_that_are_neither(tmp_path):
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"coordinates": "mine", "keyframes": [{"position": [3, 0, 1], "look_at": [0, 0, 0]}]}))
    like = Cameras(torch.eye(3, 4)[None], torch.tensor([[[20.0, 0, 8], [0, 20, 6], [0, 0, 1]]]), 16, 12)
    with pytest.raises(Exception, match="coordinates is 'mine'; give world, or file"):
        read_keyframes(path, like, torch.eye(4).double())
    path.write_text(json.dumps({"keyframes": [{"position": [3, 0, 1], "look_at": [0, 0, 0], "K": [[1, 2]]}]}))
    with pytest.raises(Exception, match="give a 3x3 matrix of intrinsics"):
        read_keyframes(path, like)


def view(crop: Crop | None, ndc: tuple[float, float] | None = None) -> View:
    K = torch.tensor([[[20.0, 0, 10], [0, 20, 10], [0, 0, 1]]])
    c2w = look_at(torch.tensor([[0.0, -4, 0.5]])) if ndc is None else torch.eye(3, 4)[None]
    return View(Cameras(c2w, K, 20, 20), 0.1, 100.0, ndc, None, crop)


def test_rays_end_at_the_box():
    """Against points along each ray, taken to the file one by one; rays that miss it have no length."""
    scale, rotation, shift = similarity(5, 0.3)
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3], frame[:3, 3] = scale * rotation, shift * 0.2
    to_file, box = torch.linalg.inv(frame).float(), torch.tensor([[-3.0, -2, -1], [2, 3, 4]])
    whole, cut = view(None).rays(), view(Crop(box, to_file)).rays()
    t = torch.linspace(0.1, 100, 20001)
    points = whole.origins[:, None] + t[:, None] * whole.directions[:, None]
    placed = points @ to_file[:3, :3].T + to_file[:3, 3]
    inside = ((placed > box[0]) & (placed < box[1])).all(-1)
    hit = inside.any(1)
    assert 20 < hit.sum() < 400
    assert (cut.far[~hit] - cut.near[~hit]).max() < 0.02
    first, last = inside.int().argmax(1), 20000 - inside.int().flip(1).argmax(1)
    torch.testing.assert_close(cut.near[hit], t[first[hit]], atol=0.01, rtol=0)
    torch.testing.assert_close(cut.far[hit], t[last[hit]], atol=0.01, rtol=0)


def test_rays_from_one_side_end_at_the_box():
    ndc = (2.0, 2.0)
    crop = Crop(torch.tensor([[-1.0, -1, -6], [1, 1, -3]]), torch.eye(4))
    rays = view(crop, ndc).rays()
    hit = rays.far > rays.near
    assert 20 < hit.sum() < 400
    ends = [rays.origins + t[:, None] * rays.directions for t in (rays.near, rays.far)]
    z = [2 / (end[hit, 2] - 1) for end in ends]  # the inverse of `ndc_points` along the axis
    assert z[0].max() <= -3 + 1e-3
    assert z[1].min() >= -6 - 1e-3
    middle = ndc_points(torch.tensor([[0.0, 0, -3], [0, 0, -6]]), ndc)[:, 2]
    assert rays.near[hit].min() == pytest.approx(float(middle[0] + 1), abs=0.05)


@pytest.mark.parametrize("method", ["nerf", "ngp"])
def test_nothing_outside_is_shown(scene_dir, method):
    scene = load_scene(scene_dir)
    model = make(config(method), CPU)
    model.fit(scene)
    model.eval()
    whole = render_view(model, scene.view(0))
    assert whole.opacity.max() > 0.1
    nowhere = Crop(torch.tensor([[50.0] * 3, [51.0] * 3]), torch.eye(4))
    empty = render_view(model, replace(scene.view(0), crop=nowhere))
    assert empty.opacity.max() == 0
    assert (empty.rgb == 1).all()
    everywhere = Crop(torch.tensor([[-50.0] * 3, [50.0] * 3]), torch.eye(4))
    same = render_view(model, replace(scene.view(0), crop=everywhere))
    torch.testing.assert_close(same.rgb, whole.rgb, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def trained_capture(tmp_path_factory) -> Path:
    """A folder with a scene of photos all around, and a run on it."""
    folder = tmp_path_factory.mktemp("capture")
    llff_files.write_scene(folder / "around", moved(around(), *similarity(3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        nerf("train", "around", "--spheric", *NGP_FLAGS, "--max_steps", 2, "--num_gpus", 0)
    return folder


@pytest.fixture
def capture(trained_capture, tmp_path, monkeypatch) -> Path:
    """That run, and its scene in the folder `around`, to be changed at will."""
    shutil.copytree(trained_capture, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("runs/around-ngp")


def test_a_film_again_from_its_cameras_and_cropped(capture, capsys):
    nerf("render", capture, "--frames", 2, "--img_wh", 12, 8, "--depth", "none", "--keep_frames", "--path", "360")
    cameras = capture / "renders" / "360_cameras.json"
    told = json.loads(cameras.read_text())
    assert (told["coordinates"], len(told["keyframes"])) == ("file", 2)
    torch.testing.assert_close(torch.tensor(told["file_to_world"]).double(), open_run(capture, CPU).frame)
    capsys.readouterr()
    nerf("render", capture, "--path", cameras, "--depth", "none", "--keep_frames")
    assert "360_cameras.json: its poses are in the coordinates of the scene's own file\n" in capsys.readouterr().out
    for i in range(2):
        first, again = (
            Image.open(capture / "renders" / name / "frames" / f"{i:05}.png") for name in ("360", "360_cameras")
        )
        apart = torch.tensor(list(first.tobytes())).float() - torch.tensor(list(again.tobytes())).float()
        assert apart.abs().mean() < 1
    x, y, z = torch.tensor(told["keyframes"][0]["c2w"])[
        :3, 3
    ].tolist()  # where the first camera stands: it sees nothing
    box = [x + 1e3, y, z, x + 1e3 + 1, y + 1, z + 1]
    told = refused(capsys, "render", capture, "--path", cameras, "--depth", "none", "--crop", *box)
    assert "no frame of this film sees this box; give it in the coordinates of the scene's own file" in told


def test_the_frame_of_keyframes_is_told(capture, capsys):
    path = Path("world.json")
    for given, told in (
        ({}, 'its poses are in the world of this run; for the scene\'s own file add "coordinates": "file"'),
        ({"coordinates": "world"}, "its poses are in the world of this run"),
        ({"coordinates": "file"}, "its poses are in the coordinates of the scene's own file"),
    ):
        path.write_text(json.dumps({**given, "keyframes": [{"position": [1, 0, 1], "look_at": [0, 0, 0]}]}))
        nerf("render", capture, "--path", path, "--img_wh", 12, 8, "--depth", "none")
        assert f"world.json: {told}\n" in capsys.readouterr().out


def test_bad_crops(capture, capsys):
    assert "--crop" in refused(capsys, "render", capture, "--crop", 1, 0, 0, 0, 1, 1)


def test_other_poses_than_in_training_are_refused(capture, capsys):
    """They would shift every picture, without a word."""
    shutil.copytree("around", "other")
    llff_files.write_scene(Path("poses"), moved(around(11)[:10], *similarity(4)))
    shutil.copy("poses/poses_bounds.npy", "other")
    told = refused(capsys, "eval", capture, "--scene", "other", "--num_gpus", 0)
    assert "other: its cameras are not those that the run was trained on" in told
    shutil.copy("poses/poses_bounds.npy", "around")
    told = refused(capsys, "train", "around", "--resume", "--max_steps", 4, "--num_gpus", 0)
    assert "last.ckpt was trained on" in told


def test_training_in_a_box_of_the_file(tmp_path, monkeypatch):
    """The world's box holds the file's, whose corners are all that it takes; pixels that miss it do not count."""
    monkeypatch.chdir(tmp_path)
    llff_files.write_scene(tmp_path / "around", moved(around(), *similarity(3)))
    scene = load_scene(tmp_path / "around")
    scale, _, shift = similarity(3)
    low, high = (shift - 0.2 * scale).tolist(), (shift + 0.2 * scale).tolist()  # about what the cameras look at
    boxed = cropped(scene, [*low, *high])
    assert not boxed.unbounded
    assert boxed.aabb[0].max() < 0 < boxed.aabb[1].min()
    assert 0 < boxed.near < boxed.far < 3
    assert (boxed.aabb[1] - boxed.aabb[0]).max() < 0.4  # the cameras are about 1 away
    assert 0.01 < boxed.masks.float().mean() < 0.5
    assert boxed.masks[:, 8, 12].all()  # the middle of each picture
    assert not boxed.masks[:, 0, 0].any()
    nerf("train", tmp_path / "around", *NGP_FLAGS, "--max_steps", 2, "--num_gpus", 0, "--aabb", *low, *high)


def test_boxes_in_the_coordinates_of_a_map(tmp_path):
    """Millions of metres from the origin single precision is half a metre coarse."""
    box, away = [-1.0, -1.5, -0.5, 1.0, 0.5, 1.5], torch.tensor([4e5, 5e6, 300.0]).double()
    far = [value + shift for value, shift in zip(box, away.tolist() * 2, strict=True)]
    write_json(tmp_path / "near", "transforms.json", around(), fl_x=30.0, w=24, h=16)
    there = torch.cat([around()[:, :, :3], (around()[:, :, 3] + away)[:, :, None]], -1)
    write_json(tmp_path / "far", "transforms.json", there, fl_x=30.0, w=24, h=16)
    near_by, far_off = load_scene(tmp_path / "near"), load_scene(tmp_path / "far")
    boxed, same = cropped(near_by, box), cropped(far_off, far)
    torch.testing.assert_close(same.aabb, boxed.aabb, atol=1e-5, rtol=0)
    assert (same.masks != boxed.masks).float().mean() < 0.001
    crops = [replace(scene.view(0), crop=crop_of(scene, b)).rays() for scene, b in ((near_by, box), (far_off, far))]
    torch.testing.assert_close(crops[1].far - crops[1].near, crops[0].far - crops[0].near, atol=1e-3, rtol=0)
    regions = [region_of(scene, b) for scene, b in ((near_by, box), (far_off, far))]
    corners = [region.world(corners_of(region.box)) for region in regions]
    torch.testing.assert_close(corners[1], corners[0], atol=1e-5, rtol=0)


def test_boxes_that_cannot_be_trained_in(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    llff_files.write_scene(tmp_path / "around", around())
    llff_files.write_scene(tmp_path / "facing", facing())
    short = ("--max_steps", 2, "--num_gpus", 0)
    told = refused(capsys, "train", "around", *short, "--spheric", "--aabb", 900, 900, 900, 901, 901, 901)
    assert "--aabb 900 900 900 901 901 901: no view of around sees this box" in told
    told = refused(capsys, "train", "facing", *short, "--aabb", 0, 0, 0, 1, 1, 1)
    assert "photos from one side" in told
    assert "lowest" in refused(capsys, "train", "around", *short, "--aabb", 0, 0, 0, 1, 1, 0)


def test_a_resumed_training_keeps_its_box(capture, capsys):
    told = refused(capsys, "train", "around", "--resume", "--max_steps", 4, "--num_gpus", 0, "--aabb", 0, 0, 0, 1, 1, 1)
    assert "--aabb" in told
    told = refused(capsys, "train", "around", "--resume", "--max_steps", 4, "--num_gpus", 0, "--fit_colours")
    assert "--fit_colours True" in told


def test_runs_of_the_first_version_on_photos_all_around_are_refused(capture, capsys):
    """Their world had another unit of length."""
    path = capture / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    del content["frame"]
    torch.save(content, path)
    for words in (("eval", capture), ("train", "around", "--resume", "--max_steps", 4)):
        assert "version 0.1.0 placed its photos in another way" in refused(capsys, *words, "--num_gpus", 0)


def test_crops_need_rays_that_end(tmp_path, monkeypatch, capsys, trained):
    monkeypatch.chdir(tmp_path)
    told = refused(capsys, "render", trained, "--num_gpus", 0, "--crop", -1, -1, -1, 1, 1, 1)
    assert "--crop cannot be used with a run of nerf" in told

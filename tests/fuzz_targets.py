"""What is fuzzed: for each reader of files some small valid ones, and how they are read."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import fuzz_scenes as scenes
import numpy as np
import photo_world
import pycolmap
import test_import_realitycapture as realitycapture
import test_importers as importers
import test_importers_sfm as sfm
import torch
from fuzz_scenes import LENS, PICTURES, poses_of, write_json
from report_files import write_curves, write_run
from test_foreign import nerf_pl_state, nerf_pytorch_checkpoint
from tiny import CPU, config, make

from nerf_pl.cameras import Cameras
from nerf_pl.checkpoints import load_model, save_model, save_portable, write_checkpoint
from nerf_pl.films.files import read_keyframes
from nerf_pl.films.options import MOST_FRAMES
from nerf_pl.media import read_pfm, write_mp4, write_pfm
from nerf_pl.methods import CLASSIC, read_settings
from nerf_pl.options import to_dict
from nerf_pl.report import write_comparison, write_report
from nerf_pl.scenes import Request, Scene, load_scene
from nerf_pl.scenes.importers import Source, import_scene
from nerf_pl.scenes.prepare.video import sharp_frames
from nerf_pl.training.callbacks import Checkpoints
from nerf_pl.training.resume import resume_run
from nerf_pl.training.system import NeRFSystem

FAR = 1e15  # from the origin


@dataclass(frozen=True)
class Target:
    """write: the valid files. read: what reads them; raises AssertionError if it succeeds with what makes no sense.
    weight: how often it is drawn. skip: names of files that are not damaged."""

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    weight: float = 1.0
    skip: Iterable[str] = field(default=())


def sound(scene: Scene) -> None:
    """Raises AssertionError unless everything in a scene is finite, in range and of one shape."""
    cameras, n = scene.cameras, len(scene)
    assert n >= 1
    assert cameras.c2w.shape == (n, 3, 4)
    assert cameras.K.shape == (n, 3, 3)
    assert cameras.c2w.dtype == cameras.K.dtype == torch.float32
    assert float(cameras.c2w.abs().amax()) < FAR  # nan is not less
    assert float(cameras.K.abs().amax()) < 1e9
    assert bool((cameras.K[:, [0, 1], [0, 1]] > 0).all())
    axes = cameras.c2w[:, :, :3]
    assert torch.allclose(axes.transpose(1, 2) @ axes, torch.eye(3).expand(n, 3, 3), atol=1e-3)
    assert 0 <= scene.near < scene.far < FAR
    assert scene.aabb.shape == (2, 3)
    assert bool((scene.aabb[0] < scene.aabb[1]).all())
    assert float(scene.aabb.abs().amax()) < FAR
    assert scene.images.shape[:3] == (n, cameras.height, cameras.width)
    assert scene.masks is None or scene.masks.shape == scene.images.shape[:3]
    assert all(math.isfinite(x) for x in (*scene.target, *(scene.ndc or ()), *(scene.orbit or ())))
    if scene.frame is not None:
        assert bool(scene.frame.isfinite().all())
        assert 1e-20 < float(torch.linalg.det(scene.frame[:3, :3]).abs()) < 1e60
    rays = scene.view(0).rays()
    assert all(bool(part.isfinite().all()) for part in (rays.origins, rays.directions, rays.near, rays.far))


def _scene(**options: object) -> Callable[[Path], None]:
    return lambda root: sound(load_scene(root, Request("train", **options)))


def _import(root: Path) -> None:
    import_scene(Source(root, None, None, True), overwrite=True)
    try:
        sound(load_scene(root, Request("train", test_every=0, pictures=False)))
    finally:
        (root / "transforms.json").unlink()


FILM = Cameras(
    photo_world.poses(1).float(), torch.tensor([[[20.0, 0, 12], [0, 20, 8], [0, 0, 1]]]), width=24, height=16
)


def _keyframes(root: Path) -> None:
    entries = [
        {"time": 0, "position": [4, 0, 1], "look_at": [0, 0, 0], "up": [0, 0, 1], "fov": 50},
        {"time": 2, "c2w": poses_of(1)[0]["transform_matrix"], "K": [[20, 0, 12], [0, 20, 8], [0, 0, 1]]},
        {"time": 3.5, "position": [0, 4, 1], "look_at": [0, 0, 0]},
    ]
    write_json(root / "path.json", {"fps": 30, "width": 24, "height": 16, "loop": True, "keyframes": entries})


def _camera_path(root: Path) -> None:
    matrix = [x for row in poses_of(1)[0]["transform_matrix"] for x in row]
    entries = [{"camera_to_world": matrix, "fov": 50, "aspect": 1.5} for _ in range(2)]
    values = {"camera_type": "perspective", "render_width": 24, "render_height": 16, "fps": 24, "seconds": 0.1}
    write_json(root / "path.json", {**values, "is_cycle": False, "camera_path": entries})


def _frames_as_path(root: Path) -> None:
    write_json(root / "path.json", {**LENS, "frames": poses_of(2)})


def _read_path(root: Path) -> None:
    found = read_keyframes(root / "path.json", FILM, torch.eye(4, dtype=torch.float64))
    n = found.frames(found.fps or 24.0)
    if n > MOST_FRAMES:  # which a film refuses
        return
    film = found.film(min(n, 4))
    assert bool(film.c2w.isfinite().all())
    assert float(film.c2w.abs().amax()) < FAR
    assert bool(film.K.isfinite().all())
    assert max(film.width, film.height) <= 2**16


def _settings(root: Path) -> None:
    write_json(root / "ngp.json", to_dict(config("ngp")))
    write_json(root / "nerf.json", to_dict(config("nerf")))


def _read_settings(root: Path) -> None:
    for name in ("ngp", "nerf"):
        read_settings(root / f"{name}.json")


def _run_folder(root: Path) -> None:
    write_run(root, [20.0, 25.0])
    write_curves(root / "logs")
    write_json(root / "renders" / "film.json", {"frames": poses_of(2)})
    entry = {"command": "nerf train x", "date": "2026-01-01T10:00:00+00:00", "seconds": 1.0, "trains": True}
    write_json(root / "history.json", [{**entry, "machine": "CPU", "versions": {"Python": "3.12"}}])
    write_json(root / "settings.json", {"scene": "/x", **to_dict(config("ngp"))})


def _runs(root: Path) -> None:
    for name, scores in (("a", [20.0, 25.0]), ("b", [21.0, 24.0])):
        _run_folder(write_run(root / name, scores))


def _compare_runs(root: Path) -> None:
    write_comparison([root / "a", root / "b"], root / "out.html")


@cache
def _model(method: str):
    options = config(method)
    torch.manual_seed(0)
    return make(options), options


@cache
def _views():
    cameras = replace(FILM, c2w=photo_world.poses(3).float(), K=FILM.K.repeat(3, 1, 1))
    images = torch.zeros(3, 16, 24, 3, dtype=torch.uint8)
    box = torch.tensor([[-1.5] * 3, [1.5] * 3])
    scene = Scene(cameras, images, 2.0, 6.0, box, names=("a", "b", "c"), orbit=(4.0, 30.0), frame=torch.eye(4).double())
    return {"train": scene}


def _checkpoint(method: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        model, options = _model(method)
        save_model(root / "last.ckpt", model, options, "/scene", _views())

    return write


def _last(method: str) -> Callable[[Path], None]:
    """A checkpoint of a training that can go on."""

    def write(root: Path) -> None:
        system = _system(method)
        optimizer = system.configure_optimizers()
        _step(system, optimizer)
        content = {"state_dict": system.state_dict(), "optimizer_states": [optimizer.state_dict()]}
        system.on_save_checkpoint(content)
        write_checkpoint({**content, "best_psnr": 20.0, "best_step": 0, "epoch": 0}, root / "last.ckpt")

    return write


def _system(method: str) -> NeRFSystem:
    options = config(method)
    return NeRFSystem(options, make(options), _views()["train"])


def _step(system: NeRFSystem, optimizer: torch.optim.Optimizer) -> None:
    for weight in system.model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()


def _resume(method: str) -> Callable[[Path], None]:
    """Goes on from the checkpoint, as far as the first step of the optimizer."""

    def read(root: Path) -> None:
        system = _system(method)
        resume_run(system, Checkpoints(root), root / "last.ckpt")
        assert 0 <= system.length.progress < 1
        _step(system, system.configure_optimizers())
        assert all(bool(weight.isfinite().all()) for weight in system.model.parameters())

    return read


def _portable(method: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        _checkpoint(method)(root)
        run = load_model(root / "last.ckpt", CPU)
        save_portable(root / "out.nerf", run, _views(), {"steps": 1, "checkpoint": "last"})
        (root / "last.ckpt").unlink()

    return write


def _read_model(root: Path) -> None:
    file = next(root.iterdir())
    run = load_model(file, CPU, None)
    for scene in run.kept.values():
        sound(scene)
    tensors = [tensor for tensor in run.model.state_dict().values() if tensor.is_floating_point()]
    assert all(bool(tensor.isfinite().all()) for tensor in tensors)
    assert run.frame is None or bool(run.frame.isfinite().all())
    with torch.no_grad():
        sigma, rgb = run.model.radiance(torch.zeros(2, 3), torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3))
    assert bool(rgb.isfinite().all())
    assert not bool(sigma.isnan().any())


def _foreign(content: Callable[[], dict], name: str) -> Callable[[Path], None]:
    return lambda root: write_checkpoint(content(), root / name)


def _read_foreign(root: Path) -> None:
    load_model(next(root.iterdir()), CPU, CLASSIC)


def _film(root: Path) -> None:
    rng = np.random.default_rng(0)
    write_mp4(root / "film.mp4", [rng.integers(0, 256, (32, 48, 3)).astype(np.uint8) for _ in range(4)], fps=10)


def _read_film(root: Path) -> None:
    for pixels in sharp_frames(root / "film.mp4", 3):
        assert pixels.ndim == 3


def _pfm(root: Path) -> None:
    write_pfm(root / "a.pfm", np.ones((4, 6), np.float32))


IMPORTED = {
    "metashape": scenes.from_metashape, "realitycapture": realitycapture.write_csv, "xmp": realitycapture.write_xmp,
    "polycam": scenes.polycam, "record3d": scenes.record3d, "nsvf": scenes.nsvf, "neus": importers.write_neus,
    "bundler": sfm.write_bundler, "openmvg": lambda root: sfm.write_openmvg(root, "pinhole_brown_t2"),
    "sdfstudio": importers.write_sdfstudio, "gaussians": importers.write_gaussians,
}  # fmt: skip
PNG = (".png",)
TARGETS: dict[str, Target] = {
    "blender": Target(scenes.blender, _scene(), 3),
    "transforms": Target(scenes.transforms, _scene(test_every=0), 4),
    "depths": Target(scenes.with_depths, _scene(test_every=0), 2, PNG),
    "points": Target(scenes.with_points, _scene(test_every=0), 1, PNG),
    "panorama": Target(scenes.wide("EQUIRECTANGULAR"), _scene(test_every=0), 1, PNG),
    "fisheye": Target(scenes.wide("OPENCV_FISHEYE"), _scene(test_every=0), 1, PNG),
    "llff": Target(scenes.llff, _scene(), 2, PNG),
    "llff around": Target(scenes.llff_around, _scene(), 1, PNG),
    "colmap text": Target(scenes.colmap(True), _scene(test_every=0), 2, PNG),
    "colmap binary": Target(scenes.colmap(False), _scene(test_every=0), 1, PNG),
    **{f"picture {kind}": Target(scenes.one_picture(kind), _scene(test_every=0), 0.5, (".json",)) for kind in PICTURES},
    **{f"import {name}": Target(write, _import, 1, PNG) for name, write in IMPORTED.items()},
    "keyframes": Target(_keyframes, _read_path, 4),
    "camera path": Target(_camera_path, _read_path, 2),
    "frames as path": Target(_frames_as_path, _read_path, 2),
    "settings": Target(_settings, _read_settings, 3),
    "run folder": Target(_run_folder, write_report, 2, PNG),
    "comparison": Target(_runs, _compare_runs, 1, PNG),
    **{f"resume {method}": Target(_last(method), _resume(method), 1) for method in ("ngp", "nerf")},
    "checkpoint ngp": Target(_checkpoint("ngp"), _read_model, 2),
    "checkpoint nerf": Target(_checkpoint("nerf"), _read_model, 2),
    "portable ngp": Target(_portable("ngp"), _read_model, 2),
    "portable nerf": Target(_portable("nerf"), _read_model, 1),
    "foreign ckpt": Target(_foreign(lambda: {"state_dict": nerf_pl_state(), "epoch": 3}, "old.ckpt"), _read_foreign, 1),
    "foreign tar": Target(_foreign(nerf_pytorch_checkpoint, "old.tar"), _read_foreign, 1),
    "film": Target(_film, _read_film, 0.5),
    "pfm": Target(_pfm, lambda root: read_pfm(root / "a.pfm"), 0.5),
}  # fmt: skip


def quiet_libraries() -> None:
    """Libraries write what they think of damaged files to stderr, past Python; here it would drown what matters."""
    pycolmap.logging.minloglevel = 4

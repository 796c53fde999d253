"""All that launches kernels: steps of trainings and pictures of every method, at the sizes that a GPU gets.

What is computed does not matter here, only what is launched, with which types and sizes.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from unittest import mock

import torch

from nerf_pl.cameras import Cameras
from nerf_pl.methods import METHODS
from nerf_pl.methods.method import Method, kind_of
from nerf_pl.methods.model import Model
from nerf_pl.options import Config
from nerf_pl.scenes import Scene
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.gradients import Gradients

SIDE = 32  # pixels of a picture
RAYS = 64  # of a step and of a picture
SMALL = {"log2_size": 12}  # options that decide how much memory is taken, but nothing that is compiled
GPU = torch.device("cuda")  # what models are made for, though they stay on the CPU


@dataclass(frozen=True)
class Work:
    """A method and a kind of scenes. options: of its training, where they differ from the defaults."""

    told: str
    scene: Scene
    options: dict[str, object]


def works() -> Iterator[Work]:
    """Kinds of scenes that differ in what is launched."""
    yield Work("an object", _scene(channels=4), {})
    around = replace(_scene(channels=3), unbounded=True, seen=(torch.zeros(1, 3),) * 2)
    sizes = torch.tensor([[SIDE, SIDE], [SIDE // 2, SIDE]])
    cameras = replace(around.cameras, sizes=sizes)
    yield Work("photos all around", replace(around, cameras=cameras), {"fit_colours": True})
    masks = torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    one_side = replace(_scene(channels=3), near=0.0, far=1.0, ndc=(1.0, 1.0), masks=masks)
    yield Work("photos from one side", one_side, {})


@contextmanager
def pretending(capability: tuple[int, int]) -> Iterator[None]:
    """As if there were a GPU of this compute capability, whose kernels write nothing: what they would fill is zero."""
    with ExitStack() as stack:
        for owner, name, other in (
            (torch.cuda, "device_count", lambda: 1),
            (torch.cuda, "get_device_capability", lambda *_: capability),
            (torch.accelerator, "current_accelerator", lambda *_, **__: None),  # PyTorch's Adam would ask its driver
            (torch, "empty", torch.zeros),
            (torch, "empty_like", torch.zeros_like),
            (torch.Tensor, "new_empty", torch.Tensor.new_zeros),
        ):
            stack.enter_context(mock.patch.object(owner, name, other))
        yield


def launch_all() -> None:
    """Launch every kernel of every method as a training on a GPU would, on tensors in the memory of the CPU."""
    for work in works():
        for method in METHODS.values():
            _launch(method, work)


def _launch(method: Method, work: Work) -> None:
    short = replace(method.preset, train=replace(method.preset.train, max_steps=1))  # so it has one field
    config = _small(method.complete(short, GPU.type, kind_of(work.scene)))
    config = replace(config, train=replace(config.train, batch_size=RAYS, **work.options))
    model = method.make(config, GPU)
    model.train()
    gradients = Gradients(model, _batches(model, config, work.scene))
    optimizer = model.make_optimizer(config.optim)
    for rays_per_pixel in {1, model.rays_per_pixel}:
        model.before_step(0)
        gradients(rays_per_pixel)
    optimizer.step()
    model.eval()
    with torch.no_grad():
        model.render(gradients.batches(model.step).rays, (1.0, 1.0, 1.0))
        points = torch.zeros(RAYS, 3)
        model.radiance(points, torch.ones_like(points))


def _batches(model: Model, config: Config, scene: Scene) -> PixelBatches:
    draw = {"precrop_steps": model.precrop_steps, "random_until": model.random_until}
    fitted = bool(config.train.fit_colours)
    return PixelBatches(scene, RAYS, model.seed, backend=model.backend, fit_colours=fitted, **draw)


def _small(config: Config) -> Config:
    there = {field.name for field in fields(config.model)}
    return replace(config, model=replace(config.model, **{name: SMALL[name] for name in SMALL if name in there}))


def _scene(channels: int) -> Scene:
    """Two grey pictures of whatever is at the origin."""
    c2w = torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4]], [[0.0, 0, 1, 4], [0, 1, 0, 0], [-1, 0, 0, 0]]])
    K = torch.tensor([[SIDE, 0.0, SIDE / 2], [0, SIDE, SIDE / 2], [0, 0, 1]]).repeat(2, 1, 1)
    images = torch.full((2, SIDE, SIDE, channels), 128, dtype=torch.uint8)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    return Scene(Cameras(c2w, K, SIDE, SIDE), images, 2.0, 6.0, box)

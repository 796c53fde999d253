"""Poses of the training photos, refined while a model learns them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.alignment import Fit, after_motion, compared, fit_of
from nerf_pl.rendering import Renderer
from nerf_pl.scenes import Scene, views_of_photos
from nerf_pl.training.batches import PixelBatches

# what was measured: docs/log.md, "Poses refined while training, once more"
TURNS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Shares of a training after which poses are refined. Not at the end, so that the model still learns the details in
their right place."""
PIXELS = (10_000, 10_000, 20_000, 20_000, 40_000, 40_000, 40_000, 40_000)
"""Size of the pictures that are compared in each turn: small ones at first, where a far way is a short one."""
CPU_PIXELS = 1250  # on a CPU, whose rendering is slow

OUTLINES = 1 / 64  # of a picture's longer side, by which outlines are wider as long as poses may be wrong
LEAST_STEPS = 300  # of each field, before which it shows fog
TOGETHER = 32  # photos whose pictures are rendered together
LOOKS = 8  # photos that are asked first, whether poses are wrong
SURE = 1.5  # times what chance wins, that moving cameras must win
TURNED, SHIFTED = 0.005, 0.0025  # usual error of given poses: radians; distances of what is seen
TRUST = 0.01  # weight of the given pose, where each colour of a picture has 1: colours near each other err alike


class Step(NamedTuple):
    """A motion of the camera of a photo, along the axes of the world. gain: the share of the squared differences of its
    picture that the motion takes away. chance: what a motion would seem to win by chance. away: see `Fit`."""

    move: Float[Tensor, "6"]
    gain: float
    chance: float
    away: float


@torch.no_grad()
def refine(model: Renderer, scene: Scene, batches: PixelBatches, turn: int, chunk: int) -> bool:
    """Move the camera of each training photo to where the model's picture fits the photo better; whether they were
    moved. They stay if that wins no more than chance would: the poses are as good as the model can tell. Once they have
    moved, they move in each turn. The views of a photo that was cut move as one.

    What all cameras have in common, as if the world were moved or had another size, is no error of theirs: it is
    taken out of their motions before the model sees any of it.
    """
    pixels = CPU_PIXELS if batches.c2w.device.type == "cpu" else PIXELS[turn]
    photos, steps = views_of_photos(scene), dict[int, Step]()
    have_moved = is_moved(scene, batches)
    for every in (max(len(photos) // LOOKS, 1), 1):  # a few tell whether poses are wrong
        asked = [i for i in range(0, len(photos), every) if i not in steps]
        for some in (asked[k : k + TOGETHER] for k in range(0, len(asked), TOGETHER)):
            found = _steps(model, scene, [photos[i] for i in some], batches.c2w, pixels=pixels, chunk=chunk)
            steps |= zip(some, found, strict=True)
        if not have_moved and not _is_sure(list(steps.values())):
            return False
    moves = torch.stack([steps[i].move for i in range(len(photos))])
    away = float(torch.tensor([step.away for step in steps.values()]).median())
    places = batches.c2w[[members[0] for members in photos], :, 3].double().cpu()
    for members, move in zip(photos, moves - shared_motion(moves, places, away), strict=True):
        for i in members:
            c2w = batches.c2w[i]
            batches.c2w[i] = after_motion(c2w, _to_world(c2w).T @ move.to(c2w.device))
    return True


def is_moved(scene: Scene, batches: PixelBatches) -> bool:
    """Whether a camera is no longer where it was said to be."""
    return not torch.equal(batches.c2w.cpu(), scene.cameras.c2w.cpu())


def outcome(scene: Scene, batches: PixelBatches, steps: int) -> str:
    """What to tell at the end of so many steps of each field, if the poses stayed as they were."""
    if is_moved(scene, batches):
        return ""
    if steps * TURNS[-1] < LEAST_STEPS:
        return "--refine_poses changed nothing: the training ended before the model showed the scene; train longer"
    return "--refine_poses moved no camera: the photos fit the given poses as well as the model can tell"


def shared_motion(moves: Float[Tensor, "C 6"], places: Float[Tensor, "C 3"], away: float) -> Float[Tensor, "C 6"]:
    """The part of the motions of cameras in these places that moves the world as a whole: turns it, shifts it and
    changes its size, fitted by least squares. A shift by `away` counts as much as a rotation by a radian."""
    n, arms = len(places), places - places.mean(0)
    ways = moves.new_zeros(n, 6, 7)
    for k, axis in enumerate(torch.eye(3, dtype=moves.dtype)):
        ways[:, :3, k] = axis
        ways[:, 3:, k] = torch.linalg.cross(axis.expand(n, 3), arms)
        ways[:, 3:, 3 + k] = axis
    ways[:, 3:, 6] = arms
    weights = moves.new_tensor([1, 1, 1, 1 / away, 1 / away, 1 / away])
    known = (ways * weights[:, None]).flatten(0, 1)
    return ways @ torch.linalg.lstsq(known, (moves * weights).flatten()[:, None]).solution[:, 0]


def _is_sure(steps: Sequence[Step]) -> bool:
    """Whether moving the cameras wins more than chance."""
    gains, chances = (torch.tensor([getattr(step, name) for step in steps]) for name in ("gain", "chance"))
    return bool(gains.median() > SURE * chances.median())


def _steps(
    model: Renderer,
    scene: Scene,
    photos: Sequence[list[int]],
    c2w: Float[Tensor, "C 3 4"],
    *,
    pixels: int,
    chunk: int,
) -> list[Step]:
    """For each photo the motion of its camera that fits both the picture and the pose that was given. c2w: of the
    cameras of all views."""
    members = [i for photo in photos for i in photo]
    views = [scene.view(i) for i in members]
    views = [
        replace(view, camera=replace(view.camera, c2w=c2w[i, None])) for i, view in zip(members, views, strict=True)
    ]
    # photos come one by one, since they are large
    pairs = iter(
        compared(model, views, map(scene.image, members), map(scene.mask, members), pixels=pixels, chunk=chunk)
    )
    steps = []
    for photo in photos:
        telling = [pair for pair in islice(pairs, len(photo)) if pair is not None]
        if not telling:
            steps.append(Step(torch.zeros(6, dtype=torch.float64), 0.0, 0.0, 1.0))
            continue
        fit, turn = fit_of(telling), _to_world(telling[0].view.camera.c2w[0])
        given, now = scene.cameras.c2w[photo[0]].to(c2w), c2w[photo[0]]
        steps.append(likely_step(fit, turn.T @ motion_between(given, now).to(turn), turn))
    return steps


def likely_step(fit: Fit, done: Float[Tensor, "6"], turn: Float[Tensor, "6 6"]) -> Step:
    """The most likely motion of a camera that has moved by `done` from where it was said to be. turn: from its axes to
    those of the world. Without the given pose, motions that hardly change the picture, such as a shift to one side and
    a rotation back, would be as long as noise makes them."""
    error = fit.error.clamp(min=1e-12)
    usual = torch.stack([error.new_tensor(TURNED)] * 3 + [SHIFTED * fit.away] * 3)
    given = torch.diag(TRUST * error / usual**2)
    slope = fit.g + given @ done
    solved = torch.linalg.solve(fit.H + given, torch.cat([slope[None], fit.chance]).T)  # (6, 4)
    won = (torch.cat([slope[None], fit.chance]) * solved.T).sum(1) / error
    move = turn @ fit.limited(-solved[:, 0])
    return Step(move.cpu(), float(won[0]), float(won[1:].mean()), float(fit.away))


def motion_between(before: Float[Tensor, "3 4"], after: Float[Tensor, "3 4"]) -> Float[Tensor, "6"]:
    """The rotation vector and the shift, along the axes of the world, between two poses that differ little."""
    before, after = before.double(), after.double()
    R = after[:, :3] @ before[:, :3].T
    axis = torch.stack([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) / 2  # times the sine
    sine = axis.norm().clamp(min=1e-12, max=1)
    return torch.cat([axis * (torch.asin(sine) / sine), after[:, 3] - before[:, 3]])


def _to_world(c2w: Float[Tensor, "3 4"]) -> Float[Tensor, "6 6"]:
    """What turns a motion along the axes of a camera into one along those of the world."""
    return torch.block_diag(c2w[:, :3], c2w[:, :3]).double()

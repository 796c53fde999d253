"""The air that cameras stand in: where people walked to take photos of something, there is nothing."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from nerf_pl.scenes.normalize import AHEAD
from nerf_pl.scenes.scene import TOWARDS, Scene

NEIGHBOURS = 6  # cameras nearby that look alike; places lie between a camera and these
BEYOND = 0.25  # of the way to a neighbour, by which places also lie on the other side of the camera
ASIDE = 0.5  # most of the way to a second neighbour
SPREAD = 0.3  # of the distance of a neighbour, by which places are scattered
SHARE = 0.5  # of the way from a place to what the cameras look at, that is air where `ahead` is AHEAD (docs/log.md)
NUMBERS = 11  # random ones that a point takes
UNLIKE = 10.0  # how much farther away a camera counts that looks across, in distances of the farthest one
BLOCK = 1024  # cameras whose neighbours are sought at a time


class Air(nn.Module):
    """Points between places where a camera could have stood and what the cameras look at.

    A place lies between a camera and its neighbours, or a little beyond, and no nearer to the target than these. From
    there a ray leads towards what a pixel of the camera shows at the distance of the target. The first half of it is
    air, or less if points say that something is nearer. Cameras that look elsewhere do not count. Photos do not tell
    so: a wall there, of the colour of what is behind, shows in no training view but its own.
    """

    c2w: Tensor
    K: Tensor
    sizes: Tensor
    target: Tensor
    inward: Tensor

    def __init__(self, scene: Scene):
        super().__init__()
        cameras = scene.cameras
        self.share = SHARE * scene.ahead / AHEAD  # if something is known to stand nearer, less is air
        c2w, target = cameras.c2w.float(), cameras.c2w.new_tensor(scene.target)
        ways = F.normalize(target - c2w[:, :, 3], dim=1)
        inward = (-(ways * c2w[:, :, 2]).sum(1) >= TOWARDS).nonzero()[:, 0]
        sizes = torch.tensor([cameras.size(i) for i in range(len(cameras))], dtype=torch.float32)
        for name, value in {"c2w": c2w, "K": cameras.K, "sizes": sizes, "target": target, "inward": inward}.items():
            self.register_buffer(name, value if name == "inward" else value.float(), persistent=False)
        self._neighbours: Tensor | None = None

    def neighbours(self) -> Int[Tensor, "C n"]:
        """The nearest cameras that look alike, of each camera that looks at the target. Found when they are needed."""
        if self._neighbours is None:
            c2w = self.c2w[self.inward]
            places, axes = c2w[:, :, 3], c2w[:, :, 2]
            far = UNLIKE * 2 * (places - self.target).norm(dim=1).max()
            found = []
            for i in range(0, len(c2w), BLOCK):
                part = slice(i, i + BLOCK)
                apart = torch.cdist(places[part], places) + far * (1 - axes[part] @ axes.T).clamp(0, 1)
                apart.diagonal(i).fill_(torch.inf)
                found.append(apart.topk(min(NEIGHBOURS, len(c2w) - 1), largest=False).indices)
            self._neighbours = self.inward[torch.cat(found)]
        return self._neighbours

    def forward(self, u: Float[Tensor, "N 11"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
        """World points in the air, and the length of the piece of a ray that each stands for. u: numbers in [0, 1)."""
        place, way = self._rays(u)
        return place + self.share * u[:, 10:11] * way, self.share * way.norm(dim=1)

    def _rays(self, u: Float[Tensor, "N 11"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """Places, and the ways from there to what a pixel of the camera shows at the distance of the target."""
        count, n = self.neighbours().shape
        number = _drawn(u[:, 0], count)
        first, second = (self.neighbours().flatten()[number * n + _drawn(u[:, k], n)] for k in (1, 2))
        i = self.inward[number]
        here = self.c2w[i, :, 3]
        along, aside = self.c2w[first, :, 3] - here, self.c2w[second, :, 3] - here
        part = u[:, 3] * (1 + BEYOND) - BEYOND * (u[:, 4] < 0.5)
        place = here + part[:, None] * along
        place = place + ASIDE * u[:, 4:5] * (aside - part[:, None] * along)
        place = place + SPREAD * along.norm(dim=1)[:, None] * (u[:, 7:10] - 0.5)
        away = (here - self.target).norm(dim=1)
        radius = torch.lerp(away, (here + along - self.target).norm(dim=1), part.clamp(0, 1))
        from_target = place - self.target
        outside = F.normalize(from_target, dim=1) * radius.maximum(from_target.norm(dim=1))[:, None]
        place = self.target + outside
        K, c2w = self.K[i], self.c2w[i]
        width, height = self.sizes[i].unbind(1)
        x = (u[:, 5] * width - K[:, 0, 2]) / K[:, 0, 0]
        y = (u[:, 6] * height - K[:, 1, 2]) / K[:, 1, 1]
        axes = x[:, None] * c2w[:, :, 0] - y[:, None] * c2w[:, :, 1] - c2w[:, :, 2]
        return place, here + away[:, None] * F.normalize(axes, dim=1) - place


def _drawn(u: Float[Tensor, "N"], count: int) -> Tensor:
    return (u * count).long().clamp(max=count - 1)


def air_of(scene: Scene) -> Air | None:
    """The air in front of cameras that look at one point, in a space without end. None for other scenes."""
    if not (scene.unbounded and scene.ahead):
        return None
    air = Air(scene)
    return air if len(air.inward) > 1 else None

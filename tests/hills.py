"""A world that every ray meets once, so that its pictures are exact."""

import torch

from nerf_pl.cameras import ndc_points
from nerf_pl.types import Pixels


class Hills:
    """A coloured surface z = -3 + sin(2 x) / 2 in front of a camera at the origin, which every ray meets once."""

    step, training, rays_per_pixel = torch.zeros(1), False, 1

    def __init__(self, ndc: tuple[float, float] | None = None):
        self.ndc = ndc

    def train(self, mode: bool = True) -> "Hills":
        return self

    def render(self, rays, background):
        origins, directions = rays.origins, rays.viewdirs
        if self.ndc is not None:  # back to the world, where the surface is
            z = 2 / (origins[:, 2] - 1)
            origins = torch.stack([-origins[:, 0] * z / self.ndc[0], -origins[:, 1] * z / self.ndc[1], z], -1)
        t = (-3 - origins[:, 2]) / directions[:, 2]
        for _ in range(30):
            x, y, z = (origins + t[:, None] * directions).unbind(1)
            t = t + 0.7 * (0.5 * torch.sin(2 * x) - 3 - z) / directions[:, 2]
        xyz = origins + t[:, None] * directions
        x, y, _ = xyz.unbind(1)
        rgb = torch.stack([(3 * x + y).sin(), (2 * y - x).sin(), (4 * x * y).cos()], -1) / 2 + 0.5
        if self.ndc is not None:
            t = (ndc_points(xyz, self.ndc) - rays.origins).norm(dim=1)
        return Pixels(rgb, t, torch.ones_like(t), t.new_zeros(0))

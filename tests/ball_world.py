"""A field whose surface is known: a ball."""

import torch
from torch import nn

from nerf_pl.export.options import MeshOptions
from nerf_pl.ops import Backend
from nerf_pl.rendering import over
from nerf_pl.types import Pixels

CENTRE, RADIUS, DENSITY = torch.tensor([0.1, -0.2, 0.05]), 0.7, 60.0


class Ball(nn.Module):
    """A ball of one density. Its colour says where a point is."""

    rays_per_pixel, ndc, backend = 1, None, Backend()

    def __init__(self, hollow: float = 0.0):
        super().__init__()
        self.hollow = hollow
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))

    def density(self, xyz):
        away = (xyz - CENTRE).norm(dim=1)
        return DENSITY * ((away < RADIUS) & (away > self.hollow)).float()

    def radiance(self, xyz, dirs):
        return self.density(xyz), (xyz / 4 + 0.5).clamp(0, 1)

    def render(self, rays, background):
        t = rays.near[:, None] + (rays.far - rays.near)[:, None] * (torch.arange(200) + 0.5) / 200
        xyz = (rays.origins[:, None] + t[..., None] * rays.directions[:, None]).view(-1, 3)
        sigma, rgb = self.radiance(xyz, xyz)
        tau = sigma.view(t.shape) * (rays.far - rays.near)[:, None] / 200
        w = (tau - tau.cumsum(1)).exp() * (1 - (-tau).exp())
        rgb = (w[..., None] * rgb.view(*t.shape, 3)).sum(1)
        return over(Pixels(rgb, (w * t).sum(1), w.sum(1), w.flatten()), background)


def whole(**values) -> MeshOptions:
    return MeshOptions(**{"resolution": 24, "keep_unseen": True, **values})

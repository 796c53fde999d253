"""The network of the 2020 paper: points and directions in, density and colour out."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nerf_pl.ops import Backend, MLPLayout, frequency, nerf_mlp

Layers = dict[str, tuple[Tensor, Tensor]]


class MLPField(nn.Module):
    """The network of the 2020 paper (section 5.1, fig. 7).

    All weights lie in one flat parameter, see `ops.layout`; `layers` and `assign` show them as the paper's matrices.
    visited: the largest share of the samples that the backward pass visits, see `ops.nerf_mlp`.
    """

    def __init__(self, layout: MLPLayout, backend: Backend, visited: float = 1.0):
        super().__init__()
        self.layout, self.backend, self.visited = layout, backend, visited
        self.params = nn.Parameter(torch.zeros(layout.total))
        self.reset()

    def forward(
        self, xyz: Float[Tensor, "N 3"], dirs: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        """Raw density, to be rectified after noise is added, and colour in [0, 1]."""
        points = frequency(xyz, self.layout.xyz_freqs, backend=self.backend)
        views = frequency(dirs, self.layout.dir_freqs, backend=self.backend)
        sigma, rgb = nerf_mlp(points, views, self.params, self.layout, self.visited, backend=self.backend)
        assert rgb is not None
        return sigma, rgb

    def density(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Raw density alone."""
        points = frequency(xyz, self.layout.xyz_freqs, backend=self.backend)
        return nerf_mlp(points, None, self.params, self.layout, backend=self.backend)[0]

    @torch.no_grad()
    def reset(self) -> None:
        """Set Glorot-uniform weights, zero biases and zero padding. The bias of raw density starts at 0.1.

        If raw density is below 0 everywhere, its rectifier passes no gradient. On a white ground trainings tend to that
        state: with smaller weights and random biases one seed in two fell into it (docs/log.md).
        """
        self.params.zero_()
        layers = {}
        for name, (weight, bias) in self.layers().items():
            bound = (6 / sum(weight.shape)) ** 0.5
            start = torch.full_like(bias, 0.1 if name == "sigma" else 0.0)
            layers[name] = (torch.empty_like(weight).uniform_(-bound, bound), start)
        self.assign(layers)

    def layers(self) -> Layers:
        """Copies of all layers as (weight (out, in), bias (out,)), in the paper's shapes and without padding.

        density_0 ... density_7 (the skip layer's columns: encoded position, hidden), feature, direction (columns:
        feature, encoded direction), sigma, rgb.
        """
        p, last, X, V = self._parts(), self.layout.depth - 1, *self._widths()
        layers = {"density_0": (p["first"][:, :X], p["b_hidden"][0])}
        for i in range(1, self.layout.depth):
            hidden = p["hidden"][i - 1]
            weight = torch.cat([p["skip"][:, :X], hidden], 1) if i == self.layout.skip else hidden
            layers[f"density_{i}"] = (weight, p["b_hidden"][i])
        layers["feature"] = (p["hidden"][last], p["b_hidden"][last + 1])
        layers["direction"] = (torch.cat([p["dir"], p["view"][:, :V]], 1), p["b_dir"])
        layers["sigma"] = (p["sigma"][None], p["b_sigma"])
        layers["rgb"] = (p["rgb"], p["b_rgb"])
        return {name: (w.detach().clone(), b.detach().clone()) for name, (w, b) in layers.items()}

    @torch.no_grad()
    def assign(self, layers: Layers) -> None:
        """The inverse of `layers`. Layers that are not given keep their values.

        Raises ValueError for an unknown name or another shape.
        """
        own = self.layers()
        p, last, X, V = self._parts(), self.layout.depth - 1, *self._widths()
        for name, (weight, bias) in layers.items():
            if name not in own or weight.shape != own[name][0].shape or bias.shape != own[name][1].shape:
                expected = tuple(own[name][0].shape) if name in own else f"one of {', '.join(own)}"
                raise ValueError(f"layer {name} {tuple(weight.shape)} does not fit: expected {expected}")
            match name:
                case "density_0":
                    p["first"][:, :X], p["b_hidden"][0] = weight, bias
                case "feature":
                    p["hidden"][last], p["b_hidden"][last + 1] = weight, bias
                case "direction":
                    split = self.layout.width
                    p["dir"][:], p["view"][:, :V], p["b_dir"][:] = weight[:, :split], weight[:, split:], bias
                case "sigma":
                    p["sigma"][:], p["b_sigma"][:] = weight[0], bias
                case "rgb":
                    p["rgb"][:], p["b_rgb"][:] = weight, bias
                case _:
                    i = int(name.removeprefix("density_"))
                    if i == self.layout.skip:
                        p["skip"][:, :X] = weight[:, :X]
                        weight = weight[:, X:]
                    p["hidden"][i - 1], p["b_hidden"][i] = weight, bias

    def _parts(self) -> dict[str, Tensor]:
        return self.layout.parts(self.params.detach())

    def _widths(self) -> tuple[int, int]:
        return 3 + 6 * self.layout.xyz_freqs, 3 + 6 * self.layout.dir_freqs

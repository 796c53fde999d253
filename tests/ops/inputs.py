"""What the tests of ops share: where they run, backends, and inputs."""

from importlib.util import find_spec

import torch
from torch import Tensor

from nerf_pl.ops import Backend, FieldLayout, GridLayout, pack_bits
from nerf_pl.types import Rays

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NATIVE = DEVICE.type == "cuda"
HALF = torch.float16 if NATIVE else torch.float32  # the interpreter has no bfloat16 product, which goes with it

TWINS = Backend()
EXACT = Backend(dtype=torch.float64)  # the same, in a type that is the truth for others
KERNELS = Backend("triton", "triton", "triton", "triton", "triton", "triton")
COMPILED = Backend(hash_field="numba", march="numba", adam="numba")
FUSED = {"kernel": KERNELS} | ({"compiled": COMPILED} if find_spec("numba") and not NATIVE else {})
BOTH = FUSED | {"twin": TWINS}

SMALL = GridLayout(levels=3, features=4, log2_size=9, base=4, finest=30)
BOX = torch.tensor([[-1.0, -0.5, -0.5], [1.0, 0.5, 0.6]], device=DEVICE)
CUBE = torch.tensor([[-1.0, -2.0, 0.0], [3.0, 2.0, 4.0]], device=DEVICE)  # half side 2


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def integer(value: int) -> Tensor:
    return torch.tensor([value], dtype=torch.int32, device=DEVICE)


def field_inputs(layout: FieldLayout, n: int) -> list[Tensor]:
    """Features (n, inputs), encoded directions of 9 rays, ray ids (n,), and weights."""
    features, view = uniform(n, layout.inputs) - 0.5, uniform(9, layout.view, seed=1) - 0.5
    ray_ids = (uniform(n, seed=2) * 9).int()
    weights = [(uniform(*s, seed=3 + i) - 0.5) * 4 / s[-1] ** 0.5 for i, s in enumerate(layout.shapes.values())]
    return [features, view, ray_ids, torch.cat([w.flatten() for w in weights])]


def through_the_box(n: int) -> Rays:
    """Rays that pass BOX, or nearly so."""
    directions = torch.nn.functional.normalize(uniform(n, 3, seed=1) - 0.5, dim=1)
    aim = (uniform(n, 3, seed=2) - 0.5) * torch.tensor([2.4, 1.2, 1.2], device=DEVICE)
    near, far = torch.full((n,), 0.3, device=DEVICE), torch.full((n,), 6.0, device=DEVICE)
    return Rays(aim - 3 * directions, directions, directions, near, far)


def outward(n: int) -> Rays:
    """Rays that start in CUBE and leave it."""
    directions = torch.nn.functional.normalize(uniform(n, 3, seed=1) - 0.5, dim=1)
    near, far = torch.full((n,), 0.3, device=DEVICE), torch.full((n,), 500.0, device=DEVICE)
    return Rays(CUBE[0] + uniform(n, 3, seed=2) * 4, directions, directions, near, far)


def in_double(rays: Rays) -> Rays:
    values = (rays.origins, rays.directions, rays.viewdirs, rays.near, rays.far)
    return Rays(*(value.double() for value in values))


def occupied(size: int, share: float) -> Tensor:
    return pack_bits(uniform(size**3, seed=3) < share)

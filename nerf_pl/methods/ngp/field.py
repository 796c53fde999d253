"""The hash grid and its networks: from points of the unit cube and directions to density and colour."""

import torch
from torch import Tensor, nn

from nerf_pl.ops import Backend, FieldLayout, GridLayout, HashWeights


class HashField(nn.Module):
    """A multiresolution hash grid and two small networks (Mueller et al. 2022), over the unit cube.

    `table` holds the entries of the grid, `params` the weights of the networks, both in float32. `values` is the copy
    of the table in half precision that kernels read. The optimizer writes both. After any other change of the table
    call `refresh`.
    """

    values: Tensor | None

    def __init__(self, grid: GridLayout, networks: FieldLayout, backend: Backend):
        super().__init__()
        self.grid, self.networks = grid, networks
        self.table = nn.Parameter(torch.empty(grid.total, grid.features).uniform_(-1e-4, 1e-4))
        self.params = nn.Parameter(torch.empty(networks.total))
        with torch.no_grad():
            for weight in networks.parts(self.params).values():
                weight.uniform_(-1, 1).mul_((6 / sum(weight.shape)) ** 0.5)
        half = self.table.detach().half() if backend.hash_field == "triton" else None
        self.register_buffer("values", half, persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.refresh())

    @property
    def weights(self) -> HashWeights:
        """What the ops of a hash field take."""
        return HashWeights(self.table, self.params, self.grid, self.networks, self.values)

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the copy in half precision up to date."""
        if self.values is not None:
            self.values.copy_(self.table)

"""The gated recurrent unit (Cho et al. 2014), as torch defines it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnade_lightning.cells import Fused


class GRU(nn.GRU, Fused):
    """Reset, update and new gate, in torch's order; parameters have torch's names."""

    kernel = "gru"
    kernel_weights = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weight_ih_l0: Tensor  # (G, N)
    weight_hh_l0: Tensor  # (G, R)
    bias_ih_l0: Tensor  # (G,)
    bias_hh_l0: Tensor

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        from_x = x @ self.weight_ih_l0.T + self.bias_ih_l0
        from_u = u @ self.weight_hh_l0.T + self.bias_hh_l0
        r_x, z_x, n_x = from_x.chunk(3, -1)
        r_u, z_u, n_u = from_u.chunk(3, -1)
        r, z = torch.sigmoid(r_x + r_u), torch.sigmoid(z_x + z_u)
        n = torch.tanh(n_x + r * n_u)
        return (1 - z) * n + z * u

    def forward(self, inputs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        after, last = super().forward(inputs, u[None].contiguous())
        return after, last[0]

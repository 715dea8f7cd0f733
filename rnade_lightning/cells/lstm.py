"""Long short-term memory (Hochreiter and Schmidhuber 1997), as torch defines it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnade_lightning.cells import Fused


class LSTM(nn.LSTM, Fused):
    """Input, forget, cell and output gate, in torch's order; the state is units and cells."""

    n_states = 2
    kernel = "lstm"
    kernel_weights = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weight_ih_l0: Tensor  # (G, N)
    weight_hh_l0: Tensor  # (G, R)
    bias_ih_l0: Tensor  # (G,)
    bias_hh_l0: Tensor

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        h, c = u.chunk(2, -1)
        gates = x @ self.weight_ih_l0.T + self.bias_ih_l0 + h @ self.weight_hh_l0.T
        i, f, g, o = (gates + self.bias_hh_l0).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat((torch.sigmoid(o) * torch.tanh(c), c), -1)

    def forward(self, inputs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h, c = (part[None].contiguous() for part in u.chunk(2, -1))
        after, (h, c) = super().forward(inputs, (h, c))
        return after, torch.cat((h[0], c[0]), -1)

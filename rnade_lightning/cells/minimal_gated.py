"""The minimal gated unit (Zhou et al. 2016, arXiv 1603.09420): a cell of one gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnade_lightning.cells import Cell


class MinimalGated(Cell):
    r"""$f_t = s(W_f x_t + U_f u_{t-1} + b_f)$,
    $u_t = (1 - f_t) u_{t-1} + f_t \tanh(W_n x_t + U_n (f_t u_{t-1}) + b_n)$.

    Args:
        n_inputs: numbers that it reads.
        n_recurrent: R, units.
        batch_first: as torch's cells have it; always true.
    """

    def __init__(self, n_inputs: int, n_recurrent: int, batch_first: bool = True) -> None:
        super().__init__()
        self.forget = nn.Linear(n_inputs + n_recurrent, n_recurrent)
        self.new = nn.Linear(n_inputs + n_recurrent, n_recurrent)

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        f = torch.sigmoid(self.forget(torch.cat((x, u), -1)))
        return (1 - f) * u + f * torch.tanh(self.new(torch.cat((x, f * u), -1)))

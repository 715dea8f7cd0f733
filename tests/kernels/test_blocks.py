"""Count what log p in torch operations costs, on any device. `test_cpu` compares its numbers."""

from __future__ import annotations

from typing import Any

import pytest
import reference
import torch
from reference import supplement
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Count(TorchDispatchMode):
    """Counts operations and the numbers in the largest result."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.largest = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        moved = func.namespace == "aten" and not func.is_view
        self.calls += moved
        if moved and isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel())
        return out


@pytest.mark.slow
def test_few_operations_a_block_and_nothing_as_large_as_all_units() -> None:
    H, K, R, N = 32, 3, 20, 4000
    found = []
    for n_blocks in (2, 4):
        frames = torch.empty(1, N, 16 * n_blocks, device="meta")
        model = supplement(16 * n_blocks, H, R, K).to("meta")
        seen = model.states(frames)[0].detach()
        with Count() as count, reference.MetaOnly():
            params = model.frame_params(seen)
            model.density.log_prob(frames, params).sum().backward()
        assert count.largest <= 17 * N * max(H, 3 * K)
        found.append(count.calls)
    assert (found[1] - found[0]) / 2 < 110  # forward and backward of 16 features

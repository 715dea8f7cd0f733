"""Count what log p in torch operations costs, on any device. `test_cpu` compares its numbers."""

from __future__ import annotations

from typing import Any

import pytest
import reference
import torch
from reference import supplement
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rnade_lightning.kernels import blocks


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


def counted(n_features: int, n_frames: int) -> Count:
    """Return the count of a forward and backward pass on a device that computes nothing."""
    frames = torch.empty(n_frames // 10, 10, n_features, device="meta")
    model = supplement(n_features, 32, 20, 3).to("meta")
    seen = model.states(frames)[0].detach()
    with Count() as count, reference.MetaOnly():
        model.density.log_prob(frames, model.frame_params(seen)).sum().backward()
    return count


def test_few_operations_whatever_the_features() -> None:
    found = [counted(n_features, 1000).calls for n_features in (16, 64)]
    assert found[0] == found[1] < 200


def test_nothing_as_large_as_the_units_of_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    n_frames, bound = 40_000, 1 << 20
    assert counted(16, n_frames).largest >= n_frames * 16 * 32
    monkeypatch.setattr(blocks, "N_NUMBERS_ELSEWHERE", bound)
    assert counted(16, n_frames).largest <= bound

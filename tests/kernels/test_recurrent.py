"""Compiled states and their gradients are those of the torch path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from kernel_pairs import pair, randn
from reference import relative_error, supplement

from rnade_lightning.kernels import recurrent


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm"])
def test_many_wide_rows_equal_few(cell: Any) -> None:
    model, frames = supplement(3, 4, 256, 2, cell=cell).double(), randn(16, 5, 3)
    few = torch.cat([model.log_prob(rows) for rows in frames.split(4)])
    torch.testing.assert_close(model.log_prob(frames), few, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("piece", [1, 12, 1 << 12], ids=lambda n: f"piece{n}")
@pytest.mark.parametrize("n_past", [0, 2])
@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm"])
def test_states_and_their_gradients_equal_the_torch_path(
    cell: Any, n_past: int, piece: int, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrent, "PIECE", piece)
    found = []
    for model in pair(supplement, 5, 4, 6, 2, cell=cell, n_past=n_past):
        frames = randn(3, 7, 5).requires_grad_()
        u = randn(3, model.initial_state(1).shape[1], n=2).requires_grad_()
        seen, last = model.states(frames, u)
        total = (randn(*seen.shape, n=3) * seen).sum() + (randn(*last.shape, n=4) * last).sum()
        named = {n: p for n, p in model.named_parameters() if not n.startswith("rnade")}
        inputs = [*named.values(), frames, u]
        grads = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)
        found.append([seen, last, *grads])
    for one, two in zip(*found, strict=True):
        assert one.shape == two.shape
        assert relative_error(two, one) < 1e-10


def test_no_frames_leave_the_state_as_it_is() -> None:
    model, u = supplement(3, 4, 5, 2, "lstm"), randn(2, 10).float()
    seen, last = model.states(torch.empty(2, 0, 3), u)
    assert seen.shape == (2, 0, 5)
    assert torch.equal(last, u)

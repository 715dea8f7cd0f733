"""Every recurrent cell of the package keeps its promises. A new one is tested because it is
there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import relative_error, spread, supplement
from torch import Tensor

from rnade_lightning.callbacks.gradient_check import gradient_table, require_correct
from rnade_lightning.cells import Cell, cell_class, cell_names
from rnade_lightning.cells.gru import GRU

every_cell = pytest.mark.parametrize("name", cell_names())


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def make(name: str, n_inputs: int = 3, R: int = 5) -> Any:
    kind: Any = cell_class(name)
    return spread(kind(n_inputs, R, batch_first=True).double())


def test_those_that_are_shipped_are_found() -> None:
    assert {"gru", "lstm", "minimal_gated", "sigmoid", "tanh"} <= set(cell_names())


@every_cell
def test_all_steps_at_once_are_the_elementary_steps(name: str) -> None:
    cell, inputs = make(name), randn(2, 6, 3)
    u = start = 0.5 * randn(2, 5 * cell.n_states, seed=1)
    after, last = cell(inputs, start)
    for t in range(6):
        u = cell.step(inputs[:, t], u)
        torch.testing.assert_close(after[:, t], u[:, :5], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(last, u, rtol=1e-10, atol=1e-12)
    assert after.shape == (2, 6, 5)


@every_cell
def test_their_gradients_are_those_of_the_elementary_steps(name: str) -> None:
    cell, weight = make(name), randn(2, 4, 5, seed=2)
    found = []
    for forward in (cell.forward, lambda x, u: Cell.forward(cell, x, u)):
        inputs = randn(2, 4, 3).requires_grad_()
        u = (0.5 * randn(2, 5 * cell.n_states, seed=1)).requires_grad_()
        after, last = forward(inputs, u)
        total = (weight * after).sum() + last.square().sum()
        found.append(torch.autograd.grad(total, (inputs, u, *cell.parameters())))
    for one, two in zip(*found, strict=True):
        assert relative_error(one, two) < 1e-9


@pytest.mark.slow
@every_cell
def test_a_model_with_it_is_right_everywhere(name: str) -> None:
    """Density, gradients, chunks, steps, sampler and stream are right, on both backends."""
    frames, results = randn(2, 6, 3), []
    for backend in ("torch", "compiled"):
        model = spread(supplement(3, 4, 5, 2, name, n_past=1, backend=backend).double(), 0.4)
        log_p = model.log_prob(frames)
        start, u = model.log_prob_and_state(frames[:, :2])
        rest, u = model.log_prob_and_state(frames[:, 2:], u=u)
        torch.testing.assert_close(torch.cat((start, rest), 1), log_p)
        u = model.initial_state(2)
        for t in range(6):
            history = u[:, : model.n_history]
            torch.testing.assert_close(model.log_prob_given(history, frames[:, t]), log_p[:, t])
            u = model.step(frames[:, t], u)
        draws = model.sample(4, 3, prefix=frames, generator=torch.Generator().manual_seed(0))
        gradients = torch.autograd.grad(log_p.sum(), list(model.parameters()))
        results.append([log_p, draws, *gradients])
        require_correct(gradient_table(model, frames[:, :4]))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)


@every_cell
def test_layers_of_it_and_padding(name: str) -> None:
    model = spread(supplement(3, 4, 5, 2, name, n_layers=2).double(), 0.4)
    frames, mask = randn(2, 5, 3), torch.arange(5) < torch.tensor([[5], [3]])
    u = model.log_prob_and_state(frames, mask)[1]
    torch.testing.assert_close(u[1:], model.states(frames[1:, :3])[1])


def test_a_wrong_step_is_seen() -> None:
    cell = make("minimal_gated")

    class Wrong(type(cell)):  # type: ignore[misc]
        def step(self, x: Tensor, u: Tensor) -> Tensor:
            return 1.001 * super().step(x, u)

    wrong = Wrong(3, 5).double()
    wrong.load_state_dict(cell.state_dict())
    inputs, u = randn(2, 6, 3), randn(2, 5, seed=1)
    assert not torch.allclose(wrong(inputs, u)[0], cell(inputs, u)[0])


@pytest.mark.parametrize("name", ["relu", "torch.nn.GRU"])
def test_what_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is none of the cells gru|is not a subclass of"):
        supplement(3, 4, 5, 2, name)


class Fading(GRU):
    """A step of its own, where GRU has a fused operation and compiled code."""

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return 0.9 * super().step(x, u)


def test_a_subclass_runs_the_step_that_it_writes_down() -> None:
    model = spread(supplement(3, 4, 5, 2, cell=f"{__name__}.Fading").double())
    frames, u = randn(2, 6, 3), model.initial_state(2)
    history, last = model.states(frames)
    for t in range(6):
        torch.testing.assert_close(history[:, t], u)
        u = model.layers[0].step(frames[:, t], u)
    torch.testing.assert_close(last, u)


def test_a_kernel_that_there_is_not_is_refused() -> None:
    model = supplement(3, 4, 5, 2, "gru")
    model.layers[0].kernel = "odd"
    with pytest.raises(ValueError, match=r"cell kernel 'odd' is none of sigmoid, tanh, gru, lstm"):
        model.log_prob(torch.zeros(1, 2, 3))


@pytest.mark.parametrize("name", ["gru", "tanh"])
def test_hooks_are_called_on_the_compiled_path_too(name: str) -> None:
    model, frames = supplement(3, 4, 5, 2, name, n_layers=2).double(), randn(2, 6, 3)
    expected = model.log_prob(frames), model.sample(4, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    handle = model.layers[0].register_forward_hook(lambda cell, given, out: seen.append(out[0]))
    found = model.log_prob(frames), model.sample(4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, expected)
    assert [len(units) for units in seen] == [2, 1, 1, 1, 1]
    assert seen[0].shape == (2, 6, 5)
    handle.remove()
    model.log_prob(frames)
    assert len(seen) == 5

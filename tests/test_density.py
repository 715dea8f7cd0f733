"""The properties of a sequence density hold for any class that fills in the interface."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from reference import spread
from torch import Tensor

from rnade_lightning import RNNRNADE, RNNDensity, SequenceDensity, densities
from rnade_lightning.density import side_by_side


class RandomWalk(SequenceDensity):
    """x_t ~ N(x_{t-1}, 1), x_0 = 0: a sequence density without weights."""

    n_features = 2
    n_history = 2
    floor = 0.0

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, 2, dtype=torch.float64)

    def states(
        self, frames: Tensor, u: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        u = self.initial_state(len(frames)) if u is None else u
        whole = torch.cat((u[:, None], frames), 1)
        n = torch.full((len(frames),), frames.shape[1]) if mask is None else mask.sum(1)
        return whole[:, :-1], whole[torch.arange(len(frames)), n]

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return x

    def log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        return -0.5 * (frames - history).square().sum(-1) - math.log(2 * math.pi)

    def sample_given(
        self,
        history: Tensor,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        shape = (*sample_shape, *history.shape)
        noise = torch.randn(shape, generator=generator, dtype=history.dtype)
        return history + temperature * noise

    def mean_given(
        self, history: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        return history


def randn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_log_p_in_chunks_in_steps_and_behind_padding() -> None:
    walk, frames = RandomWalk(), randn(3, 6, 2).cumsum(1)
    log_p = walk.log_prob(frames)
    start, u = walk.log_prob_and_state(frames[:, :2])
    torch.testing.assert_close(torch.cat((start, walk.log_prob(frames[:, 2:], u=u)), 1), log_p)
    mask = torch.arange(6) < torch.tensor([[6], [4], [1]])
    masked, u = walk.log_prob_and_state(frames, mask)
    torch.testing.assert_close(masked, log_p.where(mask, torch.zeros(()).double()))
    torch.testing.assert_close(u[1], frames[1, 3])


def test_a_model_is_called_for_its_log_p() -> None:
    walk, frames, u = RandomWalk(), randn(3, 6, 2), randn(3, 2)
    mask = torch.arange(6) < torch.tensor([[6], [4], [1]])
    torch.testing.assert_close(walk(frames), walk.log_prob(frames), rtol=0, atol=0)
    torch.testing.assert_close(
        walk(frames, mask, u), walk.log_prob(frames, mask, u), rtol=0, atol=0
    )


def test_samples_continue_their_prefix_and_stream_alike() -> None:
    walk, prefix = RandomWalk(), randn(2, 5, 2)
    draws = walk.sample(4, 3, prefix=prefix, generator=torch.Generator().manual_seed(1))
    assert draws.shape == (2, 3, 4, 2)
    stream = walk.stream(4, 3, prefix=prefix, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.stack(list(stream), 2), draws)
    calm = walk.sample(1, 2000, prefix=prefix, temperature=0.1)[:, :, 0]
    torch.testing.assert_close(calm.mean(1), prefix[:, -1], atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        walk.sample(1, temperature=0)


def test_predictive_figures_are_of_the_frame_after_its_history() -> None:
    walk, frames = RandomWalk(), randn(1, 4, 2)
    torch.testing.assert_close(walk.predictive_mean(frames)[:, 1:], frames[:, :-1])
    assert walk.one_step_samples(frames, n_samples=7).shape == (7, 1, 4, 2)
    for what in (walk.feature_log_prob, walk.feature_cdf):
        with pytest.raises(NotImplementedError, match="RandomWalk has no"):
            what(frames)


@pytest.mark.parametrize("most", [1, 7, 10**9])
def test_all_draws_are_made_some_at_a_time(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = torch.empty(0, device="meta")
    monkeypatch.setattr("rnade_lightning.density.AT_ONCE", 6 * most)
    pieces = side_by_side(100, (2, 3), elsewhere)
    assert sum(pieces) == 100
    assert max(pieces) == min(most, 100)
    assert side_by_side(3, (2, 3), torch.empty(0)) == [1, 1, 1]


@pytest.mark.parametrize("kind", ["rnade", "coupled", "flow"])
def test_a_mean_is_the_same_of_draws_made_together(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where an operation on many takes as long as on one."""
    if kind == "flow":
        pytest.importorskip("zuko")
    torch.manual_seed(0)
    density = densities.Flow(3, 4) if kind == "flow" else None
    options = {"n_couplings": 2} if kind == "coupled" else {}
    model = RNNDensity(density, 4) if density else RNNRNADE(3, 4, 4, 2, **options)
    model = spread(model.double(), 0.5)
    history = model.states(randn(2, 3, 3))[0]
    n, found = 3000, []
    for at_once in (1, 700):
        for name in ("rnade", "couplings", "densities"):
            pieces = [min(at_once, n - done) for done in range(0, n, at_once)]
            monkeypatch.setattr(f"rnade_lightning.{name}.side_by_side", lambda *_, p=pieces: p)
        found.append(model.mean_given(history, n, torch.Generator().manual_seed(1)))
    error = model.sample_given(history, (n,)).std(0) * (2 / n) ** 0.5
    assert found[1].shape == (2, 3, 3)
    assert ((found[1] - found[0]).abs() < 4 * error).all()

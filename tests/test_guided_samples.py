"""Sequences drawn toward an aim are those of the model given that they are observed there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rnade_lightning import RNNRNADE
from rnade_lightning.guided_samples import _forget, _traced, guided

KEPT, SIGMA, ERROR, N_FRAMES, N_STRETCH = 0.9, 0.5, 0.3, 12, 4


@pytest.fixture(scope="module")
def model() -> RNNRNADE:
    """Make x_t = 0.9 x_{t-1} + 0.5 e_t of a model."""
    model = RNNRNADE(1, 0, 2, 1, component="gaussian", floor=0.0).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.A.fill_(KEPT)
        model.rnade.b_sigma.fill_(np.log(SIGMA))
        expected = torch.distributions.Normal(0.0, SIGMA).log_prob(torch.tensor(0.7).double())
        assert model.log_prob(torch.full((1, 1, 1), 0.7).double())[0, 0].isclose(expected)
    return model


class Seen:
    """The last frame of each stretch, observed with a normal error."""

    n_frames = N_FRAMES
    at = range(N_STRETCH - 1, N_FRAMES, N_STRETCH)
    seen = (0.6, -0.3, 0.5)

    def __init__(self, promises: bool = True) -> None:
        self.promises = promises

    def beyond(self) -> list[str]:
        return []

    def render(self, *what: object) -> list[Path]:
        return []

    def fit(
        self, frames: Tensor, start: int, before: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        last, i = frames[:, -1, 0].numpy(), start // N_STRETCH
        assert (before is None) == (start == 0)
        if before is not None:
            assert before.shape == (len(frames), 1)
            assert (before == start).all()
        now = -0.5 * ((last - self.seen[i]) / ERROR) ** 2
        later = -0.5 * (last - self.seen[min(i + 1, 2)]) ** 2 * self.promises * (i < 2)
        return now, later, np.full((len(frames), 1), start + frames.shape[1])


def posterior() -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of every frame, by the formulas of a normal distribution."""
    t = np.arange(N_FRAMES)
    response = np.tril(KEPT ** np.maximum(t[:, None] - t, 0.0))
    covariance = SIGMA**2 * response @ response.T
    at = list(Seen.at)
    gain = covariance[:, at] @ np.linalg.inv(covariance[np.ix_(at, at)] + ERROR**2 * np.eye(3))
    return gain @ np.array(Seen.seen), np.sqrt(np.diag(covariance - gain @ covariance[at]))


def drawn(
    model: RNNRNADE,
    n: int,
    leaves: object = lambda x: None,
    particles: int = 64,
    promises: bool = True,
) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    u = model.initial_state(n * particles).detach()
    rest = N_FRAMES, 4.0 * N_STRETCH, leaves, Seen(promises), generator
    found = guided(model, u, *rest, particles=particles)  # type: ignore[arg-type]
    return torch.stack(found)[..., 0]


@pytest.mark.parametrize("promises", [False, True])
def test_draws_are_those_of_the_posterior(model: RNNRNADE, promises: bool) -> None:
    mean, deviation = posterior()
    found = drawn(model, 400, promises=promises, particles=100)
    np.testing.assert_allclose(found.mean(0), mean, atol=0.08)
    np.testing.assert_allclose(found.std(0), deviation, rtol=0.15)


def test_one_particle_is_a_draw_of_the_model(model: RNNRNADE) -> None:
    found = drawn(model, 1000, particles=1)
    t = np.arange(1, N_FRAMES + 1)
    np.testing.assert_allclose(found.mean(0), 0.0, atol=0.1)
    expected = SIGMA * np.sqrt((1 - KEPT ** (2 * t)) / (1 - KEPT**2))
    np.testing.assert_allclose(found.std(0), expected, rtol=0.1)


def test_what_leaves_the_data_is_not_kept_where_another_stays(model: RNNRNADE) -> None:
    def leaves(x: Tensor) -> str | None:
        return "high" if x.max() > 1 else None

    found = drawn(model, 20, leaves, particles=64)
    assert not any(leaves(x) for x in found)
    assert len(drawn(model, 20, lambda x: "always", particles=8)) == 20


def test_what_no_particle_came_from_is_forgotten() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn: list[Tensor] = []
    parents: list[Tensor] = []
    whole: list[tuple[Tensor, Tensor]] = []
    for _ in range(20):
        frames = torch.randn(6, 2, 1, generator=generator)
        kept = torch.randint(6, (6,), generator=generator)
        drawn.append(frames)
        parents.append(kept)
        whole.append((frames, kept))
        _forget(drawn, parents)
    assert [len(x) for x in drawn[:3]] == [1, 1, 1]
    at = torch.arange(6)
    every = _traced([x for x, _ in whole], [kept for _, kept in whole], at)
    torch.testing.assert_close(_traced(drawn, parents, at), every)


def test_one_sequence_of_one_particle_is_drawn(model: RNNRNADE) -> None:
    assert drawn(model, 1, particles=1).shape == (1, N_FRAMES)


def test_no_frames_are_none_and_numbers_that_are_none_are_refused(model: RNNRNADE) -> None:
    u = model.initial_state(6)
    rest = 16.0, lambda x: None, Seen()
    assert [x.shape for x in guided(model, u, 0, *rest, particles=3)] == [(0, 1)] * 2
    with pytest.raises(ValueError, match="sample 0 diverged; lower --temperature"):
        guided(model, u * torch.nan, 4, *rest, particles=3)

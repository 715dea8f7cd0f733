"""Sequences drawn toward an aim are those of the model given that they are observed there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rnade_lightning import RNNRNADE
from rnade_lightning.guided_samples import _forget, _traced, guided
from rnade_lightning.sequence_density import SequenceDensity

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

    n_stretch, n_learnt, features = N_STRETCH, 8, (0,)
    at = range(N_STRETCH - 1, N_FRAMES, N_STRETCH)
    seen = (0.6, -0.3, 0.5)

    def __init__(
        self, promises: bool = True, slope: float = 0.0, n_before: int = 0, n_frames: int = N_FRAMES
    ) -> None:
        self.promises, self.slope, self.n_before = promises, slope, n_before
        self.n_frames = n_frames

    def with_run_up(self) -> Seen:
        return self

    def learnt(self, frames: Tensor, noise: Tensor) -> Seen:
        """See x_t = 0.9 x_{t-1} + 0.5 e_t in what was drawn freely."""
        assert frames.shape == noise.shape
        assert frames.shape[1:] == (self.n_learnt, 1)
        rest = frames[:, 1:] - KEPT * frames[:, :-1]
        torch.testing.assert_close(rest, SIGMA * noise[:, 1:])
        return self

    def begun(self, n: int) -> np.ndarray:
        return np.tile([-self.n_before, 0.0], (n, 1))

    def slopes(self, start: int, before: np.ndarray) -> np.ndarray:
        """Lead to what is seen next, at a pace of one's own."""
        assert (before[:, 0] == start).all()
        return self.slope * (self.seen[max(start, 0) // N_STRETCH] - before[:, 1:])

    def beyond(self) -> list[str]:
        return []

    def render(self, *what: object) -> list[Path]:
        return []

    def fit(
        self, frames: Tensor, start: int, before: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        last, i = frames[:, -1, 0].numpy(), start // N_STRETCH
        assert before.shape == (len(frames), 2)
        assert (before[:, 0] == start).all()
        known = np.stack([np.full(len(last), start + frames.shape[1]), last], 1)
        if start < 0:
            return 0 * last, 0 * last, known
        now = -0.5 * ((last - self.seen[i]) / ERROR) ** 2
        later = -0.5 * (last - self.seen[min(i + 1, 2)]) ** 2 * self.promises * (i < 2)
        return now, later, known


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
    **how: Any,
) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    u = model.initial_state(n * particles).detach()
    found = guided(model, u, leaves, Seen(**how), generator, particles=particles)  # type: ignore[arg-type]
    return torch.stack(found)[..., 0]


@pytest.mark.parametrize(("promises", "slope"), [(False, 0.0), (True, 0.0), (True, 0.5)])
def test_draws_are_those_of_the_posterior(model: RNNRNADE, promises: bool, slope: float) -> None:
    mean, deviation = posterior()
    found = drawn(model, 400, promises=promises, slope=slope, particles=100)
    np.testing.assert_allclose(found.mean(0), mean, atol=0.08)
    np.testing.assert_allclose(found.std(0), deviation, rtol=0.15)


def test_one_particle_is_a_draw_of_the_model(model: RNNRNADE) -> None:
    found = drawn(model, 1000, particles=1)
    t = np.arange(1, N_FRAMES + 1)
    np.testing.assert_allclose(found.mean(0), 0.0, atol=0.1)
    expected = SIGMA * np.sqrt((1 - KEPT ** (2 * t)) / (1 - KEPT**2))
    np.testing.assert_allclose(found.std(0), expected, rtol=0.1)


def test_tilted_proposals_are_better_and_without_weights_wrong(
    model: RNNRNADE, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean, _ = posterior()
    bare, led = (
        np.abs(drawn(model, 400, slope=slope, particles=4).numpy().mean(0) - mean).mean()
        for slope in (0.0, 0.5)
    )
    assert led < 0.7 * bare
    whole = model.tilted
    monkeypatch.setattr(model, "tilted", lambda *args: (*(found := whole(*args))[:3], 0 * found[3]))
    found = drawn(model, 400, slope=0.5, particles=100)
    assert np.abs(found.numpy().mean(0) - mean).max() > 0.08


def test_a_run_up_is_not_kept_and_has_run(model: RNNRNADE) -> None:
    found = drawn(model, 1000, particles=1, n_before=10 * N_STRETCH)
    assert found.shape == (1000, N_FRAMES)
    np.testing.assert_allclose(found.std(0), SIGMA / (1 - KEPT**2) ** 0.5, rtol=0.1)


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
    none = guided(model, u, lambda x: None, Seen(n_frames=0), particles=3)
    assert [x.shape for x in none] == [(0, 1)] * 2
    with pytest.raises(ValueError, match="all samples diverged; lower --temperature"):
        guided(model, u * torch.nan, lambda x: None, Seen(), particles=3)
    u = model.initial_state(128 * 2).clone()
    u[:128] = torch.nan
    with pytest.raises(ValueError, match="sample 0 diverged; lower --temperature"):
        guided(model, u, lambda x: None, Seen(), particles=128)


def test_a_model_without_tilts_draws_as_it_does(model: RNNRNADE) -> None:
    u, slopes = model.initial_state(50), torch.ones(50, 1).double()

    def found(kind: type[SequenceDensity]) -> tuple[Tensor, ...]:
        how = torch.Generator().manual_seed(0), 1.0
        return kind._tilted(model, 5, u, [0], slopes, how, None)

    frames, after, noise, ratio = found(SequenceDensity)
    assert not noise.any()
    assert not ratio.any()
    expected = model.sample(5, u=u, generator=torch.Generator().manual_seed(0))[:, 0]
    torch.testing.assert_close(frames, expected)
    torch.testing.assert_close(after, model.states(frames, u)[1])
    frames, after, noise, ratio = found(RNNRNADE)
    assert (frames > expected).all()
    torch.testing.assert_close(after, model.states(frames, u)[1])
    torch.testing.assert_close(ratio, (0.5 - noise).sum((1, 2)))


def test_slopes_that_do_not_fit_are_refused(model: RNNRNADE) -> None:
    u = model.initial_state(3)
    with pytest.raises(ValueError, match="slopes"):
        model.tilted(2, u, [0], torch.zeros(2, 1).double())
    with pytest.raises(ValueError, match="temperature must be above 0"):
        model.tilted(2, u, [0], torch.zeros(3, 1).double(), temperature=0.0)


def test_draws_that_are_not_tilted_are_samples_and_tilts_reach_what_follows() -> None:
    order = [2, 0, 1]
    model = RNNRNADE(3, 4, 5, 2, n_past=2, whiten=True, n_scales=3, feature_order=order).double()
    with torch.no_grad():
        model.root.copy_(torch.eye(3) + 0.1 * torch.ones(3, 3).tril(-1))
    u = model.initial_state(4)

    def found(slope: float) -> tuple[Tensor, ...]:
        slopes = torch.full((4, 1), slope).double()
        return model.tilted(1, u, [0], slopes, torch.Generator().manual_seed(0))

    plain, moved = found(0.0), found(0.5)
    expected = model.sample(1, u=u, generator=torch.Generator().manual_seed(0))[:, 0]
    torch.testing.assert_close(plain[0], expected)
    torch.testing.assert_close(plain[1], model.states(expected, u)[1])
    assert not plain[3].any()
    change = (moved[0] - plain[0])[:, 0]
    assert (change[:, 2] == 0).all()  # it is drawn before
    assert (change[:, 0] > 0).all()
    assert (change[:, 1] != 0).all()

"""RNN-Experts is a mass of integers: sums, chunks, gradients, and samples that are its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from rnade_lightning.callbacks.gradient_check import gradient_table
from rnade_lightning.datamodules.sound import front_end, panel
from rnade_lightning.rnn_experts import RNNExperts

D, C = 4, panel.N_SIDE


def model_of(seed: int = 0, noise: float = 0.1) -> RNNExperts:
    torch.manual_seed(seed)
    model = RNNExperts(D, n_recurrent=5, n_hidden=8, n_components=3, n_lags=6).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model


def sound(n_frames: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return innovations ``(1, T, D)`` and side information ``(1, T, D, C)`` of some integers."""
    rng = np.random.default_rng(seed)
    x = np.round(np.cumsum(rng.normal(size=n_frames * D) * 20))
    z, side, _ = front_end.analyse(front_end.start(), x, np.zeros(0))
    frames = torch.from_numpy(z).view(1, n_frames, D)
    return frames, torch.from_numpy(side.astype(float)).view(1, n_frames, D, C)


def test_the_masses_of_all_integers_add_up_to_one() -> None:
    model, (frames, side) = model_of(), sound(30)
    scale = side[0, -1, 2, 0].exp()
    at = frames[0, -1, 2] + torch.arange(-20_000, 20_001) / scale
    whole = frames.expand(len(at), -1, -1).clone()
    whole[:, -1, 2] = at
    history = model.states(frames, context=side)[0][:, -1].expand(len(at), -1)
    log_mass = model.feature_log_prob_given(history, whole[:, -1])[:, 2]
    assert torch.isclose(log_mass.exp().sum(), torch.tensor(1.0).double(), atol=1e-9)
    assert (log_mass < 0).all()


def test_a_sample_is_told_of_those_before_it_alone() -> None:
    model, (frames, side) = model_of(), sound(10)
    terms = model.feature_log_prob(frames, context=side)
    other = frames.clone()
    other[0, 5, 2] += 0.5
    changed = (model.feature_log_prob(other, context=side) != terms)[0].flatten()
    assert not changed[: 5 * D + 2].any()
    assert changed[5 * D + 2 : 5 * D + 2 + 6].all()


def test_chunks_steps_and_padding_give_the_same_numbers() -> None:
    model, (frames, side) = model_of(), sound(12)
    whole, last = model.log_prob_and_state(frames, context=side)
    first, u = model.log_prob_and_state(frames[:, :5], context=side[:, :5])
    second, end = model.log_prob_and_state(frames[:, 5:], u=u, context=side[:, 5:])
    torch.testing.assert_close(torch.cat((first, second), 1), whole)
    torch.testing.assert_close(end, last)
    u = model.initial_state(1)
    for t in range(12):
        u = model.step(frames[:, t], u, side[:, t])
    torch.testing.assert_close(u, last)
    mask = torch.arange(15)[None] < 12
    padded = torch.cat((frames, torch.zeros(1, 3, D)), 1)
    context = torch.cat((side, torch.zeros(1, 3, D, C)), 1)
    found, end = model.log_prob_and_state(padded, mask, context=context)
    torch.testing.assert_close(found[:, :12], whole)
    assert (found[:, 12:] == 0).all()
    torch.testing.assert_close(end, last)


def test_gradients_are_those_of_differences() -> None:
    model, (frames, side) = model_of(), sound(6)
    rows = gradient_table(model, frames, context=side)
    assert max(row.difference for row in rows[1:]) < 1e-5
    assert all(row.in_use <= row.allowed for row in rows)


def test_samples_are_those_of_the_density() -> None:
    model = model_of(noise=0.01).float()
    with torch.no_grad():
        model.out.bias[6:9] -= 1  # narrow, so that its sound does not grow without end
    drawn = model.sample(150, 2, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (1, 2, 150, D)
    cdf = []
    for frames in drawn[0]:
        z = frames.double().flatten().numpy()
        x = front_end.synthesise(front_end.start(), z)
        z, side, _ = front_end.analyse(front_end.start(), x, np.zeros(0))
        given = torch.from_numpy(side).view(1, 150, D, C)
        cdf.append(model.feature_cdf(torch.from_numpy(z).float().view(1, 150, D), context=given))
    found = torch.cat(cdf).flatten().detach().numpy()
    assert stats.kstest(found, "uniform").pvalue > 0.01
    narrow = model.sample(150, 2, generator=torch.Generator().manual_seed(0), temperature=0.3)
    assert narrow.abs().mean() < drawn.abs().mean()


def test_a_prefix_is_gone_on_from() -> None:
    model, (frames, _) = model_of().float(), sound(20)
    generator = torch.Generator().manual_seed(0)
    one = model.sample(3, prefix=frames.float(), generator=generator.manual_seed(0))
    whole = torch.cat((frames.float(), one[:, 0]), 1)
    two = model.sample(3, prefix=whole, generator=generator.manual_seed(1))
    both = model.sample(6, prefix=frames.float(), generator=generator.manual_seed(0))
    torch.testing.assert_close(both[:, :, :3], one)
    assert two.shape == (1, 1, 3, D)
    with pytest.raises(ValueError, match="give a prefix, not u"):
        model.sample(3, u=model.initial_state(1))


def test_a_context_of_other_frames_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--data\.kind experts"):
        RNNExperts(4, n_context=3)
    with pytest.raises(ValueError, match="1 or more"):
        RNNExperts(4, n_hidden=0)

"""Options of training and of the model beyond the paper: layers, orders, noise, heuristics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import relative_error, spread, supplement
from test_rnn_rnade import CELLS, randn, rnn_rnade, seed
from toy import ToyDataModule, write_toy_data

from rnade_lightning import RNADE
from rnade_lightning.callbacks.gradient_check import gradient_table, require_correct
from rnade_lightning.datamodules import AudioDataModule
from rnade_lightning.lightning_module import RNNRNADEModule

every_cell = pytest.mark.parametrize("cell", CELLS)


# ------------------------------------------------------------------ recurrent layers


@every_cell
def test_a_layer_reads_the_units_of_the_one_below(cell: str) -> None:
    model, frames = rnn_rnade(cell, n_layers=2), randn(2, 6, 3)
    below, above = rnn_rnade(cell), spread(supplement(5, 4, 5, 2, cell).double())
    named = dict(model.named_parameters())
    for single, layer in ((below, 0), (above, 1)):
        single.layers[0].load_state_dict(model.layers[layer].state_dict())
    u = model.initial_state(2)
    size = u.shape[1] // 2
    units = below.states(frames, u[:, size:])[0][:, 1:]
    units = torch.cat((units, below.states(frames, u[:, size:])[1][:, None, :5]), 1)
    seen, last = model.states(frames)
    expected, after = above.states(units, u[:, :size])
    torch.testing.assert_close(seen, expected)
    torch.testing.assert_close(last[:, :size], after)
    assert named["u_0"].shape == (2 * size,)


@every_cell
@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_layers_in_chunks_and_behind_padding(cell: str, backend: str) -> None:
    model, frames = rnn_rnade(cell, n_layers=3, n_past=1, backend=backend), randn(2, 7, 3)
    whole = model.log_prob(frames)
    start, u = model.log_prob_and_state(frames[:, :3])
    torch.testing.assert_close(torch.cat((start, model.log_prob(frames[:, 3:], u=u)), 1), whole)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    u = model.log_prob_and_state(frames, mask)[1]
    torch.testing.assert_close(u[1:], model.states(frames[1:, :4])[1])
    torch.testing.assert_close(model.sample(3, prefix=frames).shape, (2, 1, 3, 3))


def test_the_paths_agree_on_layers() -> None:
    for cell in CELLS:
        fast, plain = (
            rnn_rnade(cell, n_layers=2, backend=backend) for backend in ("compiled", "torch")
        )
        torch.testing.assert_close(fast.log_prob(randn(2, 5, 3)), plain.log_prob(randn(2, 5, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"n_layers": 2}, {"feature_order": 7, "n_past": 2, "linear": True}]
)
@pytest.mark.parametrize("cell", ["tanh", "gru"])
def test_their_gradients_are_checked(cell: str, options: dict[str, Any]) -> None:
    require_correct(gradient_table(rnn_rnade(cell, **options), randn(2, 4, 3)))


# ------------------------------------------------------------------ orders


def test_an_order_is_that_of_a_permuted_density() -> None:
    model = rnn_rnade("gru", feature_order=5)
    order, frames = model.feature_order, randn(2, 4, 3)
    assert sorted(order) == [0, 1, 2]
    assert order != [0, 1, 2]
    seen = model.states(frames)[0]
    expected = model.rnade.log_prob(frames[..., order], model.frame_params(seen))
    torch.testing.assert_close(model.log_prob(frames), expected)
    torch.testing.assert_close(model.feature_log_prob(frames).sum(-1), expected)


@pytest.mark.slow
def test_terms_and_draws_of_an_order_stand_where_the_data_has_them() -> None:
    model = rnn_rnade("gru", feature_order=5)
    order, frames = model.feature_order, randn(1, 2, 3)
    terms, changed = model.feature_log_prob(frames), frames.clone()
    changed[:, 1, order[1]] += 1  # the second visited: bears on itself and the third only
    moved = (model.feature_log_prob(changed) - terms)[0, 1].abs() > 1e-9
    assert moved[order].tolist() == [False, True, True]
    draws = model.one_step_samples(frames, n_samples=4000, generator=seed())
    mean = model.predictive_mean(frames, n_samples=4000, generator=seed(1))
    torch.testing.assert_close(draws.mean(0), mean, rtol=0, atol=0.3)
    assert (
        model.feature_order == rnn_rnade("gru", feature_order=5).feature_order
    )  # of the seed alone


# ------------------------------------------------------------------ training


def test_input_noise_is_what_the_net_reads_in_training_only() -> None:
    model, frames = rnn_rnade("gru", input_noise=0.5, n_past=1), randn(2, 5, 3)
    still = model.eval().log_prob(frames)
    torch.testing.assert_close(model.log_prob(frames), still)
    torch.manual_seed(0)
    noisy = model.train().log_prob(frames)
    assert not torch.allclose(noisy, still)
    torch.testing.assert_close(noisy[:, 0], still[:, 0])  # nothing was read before the first
    model.input_noise = 0.0
    torch.testing.assert_close(model.log_prob(frames), still)


def test_pretraining_trains_rnade_alone(tmp_path: Path) -> None:
    module = RNNRNADEModule(3, 4, 5, 2, n_past=0, pretrain_epochs=1).double()
    spread(module.model)
    frames = randn(2, 5, 3)
    module.on_train_epoch_start()
    log_p = module.model.log_prob(frames)
    torch.testing.assert_close(log_p, module.model.rnade.log_prob(frames))
    log_p.sum().backward()
    assert module.model.W_mu.grad.abs().max() == 0  # type: ignore[union-attr]
    module.save_pretrained(tmp_path)  # a stop in these epochs
    loaded = RNNRNADEModule.from_pretrained(tmp_path).double()
    torch.testing.assert_close(loaded.model.log_prob(frames), loaded.model.rnade.log_prob(frames))
    module.pretrain_epochs = 0
    module.on_train_epoch_start()
    assert not torch.allclose(module.model.log_prob(frames), log_p)


@pytest.mark.slow
def test_the_mean_heuristic_scales_the_gradient_by_the_means() -> None:
    """It multiplies it by each component's scale, and changes nothing else."""
    x, grads = randn(7, 3), []
    for heuristic in (False, True):
        model = spread(RNADE(3, 4, 1, scale_mean_gradient=heuristic).double())
        z = [torch.zeros(7, 3, 1, dtype=torch.float64, requires_grad=True) for _ in range(3)]
        biases = [b + e for b, e in zip(model.static_params(), z, strict=True)]
        log_p = model.log_prob(x, biases)
        grads.append(torch.autograd.grad(log_p.sum(), z))
        scales = model.conditionals(x, biases)[2].exp()
    torch.testing.assert_close(grads[1][2][:, -1], grads[0][2][:, -1])  # sigma of the last feature
    torch.testing.assert_close(grads[1][1], grads[0][1] * scales)
    assert relative_error(grads[1][1], grads[0][1]) > 1e-2
    plain, heuristic_model = rnn_rnade("gru"), rnn_rnade("gru", scale_mean_gradient=True)
    torch.testing.assert_close(
        plain.log_prob(randn(1, 3, 3)), heuristic_model.log_prob(randn(1, 3, 3))
    )
    require_correct(gradient_table(heuristic_model, randn(1, 3, 3)))  # where it is off


@pytest.mark.slow
def test_the_floor_is_raised_to_the_noise_of_the_steps(tmp_path: Path) -> None:
    assert RNNRNADEModule(3, floor=0.1, noise_scale=0.3).model.floor == 0.3
    assert RNNRNADEModule(3, floor=0.1, noise_scale=0.01).model.floor == 0.1
    data = ToyDataModule(str(write_toy_data(tmp_path)), window=16)
    assert data.noise_scale == 0
    sound = AudioDataModule(kind="waveform", frame_length=20, window=20)
    scale, raw_step = sound.noise_scale, 2.0**-15
    assert scale == pytest.approx(raw_step / np.sqrt(12) / sound._fitted()[0].std.max())
    assert AudioDataModule(kind="log_mel", window=20).noise_scale == 0


@pytest.mark.parametrize("arguments", [{"n_layers": 0}, {"input_noise": -1.0}])
def test_invalid_arguments_raise(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        supplement(3, 4, 5, 2, **arguments)

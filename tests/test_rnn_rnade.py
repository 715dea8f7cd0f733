"""RNN-RNADE is the density of a sequence that it says it is, however a sequence is cut."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
import reference
import torch
from reference import named, parameters, spread, supplement
from scipy import stats

from rnade_lightning import RNNRNADE
from rnade_lightning.baselines import VAR

CELLS = ("sigmoid", "tanh", "gru", "lstm")
SUBSETS = [s for n in range(4) for s in itertools.combinations(reference.NAMES, n)]
every_cell = pytest.mark.parametrize("cell", CELLS)
every_subset = pytest.mark.parametrize("conditioned", SUBSETS, ids=lambda s: "+".join(s) or "none")
both_backends = pytest.mark.parametrize("backend", ["torch", "compiled"])


with_and_without_linear_paths = pytest.mark.parametrize(
    "paths", [{}, {"linear": True, "n_past": 2}], ids=["", "linear"]
)


def seed(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def randn(*shape: int, n: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=seed(n), dtype=torch.float64)


def rnn_rnade(cell: str, **options: Any) -> RNNRNADE:
    """Return a model with D = 3, H = 4, R = 5, K = 2."""
    return spread(supplement(3, 4, 5, 2, cell, **options).double())


def lengths(*n_valid: int) -> torch.Tensor:
    return torch.arange(max(n_valid)) < torch.tensor(n_valid)[:, None]


# ------------------------------------------------------------------ density


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"component": "laplace", "activation": "relu"},
        {"component": "laplace", "censor_at": reference.BOUNDS},
    ],
)
@with_and_without_linear_paths
@both_backends
@every_cell
def test_log_prob_and_states_equal_the_loop(
    cell: str, backend: str, paths: dict[str, Any], options: dict[str, Any]
) -> None:
    model = rnn_rnade(cell, backend=backend, floor=0.1, **paths, **options)
    frames, u = 2 * randn(2, 6, 3), randn(2, len(model.u_0), n=2)
    for start in (None, *(() if paths else (u,))):
        log_p, last = model.log_prob_and_state(frames, u=start)
        seen = model.states(frames, start)[0]
        for i in range(2):
            own = None if start is None else start[i].numpy()
            expected, states = reference.frame_by_frame(
                reference.log_prob, parameters(model), frames[i].numpy(), cell, own,
                floor=0.1, **options,
            )  # fmt: skip
            np.testing.assert_allclose(log_p[i].detach(), expected, rtol=1e-10)
            units = [*range(5), *range(model.n_history, last.shape[1])]  # and not the past frames
            np.testing.assert_allclose(last[i, units].detach(), states[-1], rtol=1e-10)
            np.testing.assert_allclose(seen[i, 1:, :5].detach(), states[:-1, :5], rtol=1e-10)
        torch.testing.assert_close(
            seen[:, 0, :5], model.initial_state(2)[:, :5] if start is None else u[:, :5]
        )


@every_subset
@pytest.mark.parametrize("cell", ["sigmoid", "lstm"])
def test_each_switch_of_conditioned(cell: str, conditioned: tuple[str, ...]) -> None:
    model, frames = rnn_rnade(cell, conditioned=conditioned[::-1]), randn(1, 4, 3)
    p = parameters(model)
    assert [n for n in reference.NAMES if f"W_{n}" in p] == list(conditioned)
    expected, _ = reference.frame_by_frame(reference.log_prob, p, frames[0].numpy(), cell)
    np.testing.assert_allclose(model.log_prob(frames)[0].detach(), expected, rtol=1e-10)
    params = model.frame_params(randn(7, 5))
    for name, b in zip(reference.NAMES, params, strict=True):
        assert b.shape == ((7, 3, 2) if name in conditioned else (3, 2))


@every_cell
def test_causal(cell: str) -> None:
    model = rnn_rnade(cell)
    jacobian = torch.autograd.functional.jacobian(
        lambda frames: model.log_prob(frames)[0], randn(1, 5, 3)
    )[:, 0]  # (T, T, D): of frame t's log density by every feature of frame s
    depends = (jacobian != 0).permute(2, 0, 1)
    assert torch.equal(depends, torch.ones(3, 5, 5).tril().bool())


@every_cell
def test_every_feature_of_every_frame_depends_on_all_frames_before_it(cell: str) -> None:
    model, frames = rnn_rnade(cell), randn(1, 5, 3)

    def conditionals(past: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        params = model.frame_params(model.states(past, u)[0])
        return torch.stack(model.rnade.conditionals(frames, params))[:, 0]  # (3, T, D, K)

    by_past, by_start = torch.autograd.functional.jacobian(
        conditionals, (frames, model.initial_state(1).detach())
    )
    depends = (by_past != 0).any(3)[:, :, :, 0].permute(0, 2, 4, 1, 3)  # (3, D, D', T, T')
    assert torch.equal(depends, torch.ones(3, 3, 3, 5, 5).tril(-1).bool())
    assert (by_start[..., :5] != 0).any(3).all()
    assert (by_start[:, 1:] != 0).any(3).all()  # the LSTM's cell acts from the second frame on


@every_cell
def test_no_path_from_the_state_makes_frames_independent_gaussians(cell: str) -> None:
    model = spread(supplement(3, 0, 5, 1, cell).double())
    with torch.no_grad():
        for name in reference.NAMES:
            model.get_parameter(f"W_{name}").zero_()
    b_mu, b_sigma = model.rnade.b_mu[:, 0], model.rnade.b_sigma[:, 0]
    frames = randn(2, 6, 3)
    normal = torch.distributions.Normal(b_mu, b_sigma.exp())
    torch.testing.assert_close(model.log_prob(frames), normal.log_prob(frames).sum(-1))
    torch.testing.assert_close(
        model.predictive_mean(frames, n_samples=2), b_mu.detach().expand(2, 6, 3)
    )


# ------------------------------------------------------------------ step, chunks, padding


@with_and_without_linear_paths
@every_cell
def test_step_loop_equals_states(cell: str, paths: dict[str, Any]) -> None:
    model, frames = rnn_rnade(cell, **paths), randn(2, 6, 3)
    seen, last = model.states(frames)
    u = model.initial_state(2)
    for t in range(6):
        torch.testing.assert_close(seen[:, t], u[:, : model.n_history])
        u = model.step(frames[:, t], u)
    torch.testing.assert_close(last, u)


@pytest.mark.parametrize("n_valid", [None, (7, 7), (7, 4), (3, 7), (2, 0)])
@with_and_without_linear_paths
@every_cell
def test_chunks_equal_the_whole(
    cell: str, paths: dict[str, Any], n_valid: tuple[int, int] | None
) -> None:
    model, frames = rnn_rnade(cell, **paths), randn(2, 7, 3)
    mask = None if n_valid is None else lengths(*n_valid, 7)[:2]
    whole, last = model.log_prob_and_state(frames, mask)
    u, parts = None, []
    for chunk in (slice(0, 1), slice(1, 4), slice(4, 7)):
        part, u = model.log_prob_and_state(
            frames[:, chunk], None if mask is None else mask[:, chunk], u
        )
        parts.append(part)
    assert u is not None
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(u, last)
    torch.testing.assert_close(model.log_prob(frames, mask), whole)
    for i, n in enumerate(n_valid or ()):  # the state is that after the last valid frame
        alone = model.states(frames[i : i + 1, :n])[1][0] if n else model.initial_state(1)[0]
        torch.testing.assert_close(last[i], alone)


@pytest.mark.parametrize("padding", [0.0, 1e30, torch.nan, torch.inf])
@with_and_without_linear_paths
@both_backends
@every_cell
def test_padding_changes_nothing(
    cell: str, backend: str, paths: dict[str, Any], padding: float
) -> None:
    model, n_valid = rnn_rnade(cell, backend=backend, **paths), (6, 3, 1)
    frames, mask = randn(3, 6, 3), lengths(*n_valid)
    alone = [model.log_prob(frames[i : i + 1, :n])[0] for i, n in enumerate(n_valid)]
    expected = torch.autograd.grad(torch.cat(alone).sum(), list(model.parameters()))

    padded = frames.where(mask[..., None], torch.tensor(padding).double()).requires_grad_()
    log_p = model.log_prob(padded, mask)
    assert torch.equal(log_p[~mask], torch.zeros(8).double())
    torch.testing.assert_close(log_p[mask], torch.cat(alone))
    found = torch.autograd.grad(log_p.sum(), [*model.parameters(), padded])
    for one, other in zip(found, expected, strict=False):
        torch.testing.assert_close(one, other)
    assert torch.equal(found[-1][~mask], torch.zeros(8, 3).double())


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.tensor([[False, True, True], [True, True, True]]), "padding before a valid frame"),
        (torch.tensor([[True, True, True], [True, False, True]]), "padding before a valid frame"),
        (torch.ones(2, 4).bool(), r"mask has shape \(2, 4\), expected \(B, 3\)"),
        (torch.ones(3).bool(), r"mask has shape \(3,\), expected \(B, 3\)"),
        (torch.ones(2, 3), r"mask must be of dtype torch.bool, got torch.float32"),
    ],
)
def test_bad_mask_raises(mask: torch.Tensor, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        rnn_rnade("tanh").log_prob(randn(2, 3, 3), mask)


@pytest.mark.parametrize("shape", [(6, 3), (2, 6, 4), (1, 2, 6, 3)])
def test_frames_of_the_wrong_shape_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"frames has shape .* expected \(B, T, 3\)"):
        rnn_rnade("tanh").log_prob(randn(*shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "relu"}, "'relu' is none of the cells gru, lstm, minimal_gated, sigmoid, tanh"),
        ({"n_recurrent": 0}, "n_recurrent must be at least 1"),
        ({"conditioned": ("mu", "nu")}, r"conditioned: \['nu'\] is none of alpha, mu, sigma"),
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any], message: str) -> None:
    sizes = {"n_features": 3, "n_hidden": 4, "n_recurrent": 5, "n_components": 2}
    with pytest.raises(ValueError, match=message):
        supplement(**{**sizes, **arguments})


# ------------------------------------------------------------------ sampler


@with_and_without_linear_paths
@every_cell
def test_continuing_a_prefix_equals_continuing_from_its_state(
    cell: str, paths: dict[str, Any]
) -> None:
    model, prefix = rnn_rnade(cell, **paths), randn(2, 6, 3)
    u = model.states(prefix[:, :2])[1]
    samples = [
        model.sample(4, 3, prefix, generator=seed()),
        model.sample(4, 3, u=model.states(prefix)[1], generator=seed()),
        model.sample(4, 3, prefix[:, 2:], u, generator=seed()),
    ]
    assert samples[0].shape == (2, 3, 4, 3)
    torch.testing.assert_close(samples[1], samples[0])
    torch.testing.assert_close(samples[2], samples[0])
    assert not torch.allclose(model.sample(4, 3, prefix[:1], generator=seed(1)), samples[0][:1])


@every_cell
def test_sample_shapes(cell: str) -> None:
    model = rnn_rnade(cell)
    assert model.sample(4).shape == (1, 1, 4, 3)
    assert model.sample(4, 6).shape == (1, 6, 4, 3)
    assert model.sample(0, 6).shape == (1, 6, 0, 3)
    assert model.sample(1, 6, u=model.initial_state(2)).shape == (2, 6, 1, 3)
    assert not model.sample(2).requires_grad
    frames = randn(2, 5, 3)
    assert model.predictive_mean(frames, n_samples=2).shape == (2, 5, 3)
    assert model.one_step_samples(frames, n_samples=7).shape == (7, 2, 5, 3)


@pytest.mark.slow
@pytest.mark.parametrize("component", ["gaussian", "laplace"])
@with_and_without_linear_paths
@every_cell
def test_sampled_sequences_follow_the_conditional_cdfs(
    cell: str, paths: dict[str, Any], component: str
) -> None:
    model = rnn_rnade(cell, component=component, **paths)
    with torch.no_grad():
        model.rnade.b_sigma += 0.7  # scales around 2
    p = parameters(model)
    prefix = randn(1, 2, 3)
    sampled = model.sample(3, 300, prefix, generator=seed())[0]
    whole = torch.cat((prefix.expand(300, -1, -1), sampled), 1).numpy()
    u = np.array([
        reference.frame_by_frame(reference.cdf, p, frames, cell, component=component)[0]
        for frames in whole
    ])[:, 2:]  # (300, 3, D)  # fmt: skip
    for t, d in itertools.product(range(3), range(3)):
        assert stats.kstest(u[:, t, d], "uniform").pvalue > 1e-3
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3


@every_cell
def test_one_step_samples_follow_the_conditional_cdfs(cell: str) -> None:
    model, frames = rnn_rnade(cell), randn(1, 3, 3)
    p = parameters(model)
    draws = model.one_step_samples(frames, n_samples=300, generator=seed())[:, 0]  # (300, T, D)
    _, states = reference.frame_by_frame(reference.cdf, p, frames[0].numpy(), cell)
    rnade = {name.removeprefix("rnade."): value for name, value in p.items()}
    for t, u in enumerate((p["u_0"], *states[:2])):
        biases = reference.frame_biases(p, u)
        below = np.array([reference.cdf(rnade, x, biases) for x in draws[:, t].numpy()])
        assert min(stats.kstest(below[:, d], "uniform").pvalue for d in range(3)) > 1e-3


@with_and_without_linear_paths
@every_cell
def test_predictive_mean_equals_the_average_of_one_step_samples(
    cell: str, paths: dict[str, Any]
) -> None:
    model, frames = rnn_rnade(cell, **paths), randn(2, 4, 3)
    mean = model.predictive_mean(frames, n_samples=900, generator=seed(0))
    draws = model.one_step_samples(frames, n_samples=4000, generator=seed(1))
    assert ((mean - draws.mean(0)).abs() < 4 * draws.std(0) * (1 / 30 + 1 / 63)).all()


# ------------------------------------------------------------------ numbers and devices


@every_cell
def test_finite_in_float32_far_from_the_data(cell: str) -> None:
    model = spread(supplement(3, 4, 5, 2, cell))
    frames = (1e4 * randn(2, 6, 3).sign()).float().requires_grad_()
    log_p = model.log_prob(frames)
    log_p.sum().backward()
    assert log_p.isfinite().all()
    for t in (frames, *model.parameters()):
        assert t.grad is not None
        assert t.grad.isfinite().all()


@both_backends
@every_cell
def test_bf16_autocast_keeps_the_density_in_float32(cell: str, backend: str) -> None:
    model, frames = spread(supplement(3, 4, 5, 2, cell, backend=backend)), randn(2, 6, 3).float()
    with torch.autocast("cpu", torch.bfloat16):
        log_p = model.log_prob(frames, lengths(6, 4))
    log_p.sum().backward()
    assert log_p.dtype == torch.float32
    torch.testing.assert_close(log_p, model.log_prob(frames, lengths(6, 4)), rtol=0.03, atol=0.03)
    assert all(t.grad is not None and t.grad.dtype == torch.float32 for t in model.parameters())


@both_backends
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_white_units_stand_in_sixteen_bits_too(dtype: torch.dtype, backend: str) -> None:
    model = spread(supplement(3, 4, 5, 2, "gru", backend=backend, whiten=True)).float()
    frames = randn(2, 6, 3).float()
    expected = model.log_prob(frames)
    coarse = model.to(dtype).log_prob(frames.to(dtype))
    coarse.sum().backward()
    assert (coarse.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.slow
@both_backends
@every_cell
def test_runs_on_the_meta_device(cell: str, backend: str) -> None:
    model = supplement(3, 4, 5, 2, cell, backend=backend).to("meta")
    frames = torch.empty(2, 6, 3, device="meta", requires_grad=True)
    mask = torch.empty(2, 6, device="meta", dtype=torch.bool)
    with reference.MetaOnly():
        model.log_prob(frames, mask).sum().backward()
        log_p, u = model.log_prob_and_state(frames, mask)
        model.log_prob(frames, u=u).sum().backward()
        assert log_p.shape == (2, 6)
        assert model.sample(3, 4, prefix=frames).shape == (2, 4, 3, 3)
        assert model.sample(3, 4, u=u).shape == (2, 4, 3, 3)
        assert model.predictive_mean(frames, n_samples=2).shape == (2, 6, 3)
    for t in (frames, *model.parameters()):
        assert t.grad is not None
        assert t.grad.shape == t.shape


@every_cell
def test_the_meta_test_sees_a_cpu_operand(cell: str) -> None:
    model = supplement(3, 4, 5, 2, cell).to("meta")
    frames = torch.empty(2, 6, 3, device="meta")
    with reference.MetaOnly(), pytest.raises(RuntimeError, match=r"cpu tensor of shape \(2, 6\)"):
        model.log_prob(frames, torch.ones(2, 6).bool())


# ------------------------------------------------------------------ parameters


@every_cell
def test_parameter_names_and_shapes(cell: str) -> None:
    n_features, n_hidden, n_recurrent, n_components = 3, 4, 5, 2
    V, b = (n_features, n_hidden, n_components), (n_features, n_components)
    expected: dict[str, tuple[int, ...]] = {
        "rnade.W": (n_features, n_hidden), "rnade.c": (n_hidden,), "rnade.rho": (n_features,),
        "rnade.V_alpha": V, "rnade.V_mu": V, "rnade.V_sigma": V,
        "rnade.b_alpha": b, "rnade.b_mu": b, "rnade.b_sigma": b,
        "u_0": (2 * n_recurrent,) if cell == "lstm" else (n_recurrent,),
    }  # fmt: skip
    expected |= dict.fromkeys(
        ("W_alpha", "W_mu", "W_sigma"), (n_features * n_components, n_recurrent)
    )
    if cell in ("sigmoid", "tanh"):
        expected |= {"W_in": (n_recurrent, n_features), "W_rec": (n_recurrent, n_recurrent)}
        expected |= {"b_h": (n_recurrent,)}
    else:
        rows = {"gru": 3, "lstm": 4}[cell] * n_recurrent
        expected |= {
            "weight_ih_l0": (rows, n_features),
            "weight_hh_l0": (rows, n_recurrent),
        }
        expected |= {"bias_ih_l0": (rows,), "bias_hh_l0": (rows,)}
    assert {n: tuple(t.shape) for n, t in named(rnn_rnade(cell)).items()} == expected


@every_cell
def test_state_dict_round_trip(cell: str) -> None:
    model, other = rnn_rnade(cell), supplement(3, 4, 5, 2, cell).double()
    frames, file = randn(2, 6, 3), io.BytesIO()
    assert not torch.allclose(other.log_prob(frames), model.log_prob(frames))
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.log_prob(frames), model.log_prob(frames))


@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm"])
def test_a_sequence_of_no_frames_leaves_the_state(cell: str) -> None:
    model = supplement(3, 4, 5, 2, cell=cell).double()
    nothing = torch.zeros(2, 0, 3, dtype=torch.float64)
    log_p, u = model.log_prob_and_state(nothing)
    assert log_p.shape == (2, 0)
    assert torch.equal(u, model.initial_state(2))
    assert model.sample(4, prefix=nothing).shape == (2, 1, 4, 3)


# ------------------------------------------------------------------ linear paths and dropout


@pytest.mark.parametrize("order", [1, 3])
def test_a_var_is_a_special_case(order: int) -> None:
    """The model has one component, no hidden units and no path from the state: two linear paths
    alone."""
    sequences = [randn(200, 4).cumsum(0) * 0.1, randn(150, 4, n=2)]
    var = VAR.fit(sequences, order)
    model = supplement(4, 0, 1, 1, "tanh", (), linear=True, n_past=order).double()
    # cov = C C' with C = unit lower triangular times diagonal: e_d given e_<d is linear in e_<d
    C = torch.linalg.cholesky(var.covariance)
    unit = C / C.diagonal()
    inverse = torch.linalg.inv(unit)
    with torch.no_grad():
        model.A.copy_(torch.stack([var.A[:, 4 * i : 4 * i + 4] for i in range(order)]))
        model.rnade.L.copy_(torch.eye(4).double() - inverse)
        model.rnade.b_mu.copy_((inverse @ var.A[:, -1])[:, None])
        model.rnade.b_sigma.copy_(C.diagonal().log()[:, None])
    for frames in sequences:
        log_p = model.log_prob(frames[None])[0, order:]
        torch.testing.assert_close(log_p, var.log_prob(frames), rtol=1e-9, atol=1e-9)


def test_the_linear_path_starts_at_copying_the_last_frame() -> None:
    model, frames = supplement(3, 4, 5, 1, n_past=2).double(), randn(1, 5, 3)
    seen = model.states(frames)[0]
    torch.testing.assert_close(model.shift(seen)[0, 1:], frames[0, :-1])
    assert torch.equal(model.shift(seen)[0, 0], torch.zeros(3).double())
    fixed = supplement(3, 4, 5, 1, n_past=2, learn_past=False)
    fixed.log_prob(frames.float()).sum().backward()
    assert fixed.A.grad is None


def test_dropout_acts_in_training_only() -> None:
    model, frames = rnn_rnade("gru", dropout=0.5), randn(2, 5, 3)
    torch.manual_seed(0)
    assert not torch.equal(model.log_prob(frames), model.log_prob(frames))
    model.eval()
    assert torch.equal(model.log_prob(frames), model.log_prob(frames))
    same = rnn_rnade("gru").eval()
    assert torch.equal(model.log_prob(frames), same.log_prob(frames))


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [("n_past", -1, "0,"), ("dropout", 1.0, "0 and below 1,"), ("dropout", -0.1, "0 and below 1,"),
     ("n_layers", 0, "1,"), ("input_noise", float("nan"), "0,"), ("n_context", -2, "0,")],
)  # fmt: skip
def test_a_number_out_of_its_range_is_named(name: str, value: float, bound: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least {bound} got {value}"):
        supplement(3, 4, 5, 2, **{name: value})

"""The recurrent net with a context beside the past: the density given it, with its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import relative_error, spread
from test_rnn_rnade import CELLS, lengths, randn, rnn_rnade, seed
from torch import Tensor
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from rnade_lightning import RNNRNADE, Ensemble, contexts
from rnade_lightning.callbacks.gradient_check import gradient_table, require_correct
from rnade_lightning.densities import GaussianMixture, RNNDensity
from rnade_lightning.gradients import STATES, rnn_rnade_gradients
from rnade_lightning.linear_path import fit_path

every_cell = pytest.mark.parametrize("cell", CELLS)
both_backends = pytest.mark.parametrize("backend", ["torch", "compiled"])
REVERTING = {"n_past": 2, "past": "reverting", "linear": True}
PATHS: list[dict[str, Any]] = [
    {},
    REVERTING,
    {"n_past": 1, "n_layers": 3, "feature_order": [2, 0, 1]},
    {"n_past": 1, "component": "laplace", "censor_at": (-1.0, 1.0)},
    {"conditioned": ["mu"], "n_past": 1},
    {"context_to": ["mu"], **REVERTING},
    {"context_by_feature": True, **REVERTING, "feature_order": [2, 0, 1]},
    {"context_by_feature": True, "component": "laplace", "censor_at": (-1.0, 1.0), "n_past": 1},
]
all_paths = pytest.mark.parametrize("paths", PATHS, ids=lambda p: "-".join(p) or "none")


def given(B: int = 2, T: int = 6, n: int = 5, paths: dict[str, Any] | None = None) -> Tensor:
    """Return a context of two numbers, of a frame or of each of three features, some absent."""
    by_feature = (3,) if (paths or {}).get("context_by_feature") else ()
    context = randn(B, T, *by_feature, 2, n=n)
    context[0, 1:3, ..., 1] = torch.nan
    return context


def model_of(cell: str = "tanh", **options: Any) -> RNNRNADE:
    return rnn_rnade(cell, n_context=2, floor=0.1, **options).eval()


@every_cell
@both_backends
def test_log_prob_equals_the_equations(cell: str, backend: str) -> None:
    model, x, c = model_of(cell, backend=backend, **REVERTING), randn(2, 6, 3), given()
    p, filled = model._parameters, torch.where(c.isnan(), model.absent, c)
    u, before = model.initial_state(2), [torch.zeros(2, 3, dtype=x.dtype)] * 2
    expected = []
    for t in range(6):
        explained = sum(b @ A.T for b, A in zip(before, model.past_weights(), strict=True))
        y = x[:, t] - explained - filled[:, t] @ p["E"].T
        biases = [
            b + (u[:, :5] @ p[f"W_{n}"].T + filled[:, t] @ p[f"C_{n}"].T).view(2, 3, 2)
            if f"W_{n}" in p else b.expand(2, -1, -1)
            for n, b in zip(("alpha", "mu", "sigma"), model.rnade.static_params(), strict=True)
        ]  # fmt: skip
        expected.append(model.rnade.log_prob(y, biases))
        units = torch.cat((u[:, :5], u[:, model.n_history :]), 1)
        units = model.layers[0].step(torch.cat((x[:, t], filled[:, t]), -1), units)
        before = [x[:, t], before[0]]
        u = torch.cat((units[:, :5], *before, units[:, 5:]), 1)
    torch.testing.assert_close(model.log_prob(x, context=c), torch.stack(expected, 1))


@every_cell
@both_backends
@all_paths
def test_windows_steps_and_padding_give_the_same(
    cell: str, backend: str, paths: dict[str, Any]
) -> None:
    model, x = model_of(cell, backend=backend, **paths), randn(2, 6, 3)
    c = given(paths=paths)
    whole, last = model.log_prob_and_state(x, context=c)
    first, u = model.log_prob_and_state(x[:, :2], context=c[:, :2])
    torch.testing.assert_close(model.log_prob(x[:, 2:], u=u, context=c[:, 2:]), whole[:, 2:])
    torch.testing.assert_close(first, whole[:, :2])
    u = model.initial_state(2)
    for t in range(6):
        own = model.log_prob_given(model.history(u, c[:, t]), x[:, t])
        torch.testing.assert_close(own, whole[:, t])
        u = model.step(x[:, t], u, c[:, t])
    torch.testing.assert_close(u, last)
    mask = lengths(6, 4)
    padded, state = model.log_prob_and_state(x, mask, context=c)
    torch.testing.assert_close(padded, whole.where(mask, 0))
    torch.testing.assert_close(state[1:], model.states(x[1:, :4], context=c[1:, :4])[1])
    terms = model.feature_log_prob(x, context=c)
    torch.testing.assert_close(terms.sum(-1), whole)


@every_cell
@all_paths
def test_compiled_samples_are_those_of_the_torch_path(cell: str, paths: dict[str, Any]) -> None:
    models = [model_of(cell, backend=b, **paths) for b in ("compiled", "torch")]
    drawn = [m.sample(6, 3, context=given(paths=paths), generator=seed()) for m in models]
    assert drawn[0].shape == (2, 3, 6, 3)
    torch.testing.assert_close(*drawn)


@pytest.mark.parametrize("paths", [{"n_layers": 3}, {"feature_order": [2, 0, 1], "n_past": 2}])
@every_cell
def test_so_are_those_of_layers_and_other_orders(cell: str, paths: dict[str, Any]) -> None:
    models = [rnn_rnade(cell, backend=b, **paths) for b in ("compiled", "torch")]
    torch.testing.assert_close(*(m.sample(6, 3, generator=seed()) for m in models))


def test_a_context_reaches_what_it_is_to_reach() -> None:
    x, c = randn(2, 6, 3), given().nan_to_num(0.3)
    all_of_it, means, path = (model_of(n_past=1, context_to=to) for to in (None, ["mu"], []))
    assert {n for n, _ in means.named_parameters() if n[:2] in ("C_", "E")} == {"C_mu", "E"}
    assert all_of_it.layers[0].W_in.shape[1] == means.layers[0].W_in.shape[1] + 2
    for model, moves in ((all_of_it, True), (means, False), (path, False)):
        units = [model.states(x, context=context)[0][..., :5] for context in (c, 1 - c)]
        assert torch.equal(*units) != moves
        assert not torch.equal(*(model.log_prob(x, context=context) for context in (c, 1 - c)))
    with pytest.raises(ValueError, match=r"context_to: \['rho'\] is not net, nor set by"):
        model_of(context_to=["rho"])


@both_backends
def test_no_frame_sees_a_later_context_and_all_later_ones_see_it(backend: str) -> None:
    model, x, c = model_of(backend=backend), randn(1, 6, 3), randn(1, 6, 2)
    other = c.clone()
    other[0, 3, 0] += 1
    changed = model.log_prob(x, context=c) != model.log_prob(x, context=other)
    assert changed[0].tolist() == [False] * 3 + [True] * 3


def test_an_absent_number_is_the_learned_one() -> None:
    model, x, c = model_of(**REVERTING), randn(2, 6, 3), given()
    filled = torch.where(c.isnan(), model.absent, c)
    torch.testing.assert_close(model.log_prob(x, context=c), model.log_prob(x, context=filled))


def test_parts_are_left_out_of_whole_sequences_in_training() -> None:
    model = rnn_rnade("tanh", n_context=[1, 2], context_dropout=0.5)
    c, x = randn(400, 5, 3), randn(400, 5, 3)
    assert torch.equal(model.eval().states(x, context=c)[0][..., -3:], c)
    absent = model.train().states(x, context=c)[0][..., -3:] != c  # (B, T, C)
    assert (absent == absent[:, :1]).all()  # of a whole sequence
    assert (absent[..., 1] == absent[..., 2]).all()  # of a whole part
    shares = absent[:, 0].double().mean(0)
    assert ((shares > 0.4) & (shares < 0.6)).all()
    assert 0.4 < (absent[:, 0, 0] == absent[:, 0, 1]).double().mean() < 0.6


@pytest.mark.parametrize("cell", STATES)
@all_paths
def test_algorithm_2_gives_the_gradients_by_weights_frames_and_context(
    cell: str, paths: dict[str, Any]
) -> None:
    if "n_layers" in paths or "feature_order" in paths:
        paths = {k: v for k, v in paths.items() if k not in ("n_layers", "feature_order")}
    model = model_of(cell, backend="torch", **paths)
    x, mask = randn(2, 5, 3).requires_grad_(), lengths(5, 3)
    c = given(T=5, paths=paths).requires_grad_()
    model.log_prob(x, mask, context=c).sum().backward()
    parameters = {n.removeprefix("layers.0."): p for n, p in model.named_parameters()}
    options = model.rnade.gradient_options
    with torch.no_grad():
        found, d_x = rnn_rnade_gradients(
            parameters, x, mask=mask, cell=cell, kappa=model.kappa, **options,
            context=c.flatten(2),
        )  # fmt: skip
    assert {"absent", "C_mu", "context"} <= set(found)
    assert relative_error(d_x, x.grad) < 1e-9
    assert relative_error(found.pop("context"), c.grad.flatten(2)) < 1e-9
    for name, d in found.items():
        assert d.abs().sum() > 0 or name == "rnade.b_alpha", name
        assert relative_error(d, parameters[name].grad) < 1e-9, name


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["tanh", "gru"])
@all_paths
def test_gradients_of_the_path_in_use_are_checked(cell: str, paths: dict[str, Any]) -> None:
    given_ = given(T=4, paths=paths)
    rows = gradient_table(model_of(cell, **paths), randn(2, 4, 3), context=given_)
    require_correct(rows)
    assert {"absent", "C_mu"} <= {row.parameter for row in rows}


def test_a_gradient_that_leaves_the_context_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    filled = contexts.filled
    monkeypatch.setattr(contexts, "filled", lambda *args: filled(*args).detach())
    with pytest.raises(RuntimeError, match="absent"):
        require_correct(gradient_table(model_of(), randn(2, 4, 3), context=given(T=4)))


def test_ensembles_and_other_densities_are_given_it() -> None:
    x, c = randn(2, 6, 3), given()
    members = [model_of("tanh", **REVERTING), model_of("lstm", n_past=1)]
    both = Ensemble(members)
    each = torch.stack([m.log_prob(x, context=c) for m in members])
    expected = each.logsumexp(0) - torch.tensor(2.0).log()
    torch.testing.assert_close(both.log_prob(x, context=c), expected, check_dtype=False)
    u = both.states(x[:, :3], context=c[:, :3])[1]
    torch.testing.assert_close(both.log_prob(x[:, 3:], u=u, context=c[:, 3:]), expected[:, 3:])
    assert both.sample(4, 2, context=c[:, :4]).shape == (2, 2, 4, 3)
    rival = spread(RNNDensity(GaussianMixture(3, 2), 5, n_context=2, n_past=1).double())
    x.requires_grad_()
    rival.log_prob(x, context=c).sum().backward()
    assert all(rival._parameters[f"C_{n}"].grad.abs().sum() > 0 for n in ("alpha", "mu", "sigma"))
    with pytest.raises(ValueError, match="contexts of"):
        Ensemble([model_of(), rnn_rnade("tanh")])


@pytest.mark.parametrize("past", ["free", "reverting"])
def test_the_linear_start_reads_the_context(past: str) -> None:
    A = torch.tensor([[[0.5, 0.1], [0.0, 0.4]]], dtype=torch.float64)
    E = randn(2, 3)
    x, c = [torch.zeros(2, dtype=torch.float64)], randn(2000, 3, n=3)
    for t in range(1, 2000):
        x.append(A[0] @ x[-1] + E @ c[t] + 0.01 * randn(2, n=t))
    model = RNNRNADE(2, 3, 4, 1, n_past=2, past=past, kappa=0.5, n_context=3).double()
    joined = torch.cat((torch.stack(x), c), 1)
    fit_path(model._parameters, 2, 0.5, [joined], 1e-6, 1e-6)
    torch.testing.assert_close(model.E, E, atol=5e-3, rtol=0)


@pytest.mark.parametrize("past", ["free", "reverting"])
@both_backends
def test_a_weight_may_be_a_function_of_parameters(backend: str, past: str) -> None:
    """As `torch.nn.utils.parametrize` makes them: every number is that of the weight's value."""
    options = {"n_past": 2, "past": past, "learn_kappa": past == "reverting", "n_context": 2}
    plain, other = (rnn_rnade("gru", backend=backend, linear=True, **options) for _ in range(2))
    for name, parameter in list(plain.named_parameters()):
        if not name.startswith("layers"):  # those of torch's cells are torch's
            owner, _, own = name.rpartition(".")
            parametrize.register_parametrization(other.get_submodule(owner), own, Doubled())
            parameter.data *= 2
    frames, context = randn(2, 6, 3), given()
    one, two = (m.log_prob(frames, context=context) for m in (plain, other))
    torch.testing.assert_close(two, one)
    one, two = (m.sample(6, 2, generator=seed(), context=context) for m in (plain, other))
    torch.testing.assert_close(two, one)


class Doubled(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@both_backends
@pytest.mark.parametrize("cell", ["gru", "minimal_gated"])
def test_what_a_gradient_needs_may_be_computed_again(cell: str, backend: str) -> None:
    model, found = rnn_rnade(cell, backend=backend, linear=True, n_past=1), []
    for log_prob in (model.log_prob, lambda x: checkpoint(model.log_prob, x, use_reentrant=False)):
        frames = randn(2, 6, 3).requires_grad_()
        log_p = log_prob(frames).sum()
        found.append(torch.autograd.grad(log_p, [frames, *model.parameters()]))
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)

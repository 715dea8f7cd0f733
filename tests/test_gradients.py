"""Algorithm 1 and Algorithm 2 are the gradient, for every option, and an error in any of their
lines is noticed."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from reference import (
    SUBSETS,
    algorithm,
    every_option,
    named,
    parameters,
    relative_error,
    spread,
    supplement,
)
from torch import Tensor

from rnade_lightning import RNADE, RNNRNADE, gradients

SOURCE = Path(gradients.__file__).read_text()
DERIVATION = Path(__file__).parents[1] / "docs" / "derivation.md"
plain_cells = pytest.mark.parametrize("cell", ["sigmoid", "tanh"])
N_VALID = (4, 2, 1)
MASK = torch.arange(4) < torch.tensor(N_VALID)[:, None]


def randn(*shape: int, n: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def autograd(
    model: RNADE | RNNRNADE, x: Tensor, total: Tensor, *biases: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the gradients of ``total`` by name, the biases given in place of the static ones, and
    of x."""
    tensors: dict[str, Tensor] = dict(named(model))
    tensors |= dict(zip(("b_alpha", "b_mu", "b_sigma"), biases, strict=False))
    found = torch.autograd.grad(
        total, (*tensors.values(), x), allow_unused=True, materialize_grads=True
    )
    return dict(zip(tensors, found, strict=False)), found[-1]


def detached(model: RNADE | RNNRNADE) -> dict[str, Tensor]:
    return {name: t.detach() for name, t in named(model).items()}


def assert_equal_to_autograd_and_slopes(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], slope_of: Any
) -> None:
    """Compare every gradient with autograd and, along a random direction, with the central
    difference ``slope_of(name, direction)`` of the slow loops."""
    assert set(found) == set(expected)
    for name, gradient in found.items():
        assert gradient.shape == expected[name].shape
        assert relative_error(gradient, expected[name]) < 1e-9, name
        direction = randn(*gradient.shape, n=len(name))
        along = float((gradient * direction).sum())
        scale = max(float(gradient.norm() * direction.norm()), 1e-3)
        assert abs(along - slope_of(name, direction.numpy())) < 1e-7 * scale, name


# ------------------------------------------------------------------ Algorithm 1


@pytest.mark.parametrize("linear", [False, True], ids=["", "linear"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("own_biases", [False, True], ids=["static", "own"])
@every_option
def test_algorithm_1_equals_autograd_and_central_differences(
    options: dict[str, Any], own_biases: bool, weighted: bool, linear: bool
) -> None:
    model = spread(RNADE(3, 4, 2, linear=linear, **options).double())
    x = randn(4, 3).requires_grad_()
    weight = randn(4, n=2) if weighted else None
    w = torch.ones(4).double() if weight is None else weight
    own = [randn(4, 3, 2, n=n) for n in range(3)]
    biases = [b.clone().requires_grad_() for b in own] if own_biases else None

    found, d_x = gradients.rnade_gradients(
        detached(model),
        x.detach(),
        own if own_biases else None,
        weight=weight,
        **algorithm(options),
    )
    total = (w * model.log_prob(x, biases)).sum()
    expected, d_x_expected = autograd(model, x, total, *(biases or ()))
    p = {**parameters(model), "x": x.detach().numpy()}
    if own_biases:
        p |= {f"b_{name}": b.numpy() for name, b in zip(reference.NAMES, own, strict=True)}

    def by_loops(p: Mapping[str, np.ndarray]) -> float:
        per_frame = [
            [p[f"b_{name}"][i] for name in reference.NAMES] if own_biases else None
            for i in range(4)
        ]
        return sum(
            float(w[i]) * reference.log_prob(p, p["x"][i], per_frame[i], **options)
            for i in range(4)
        )

    assert_equal_to_autograd_and_slopes(
        {**found, "x": d_x},
        {**expected, "x": d_x_expected},
        functools.partial(reference.slope, by_loops, p),
    )


@pytest.mark.parametrize("linear", [False, True], ids=["", "linear"])
@every_option
def test_backward_by_algorithm_1_equals_autograd(options: dict[str, Any], linear: bool) -> None:
    model, other = (  # 20 features: more than one block
        spread(RNADE(20, 4, 3, backend=backend, linear=linear, **options).double())
        for backend in ("torch", "compiled")
    )
    x, own = randn(2, 5, 20).requires_grad_(), randn(5, 20, 3).requires_grad_()
    weight = randn(2, 5, n=2)
    found, expected = (
        torch.autograd.grad(
            (weight * m.log_prob(x, (m.b_alpha, own, m.b_sigma))).sum(),
            [*(t for name, t in m.named_parameters() if name != "b_mu"), x, own],
        )
        for m in (other, model)
    )
    for one, two in zip(found, expected, strict=True):
        assert relative_error(one, two) < 1e-9


def test_backward_by_algorithm_1_keeps_no_activation() -> None:
    n_frames, n_features, n_hidden = 50, 20, 30
    kept: dict[str, int] = {}
    for backend in ("torch", "compiled"):
        model = RNADE(n_features, n_hidden, 4, backend=backend)

        def count(t: Tensor, backend: str = backend) -> Tensor:
            kept[backend] = max(kept.get(backend, 0), t.numel() if t.shape[0] == 50 else 0)
            return t

        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            model.log_prob(torch.zeros(n_frames, n_features))
    assert kept["compiled"] == n_frames * n_features  # the frames themselves
    assert kept["torch"] >= n_frames * n_features * n_hidden


@pytest.mark.slow
def test_recomputing_a_keeps_float32_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    def rho_error(largest: float) -> float:
        # the later features are the larger ones: what they add to a has to be taken off again
        scale = torch.logspace(0, np.log10(largest), 64, dtype=torch.float64)
        model, x = spread(RNADE(64, 8, 2)), (scale * randn(20, 64)).float()
        with torch.no_grad():
            model.b_sigma.copy_(scale.log()[:, None])
        p = detached(model)
        exact, _ = gradients.rnade_gradients({n: t.double() for n, t in p.items()}, x.double())
        return relative_error(gradients.rnade_gradients(p, x)[0]["rho"], exact["rho"])

    for largest in (1, 1e3, 1e4):
        assert rho_error(largest) < 1e-5
    monkeypatch.setattr(gradients, "BLOCK", 10**9)
    assert rho_error(1e4) > 5e-5  # by subtraction alone


def test_units_that_start_on_their_kink_get_no_gradient_from_rounding() -> None:
    """With ReLU at c = 0 the first feature's units are exactly 0, and stay so going backwards."""
    model, x = spread(RNADE(20, 4, 2, activation="relu", floor=0.1).double()), randn(9, 20)
    torch.nn.init.zeros_(model.c)
    for backend in ("torch", "compiled"):
        model.backend = backend
        model.zero_grad()
        model.log_prob(x).sum().backward()
        found, _ = gradients.rnade_gradients(detached(model), x, **model.gradient_options)
        for name, parameter in named(model).items():
            assert relative_error(found[name], parameter.grad) < 1e-12, name


# ------------------------------------------------------------------ Algorithm 2


def check_algorithm_2(model: RNNRNADE, masked: bool, **options: Any) -> None:
    frames = randn(3, 4, 3)
    given = frames.where(MASK[..., None], torch.tensor(torch.nan).double()) if masked else frames
    given.requires_grad_()
    mask = MASK if masked else None
    found, d_frames = gradients.rnn_rnade_gradients(
        detached(model), given.detach(), mask=mask, cell=model.cell, **algorithm(options)
    )
    expected, expected_frames = autograd(model, given, model.log_prob(given, mask).sum())
    expected["frames"] = expected_frames
    p = {**parameters(model), "frames": frames.detach().numpy()}

    def by_loops(p: Mapping[str, np.ndarray]) -> float:
        n_valid = N_VALID if masked else (4, 4, 4)
        return sum(
            reference.frame_by_frame(
                reference.log_prob, p, p["frames"][i, :n], model.cell, **options
            )[0].sum()
            for i, n in enumerate(n_valid)
        )

    assert_equal_to_autograd_and_slopes(
        {**found, "frames": d_frames}, expected, functools.partial(reference.slope, by_loops, p)
    )


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("conditioned", SUBSETS, ids=lambda s: "+".join(s) or "none")
@plain_cells
def test_algorithm_2_equals_autograd_and_central_differences(
    cell: Any, conditioned: tuple[str, ...], masked: bool
) -> None:
    check_algorithm_2(spread(supplement(3, 4, 5, 2, cell, conditioned).double()), masked)


@pytest.mark.parametrize("n_past", [1, 2, 5])
@plain_cells
def test_algorithm_2_with_linear_paths(cell: Any, n_past: int) -> None:
    model = supplement(3, 4, 5, 2, cell, linear=True, n_past=n_past).double()
    check_algorithm_2(spread(model), True)


@every_option
@plain_cells
def test_algorithm_2_for_every_option(cell: Any, options: dict[str, Any]) -> None:
    check_algorithm_2(spread(supplement(3, 4, 5, 2, cell, **options).double()), True, **options)


@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm"])
@pytest.mark.slow
def test_training_by_the_algorithm_follows_autograd(cell: Any) -> None:
    frames, runs = randn(3, 4, 20), []
    for backend in ("torch", "compiled"):
        model = spread(supplement(20, 4, 5, 2, cell, backend=backend).double(), std=0.2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for _ in range(20):
            loss = -model.log_prob(frames, MASK)[MASK].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        runs.append((losses, detached(model)))
    assert runs[0][0][-1] < runs[0][0][0] - 1  # the steps were not nothing
    np.testing.assert_allclose(runs[1][0], runs[0][0], rtol=1e-9)
    for name, t in runs[0][1].items():
        assert relative_error(runs[1][1][name], t) < 1e-8, name


# ------------------------------------------------------------------ planted errors


CASES: dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]] = {
    # as many components as hidden units, as many numbers in a frame's biases as recurrent units:
    # a matrix that is not transposed where it should be then gives no error but a wrong number
    "RNADE": (RNADE, (18, 3, 3), {}),
    "RNADE floor": (RNADE, (3, 4, 2), {"floor": 0.3}),
    "RNADE laplace": (RNADE, (3, 4, 2), {"component": "laplace", "floor": 0.3}),
    "RNADE bounds": (RNADE, (4, 3, 2), {"component": "laplace", "censor_at": reference.BOUNDS}),
    "RNADE relu": (RNADE, (3, 8, 2), {"activation": "relu"}),
    "RNADE linear": (RNADE, (4, 3, 2), {"linear": True}),
    "RNN-RNADE": (supplement, (3, 4, 6, 2), {}),
    "RNN-RNADE linear": (supplement, (3, 4, 5, 2), {"linear": True, "n_past": 2}),
    "RNN-RNADE reverting": (
        supplement, (3, 4, 5, 2), {"n_past": 3, "past": "reverting", "learn_kappa": True}
    ),
    "RNN-RNADE fixed kappa": (
        supplement, (3, 4, 5, 2), {"n_past": 2, "past": "reverting", "kappa": 0.7}
    ),
    "RNN-RNADE bounds": (
        supplement, (3, 4, 5, 2),
        {"n_past": 2, "component": "laplace", "censor_at": reference.BOUNDS},
    ),
    "RNN-RNADE whitened": (supplement, (3, 4, 5, 2), {"n_past": 2, "whiten": True}),
    "RNN-RNADE scales": (
        supplement, (3, 4, 5, 2), {"n_past": 2, "n_scales": 3, "n_context": 2, "linear": True}
    ),
    "RNN-RNADE coupled": (
        supplement, (3, 4, 5, 2),
        {"n_past": 2, "whiten": True, "n_couplings": 2, "n_scales": 2, "n_context": 2},
    ),
    "RNN-RNADE context": (supplement, (3, 4, 5, 2), {"n_past": 2, "n_context": 5}),
    "RNN-RNADE context by feature": (
        supplement, (3, 4, 5, 2), {"n_past": 2, "n_context": 2, "context_by_feature": True}
    ),
    "RNN-RNADE context of bounds": (
        supplement, (3, 4, 5, 2),
        {"n_past": 1, "n_context": 2, "component": "laplace", "censor_at": reference.BOUNDS},
    ),
    "RNN-RNADE tanh": (supplement, (3, 4, 5, 2), {"cell": "tanh", "conditioned": ("mu",)}),
}  # fmt: skip


@functools.cache
def case(name: str) -> tuple[dict[str, Tensor], Tensor, dict[str, Any], dict[str, Tensor]]:
    """Return parameters, frames, options, and every gradient by autograd."""
    kind, sizes, options = CASES[name]
    model = spread(kind(*sizes, **options).double())
    if isinstance(model, RNADE):
        x, arguments = randn(5, sizes[0]), {"weight": randn(5, n=2)}
        x.requires_grad_()
        total = (arguments["weight"] * model.log_prob(x)).sum()
    else:
        x = randn(3, 4, sizes[0]).where(MASK[..., None], torch.tensor(torch.nan).double())
        arguments = {"mask": MASK}
        x.requires_grad_()
        given: dict[str, Tensor] = {}
        if model.root is not None:
            arguments["root"] = model.root.copy_(randn(3, 3, n=4).tril() + 3 * torch.eye(3))
        if model.n_context:
            context = randn(3, 4, model.n_context, n=3)
            context[0, 1:, 0] = torch.nan
            given = {"context": context.requires_grad_()}
        total = model.log_prob(x, MASK, **given).sum()
        if given:
            (of_context,) = torch.autograd.grad(total, context, retain_graph=True)
            arguments |= {"context": context.detach()}
    expected, expected["x"] = autograd(model, x, total)
    if "context" in arguments:
        expected["context"] = of_context
    of_the_model = (
        "conditioned",
        "linear",
        "n_past",
        "past",
        "learn_kappa",
        "whiten",
        "n_couplings",
        "n_scales",
        "n_context",
        "context_by_feature",
    )  # seen from the parameters
    arguments |= {k: v for k, v in options.items() if k not in of_the_model}
    return detached(model), x.detach(), algorithm(arguments), expected


def errors(module: Any, name: str) -> dict[str, float]:
    """Return the relative error of every gradient that ``module`` computes in one of the cases."""
    p, x, arguments, expected = case(name)
    algorithm = module.rnade_gradients if CASES[name][0] is RNADE else module.rnn_rnade_gradients
    found, d_x = algorithm(p, x, **arguments)
    return {n: relative_error({**found, "x": d_x}[n], g) for n, g in expected.items()}


def planted(replacements: Mapping[str, str]) -> types.ModuleType:
    """Return the module gradients.py with some of its text replaced."""
    source = SOURCE
    for old, new in replacements.items():
        assert SOURCE.count(old) == 1, f"{old!r} stands {SOURCE.count(old)} times in gradients.py"
        source = source.replace(old, new)
    module = types.ModuleType("planted")
    exec(compile(source, "planted.py", "exec"), module.__dict__)
    return module


A, MU, SIGMA = "d_z_alpha @ V_alpha[d].T", "d_z_mu @ V_mu[d].T", "d_z_sigma @ V_sigma[d].T"
PHI = "log_phi = -0.5 * r**2 - log_sigma"
PI = "pi = torch.softmax(log_alpha + log_phi, -1)"
NO_EXP = "pi = torch.exp(log_alpha) * log_phi; pi = pi / pi.sum(-1, keepdim=True)"
STEP_BACK = "a = a - x_d * W[d] if d % BLOCK else c + x[:, :d] @ W[:d]"
W_IN = 'total["W_in"] += e.T @ torch.cat((frames[:, t], read[:, t]), -1)'
DELTA = "delta = delta + rho[d] * d_psi"
D_W = "d_W[d] = (delta * x_d).sum(0)"
TOTAL = 'total[f"rnade.{name}"] += d.sum(0) if name.startswith("b_") else d'

MISPRINTS: dict[str, dict[str, str]] = {  # by their number in docs/derivation.md
    "1a": {PHI: "log_phi = 0.5 * r**2 - log_sigma"},
    "1b": {PI: NO_EXP},
    "1c": {PHI: "log_phi = 0.5 * r**2 - log_sigma", PI: NO_EXP},
    "2": {"d_log_phi_sigma = r**2 - 1": "d_log_phi_sigma = r * torch.exp(-log_sigma) - 1"},
    "3": {A: A[2:], MU: MU[2:], SIGMA: SIGMA[2:]},
    "4a": {STEP_BACK: "a = c + x[:, : d + 1] @ W[: d + 1]"},
    "4b": {DELTA: f"{DELTA}; {D_W}"},
    "4c": {STEP_BACK: "a = c + x[:, : d + 1] @ W[: d + 1]", DELTA: f"{DELTA}; {D_W}"},
    "5": {DELTA: "delta = delta + d_psi"},
    "6": {"g = e @ W_rec": "g = e @ W_rec.T"},
    "7": {'g = g + d_b @ parameters[f"W_{n}"]': 'g = g + d_b @ parameters[f"W_{n}"].T'},
    "8": {TOTAL: 'total[f"rnade.{name}"] += 0 if name.startswith("b_") else d'},
    "9": {TOTAL: TOTAL.replace("+=", "=")},
    "10": {
        "delta = x.new_zeros(len(x), len(c))": 'delta = globals().get("left", 0 * (x[:, :1] + c))',
        "d_c = delta.sum(0)": 'd_c = delta.sum(0); globals()["left"] = delta',
    },
    "11": {'total["u_0"] = g.sum(0)': "pass"},
}
MISPRINTED_CASE = {
    key: "RNADE" if int(re.sub("[a-c]", "", key)) <= 5 else "RNN-RNADE" for key in MISPRINTS
}

MISTAKES: list[tuple[str, str]] = [
    # Algorithm 1: the recursion
    ("w = torch.ones_like(x[:, :1]) if weight is None else weight[:, None]",
     "w = torch.ones_like(x[:, :1])"),
    ("delta = x.new_zeros(len(x), len(c))", "delta = x.new_ones(len(x), len(c))"),
    ("a = c + x @ W  #", "a = x @ W  #"),
    ("a = c + x @ W  #", "a = c  #"),
    ("x_d = x[:, d, None]", "x_d = x[:, d - 1, None]"),
    (D_W, "d_W[d] = delta.sum(0)"),
    (D_W, "d_W[d] = (delta * x_d).mean(0)"),
    (D_W, "d_W[d] = -(delta * x_d).sum(0)"),
    ("d_x[:, d] += delta @ W[d]", "d_x[:, d] = 0"),
    ("d_x[:, d] += delta @ W[d]", "d_x[:, d] = delta @ W[d]"),
    ("d_x[:, d] += delta @ W[d]", "d_x[:, d] -= delta @ W[d]"),
    ("a - x_d * W[d] if", "a + x_d * W[d] if"),
    ("a - x_d * W[d] if", "a if"),
    ("c + x[:, :d] @ W[:d]", "x[:, :d] @ W[:d]"),
    ("c + x[:, :d] @ W[:d]", "c + x[:, : d + 1] @ W[: d + 1]"),
    # the mixture
    ("psi = rho[d] * a", "psi = a"),
    ("psi = rho[d] * a", "psi = rho[d - 1] * a"),
    ("h = unit(psi)", "h = psi"),
    ("(torch.sigmoid, lambda psi, h: h * (1 - h))", "(torch.tanh, lambda psi, h: h * (1 - h))"),
    ("(torch.relu, lambda psi, h: psi > 0)", "(lambda psi: psi, lambda psi, h: psi > 0)"),
    ("z_alpha = h @ V_alpha[d] + b_alpha[..., d, :]", "z_alpha = h @ V_alpha[d]"),
    ("z_alpha = h @ V_alpha[d]", "z_alpha = h @ V_alpha[d].T.reshape(V_alpha[d].shape)"),
    ("z_mu = h @ V_mu[d] + b_mu[..., d, :]", "z_mu = h @ V_mu[d]"),
    (" + (x[:, :d] @ L[d, :d])[:, None]", ""),
    ("(x[:, :d] @ L[d, :d])", "(x[:, :d] @ L[:d, d])"),
    ("d_x[:, :d] += d_z_mu.sum(-1, keepdim=True) * L[d, :d]", "pass"),
    ("d_x[:, :d] += d_z_mu.sum(-1, keepdim=True) * L[d, :d]",
     "d_x[:, :d] -= d_z_mu.sum(-1, keepdim=True) * L[d, :d]"),
    ("d_L[d, :d] = d_z_mu.sum(-1) @ x[:, :d]", "d_L[:d, d] = d_z_mu.sum(-1) @ x[:, :d]"),
    ("d_L[d, :d] = d_z_mu.sum(-1) @ x[:, :d]", "d_L[d, :d] = d_z_mu[:, 0] @ x[:, :d]"),
    ("z_mu = h @ V_mu[d]", "z_mu = h @ V_mu[d - 1]"),
    ("z_sigma = h @ V_sigma[d] + b_sigma[..., d, :]", "z_sigma = h @ V_sigma[d]"),
    ("z_sigma = h @ V_sigma[d] + b_sigma[..., d, :]", "z_sigma = b_sigma[..., d, :]"),
    ("log_alpha = torch.log_softmax(z_alpha, -1)", "log_alpha = z_alpha"),
    ("log_sigma = torch.logaddexp(z_sigma, z_sigma.new_tensor(floor).log())",
     "log_sigma = z_sigma"),
    ("r = (x_d - z_mu) * torch.exp(-log_sigma)", "r = (z_mu - x_d) * torch.exp(-log_sigma)"),
    ("r = (x_d - z_mu) * torch.exp(-log_sigma)", "r = (x_d - z_mu) * torch.exp(-2 * log_sigma)"),
    (PHI, "log_phi = -0.5 * r**2"),
    (PHI, "log_phi = -(r**2) - log_sigma"),
    ("d_log_phi_mu = r * torch.exp(-log_sigma)", "d_log_phi_mu = r"),  # what Uria's code does
    ("d_log_phi_mu = r * torch.exp(-log_sigma)", "d_log_phi_mu = -r * torch.exp(-log_sigma)"),
    ("d_log_phi_sigma = r**2 - 1", "d_log_phi_sigma = r**2"),
    ("d_log_phi_sigma = r**2 - 1", "d_log_phi_sigma = 1 - r**2"),
    ("log_phi = -r.abs() - log_sigma", "log_phi = -r.abs()"),
    ("log_phi = -r.abs() - log_sigma", "log_phi = -0.5 * r.abs() - log_sigma"),
    ("d_log_phi_mu = torch.sign(r) * torch.exp(-log_sigma)", "d_log_phi_mu = torch.sign(r)"),
    ("d_log_phi_mu = torch.sign(r)", "d_log_phi_mu = r"),
    ("d_log_phi_sigma = r.abs() - 1", "d_log_phi_sigma = r.abs()"),
    ("d_log_phi_sigma = r.abs() - 1", "d_log_phi_sigma = r - 1"),
    # what is censored
    ("inside = torch.ones_like(x)", "inside = torch.zeros_like(x)"),
    ("inside = ((x >= atoms[0]) & (x <= atoms[1]))", "inside = (x >= atoms[0])"),
    (" x = x.clamp(*atoms)", " pass"),
    ("high, on_bound = x >= atoms[1]", "high, on_bound = x < atoms[1]"),
    ("(x <= atoms[0]) |", "(x < atoms[0]) |"),
    ("t = torch.where(high, -r, r)", "t = r"),
    ("tail = torch.exp(-t.abs()) / 2", "tail = torch.exp(-t.abs())"),
    ("log_F = torch.where(t < 0, t - math.log(2), ", "log_F = torch.where(t < 0, t, "),
    ("torch.log1p(-tail))", "torch.log1p(tail))"),
    ("d_t = torch.where(t < 0, torch.ones_like(t), ", "d_t = torch.where(t < 0, tail, "),
    ("tail / (1 - tail))", "tail)"),
    ("d_mu = torch.where(high, d_t, -d_t)", "d_mu = torch.where(high, -d_t, d_t)"),
    ("d_mu = torch.where(high, d_t, -d_t) * torch.exp(-log_sigma)",
     "d_mu = torch.where(high, d_t, -d_t)"),
    ("log_phi = torch.where(on_bound, log_F, log_phi)", "pass"),
    ("d_log_phi_mu = torch.where(on_bound, d_mu, d_log_phi_mu)", "pass"),
    ("d_log_phi_sigma = torch.where(on_bound, -t * d_t, d_log_phi_sigma)",
     "d_log_phi_sigma = torch.where(on_bound, -t * d_t - 1, d_log_phi_sigma)"),
    ("d_x *= inside", "pass"),
    (PI, "pi = torch.softmax(log_phi, -1)"),
    (PI, "pi = torch.exp(log_alpha)"),
    # the output gradients
    ("d_z_alpha = w * (pi - torch.exp(log_alpha))", "d_z_alpha = pi - torch.exp(log_alpha)"),
    ("d_z_alpha = w * (pi - torch.exp(log_alpha))", "d_z_alpha = w * pi"),
    ("d_z_alpha = w * (pi - torch.exp(log_alpha))", "d_z_alpha = w * (torch.exp(log_alpha) - pi)"),
    ("d_z_mu = w * pi * d_log_phi_mu", "d_z_mu = pi * d_log_phi_mu"),
    ("d_z_mu = w * pi * d_log_phi_mu", "d_z_mu = w * d_log_phi_mu"),
    ("d_z_sigma = w * pi * d_log_phi_sigma", "d_z_sigma = pi * d_log_phi_sigma"),
    ("d_z_sigma = w * pi * d_log_phi_sigma", "d_z_sigma = w * d_log_phi_sigma"),
    ("d_log_phi_sigma * torch.exp(z_sigma - log_sigma)", "d_log_phi_sigma"),
    ("d_V_alpha[d] = h.T @ d_z_alpha", "d_V_alpha[d] = d_z_alpha.T @ h"),
    ("d_V_alpha[d] = h.T @ d_z_alpha", "d_V_alpha[d] = psi.T @ d_z_alpha"),
    ("d_V_mu[d] = h.T @ d_z_mu", "d_V_mu[d] = d_z_mu.T @ h"),
    ("d_V_mu[d] = h.T @ d_z_mu", "d_V_mu[d - 1] = h.T @ d_z_mu"),
    ("d_V_sigma[d] = h.T @ d_z_sigma", "d_V_sigma[d] = d_z_sigma.T @ h"),
    ("d_V_sigma[d] = h.T @ d_z_sigma", "d_V_sigma[d] = h.T @ d_z_mu"),
    ("d_b_alpha[..., d, :] = _like(d_z_alpha, b_alpha)", "d_b_alpha[..., d, :] = 0"),
    ("d_b_alpha[..., d, :] = _like(d_z_alpha, b_alpha)", "d_b_alpha[..., d, :] = d_z_alpha[0]"),
    ("d_b_mu[..., d, :] = _like(d_z_mu, b_mu)", "d_b_mu[..., d, :] = -_like(d_z_mu, b_mu)"),
    ("d_b_mu[..., d, :] = _like(d_z_mu, b_mu)", "d_b_mu[..., d, :] = _like(pi, b_mu)"),
    ("d_b_sigma[..., d, :] = _like(d_z_sigma, b_sigma)", "d_b_sigma[..., d, :] = 0"),
    ("d_b_sigma[..., d, :] = _like(d_z_sigma, b_sigma)",
     "d_b_sigma[..., d, :] = _like(d_z_mu, b_sigma)"),
    ("d_x[:, d] -= d_z_mu.sum(-1)", "d_x[:, d] += d_z_mu.sum(-1)"),
    ("d_x[:, d] -= d_z_mu.sum(-1)", "pass"),
    ("d_x[:, d] -= d_z_mu.sum(-1)", "d_x[:, d] = -d_z_mu.sum(-1)"),
    # through the hidden units
    (f"{A} + ", ""),
    (f"{MU} + ", ""),
    (f" + {SIGMA}", ""),
    (A, "d_z_alpha @ V_alpha[d]"),
    (MU, "d_z_mu @ V_mu[d]"),
    (SIGMA, "d_z_sigma @ V_sigma[d]"),
    (f"+ {SIGMA}", f"- {SIGMA}"),
    ("lambda psi, h: h * (1 - h)", "lambda psi, h: h"),
    ("lambda psi, h: h * (1 - h)", "lambda psi, h: 1 - h**2"),
    ("lambda psi, h: psi > 0", "lambda psi, h: 1"),
    ("d_psi = d_h * slope(psi, h)", "d_psi = d_h"),
    ("d_rho[d] = (d_psi * a).sum()", "d_rho[d] = (d_psi * psi).sum()"),
    ("d_rho[d] = (d_psi * a).sum()", "d_rho[d] = (d_psi * h).sum()"),
    ("d_rho[d] = (d_psi * a).sum()", "d_rho[d] = (d_psi * (a + x_d * W[d])).sum()"),
    (DELTA, "delta = rho[d] * d_psi"),
    (DELTA, "delta = delta - rho[d] * d_psi"),
    (DELTA, "delta = delta + rho[d] * d_h"),
    ("d_c = delta.sum(0)", "d_c = delta.mean(0)"),
    ("d_c = delta.sum(0)", "d_c = (delta - rho[0] * d_psi).sum(0)"),
    ("return d_z if bias.dim() == 3 else d_z.sum(0)", "return d_z.sum(0)"),
    ("return d_z if bias.dim() == 3 else d_z.sum(0)", "return d_z"),
    # Algorithm 2: forward
    ("torch.ones_like(frames[..., 0]) if mask is None else mask.to(frames.dtype)",
     "torch.ones_like(frames[..., 0])"),
    ("frames = frames if mask is None else frames.where(mask[..., None], frames.new_zeros(()))",
     "frames = frames"),
    ('u = [parameters["u_0"].expand(B, -1)]', 'u = [0 * parameters["u_0"].expand(B, -1)]'),
    ("u[t] @ W_rec.T + b_h", "u[t] @ W_rec + b_h"),
    ("(frames[:, t], read[:, t]), -1) @ W_in", "(frames[:, t - 1], read[:, t]), -1) @ W_in"),
    ("(frames[:, t], read[:, t]), -1) @ W_in", "(frames[:, t], read[:, t - 1]), -1) @ W_in"),
    ("read = c[..., : W_in.shape[1]", "read = 0 * c[..., : W_in.shape[1]"),
    ("c = torch.where(context.isnan(), parameters", "c = torch.where(~context.isnan(), parameters"),
    ('own = _by_context(parameters[f"C_{n}"], c[:, t])',
     'own = _by_context(parameters[f"C_{n}"], c[:, t - 1])'),
    ("return c @ C.T", "return 0 * c @ C.T"),
    ("c.unflatten(-1, (len(C), -1)), C).flatten(1)",
     "c.unflatten(-1, (len(C), -1)).flip(1), C).flatten(1)"),
    ("return d_b.T @ c, d_b @ C", "return -d_b.T @ c, d_b @ C"),
    ("return d_b.T @ c, d_b @ C", "return d_b.T @ c, -d_b @ C"),
    ("d_bias, by_feature = d_b.unflatten", "d_bias, by_feature = -d_b.unflatten"),
    ('d_C = torch.einsum("bdk,bdc->dkc"', 'd_C = 2 * torch.einsum("bdk,bdc->dkc"'),
    ('torch.einsum("bdk,dkc->bdc", d_bias, C)', 'torch.einsum("bdk,dkc->bdc", d_bias, 2 * C)'),
    ('d_C, d_c_t = _through_context(parameters[f"C_{n}"], c[:, t], d_b)',
     'd_C, d_c_t = _through_context(parameters[f"C_{n}"], c[:, t - 1], d_b)'),
    ("biases[i] = biases[i] + own.view_as(biases[i])", "pass"),
    ("explained = explained + c[:, t] @ E.T", "explained = explained - c[:, t] @ E.T"),
    ("explained = explained + c[:, t] @ E.T", "explained = explained + 0 * c[:, t] @ E.T"),
    ("u[t] @ W_rec.T + b_h", "u[t] @ W_rec.T"),
    ("u.append(state(z))", "u.append(z)"),
    ("(torch.sigmoid, lambda u:", "(torch.tanh, lambda u:"),
    ("(torch.tanh, lambda u:", "(torch.sigmoid, lambda u:"),
    ('(u[t] @ parameters[f"W_{n}"].T)', '(u[t + 1] @ parameters[f"W_{n}"].T)'),
    ('(u[t] @ parameters[f"W_{n}"].T)', '(u[t] @ parameters[f"W_{n}"])'),
    ("biases = [rnade", "biases = [0 * rnade"),
    ("inside = torch.ones_like(frames)", "inside = torch.zeros_like(frames)"),
    ("inside = ((frames >= atoms[0]) & (frames <= atoms[1]))",
     "inside = (frames < atoms[1])"),
    ("frames = frames.clamp(*atoms)", "pass"),
    ("x = frames[:, t]\n", "x = frames[:, t - 1]\n"),
    ("x = x - explained", "x = x + explained"),
    ("explained = sum(x_i @ A_i.T for", "explained = sum(x_i @ A_i for"),
    ("biases[1] = biases[1] + explained[..., None]",
     "biases[1] = biases[1] - explained[..., None]"),
    ("biases[1] = biases[1] + explained[..., None]", "pass"),
    ("past = [frames[:, t - i] for i", "past = [frames[:, t] for i"),
    ("rnade_gradients(rnade, x, biases,", "rnade_gradients(rnade, x, None,"),
    ("rnade, x, biases, weight=weight[:, t]", "rnade, x, biases, weight=None"),
    # and backward
    ("g = torch.zeros_like(u[T])", "g = torch.ones_like(u[T])"),
    ("for t in reversed(range(T)):", "for t in range(T):"),
    ("e = g * state_slope(u[t + 1])", "e = g * state_slope(u[t])"),
    ("lambda u: u * (1 - u)", "lambda u: u"),
    ("lambda u: 1 - u**2", "lambda u: 1 - u"),
    (W_IN, W_IN.replace("frames[:, t]", "frames[:, t - 1]")),
    (W_IN, W_IN.replace("e.T", "g.T")),
    (W_IN, W_IN.replace("+=", "=")),
    (W_IN, W_IN.replace("read[:, t]", "read[:, t - 1]")),
    ('total["W_rec"] += e.T @ u[t]', 'total["W_rec"] += e.T @ u[t + 1]'),
    ('total["W_rec"] += e.T @ u[t]', 'total["W_rec"] += u[t].T @ e'),
    ('total["W_rec"] += e.T @ u[t]', 'total["W_rec"] = e.T @ u[t]'),
    ('total["b_h"] += e.sum(0)', 'total["b_h"] += g.sum(0)'),
    ('total["b_h"] += e.sum(0)', 'total["b_h"] = e.sum(0)'),
    ("d_frames[:, t] += d_x + e @ W_in[:, :D]", "d_frames[:, t] += d_x"),
    ("d_frames[:, t] += d_x + e @ W_in[:, :D]", "d_frames[:, t] += e @ W_in[:, :D]"),
    ("d_frames[:, t] += d_x + e @ W_in[:, :D]", "d_frames[:, t] = d_x + e @ W_in[:, :D]"),
    ("d_c[:, t, : read.shape[-1]] += e @ W_in[:, D:]", "pass"),
    ("d_c[:, t, : read.shape[-1]] += e @ W_in[:, D:]",
     "d_c[:, t, : read.shape[-1]] -= e @ W_in[:, D:]"),
    ("d_c[:, t] += d_explained @ E", "d_c[:, t] -= d_explained @ E"),
    ("d_c[:, t] += d_explained @ E", "d_c[:, t] = d_explained @ E"),
    ('total["E"] += d_explained.T @ c[:, t]', 'total["E"] -= d_explained.T @ c[:, t]'),
    ('total["E"] += d_explained.T @ c[:, t]', 'total["E"] = d_explained.T @ c[:, t]'),
    ('total[f"C_{n}"] += d_C', 'total[f"C_{n}"] = d_C'),
    ("d_c[:, t] += d_c_t", "d_c[:, t] -= d_c_t"),
    ("d_c[:, t] += d_c_t", "d_c[:, t] = d_c_t"),
    ("absent = context.isnan()", "absent = ~context.isnan()"),
    ('total["absent"] = d_c.where(absent, d_c.new_zeros(())).sum((0, 1))',
     'total["absent"] = d_c.sum((0, 1))'),
    ('total["context"] = d_c.masked_fill(absent, 0.0)', 'total["context"] = d_c'),
    ("atoms else -d_x", "atoms else d_x"),
    ("each = [[*biases[:2], biases[2] + s] for s in log_scales]",
     "each = [[*biases[:2], biases[2] - s] for s in log_scales]"),
    ("share = torch.softmax(log_w + log_p, -1)", "share = torch.softmax(log_p, -1)"),
    ("weight=weight * share[:, j]", "weight=weight"),
    ("total = {name: torch.stack([d[name] for d, _ in gradients]).sum(0)",
     "total = {name: gradients[0][0][name]"),
    ('d["b_sigma"].sum()', 'd["b_sigma"].mean()'),
    ("d_z_w = weight[:, None] * (share - torch.exp(log_w))", "d_z_w = weight[:, None] * share"),
    ("torch.stack([d for _, d in gradients])", "torch.stack([d for _, d in gradients[1:]])"),
    ('steps = x[:, :-1, None] * parameters["W"][:-1]',
     'steps = x[:, 1:, None] * parameters["W"][:-1]'),
    ("all_a = torch.cat", "all_a = 2 * torch.cat"),
    ('all_h = UNITS[activation][0](parameters["rho"][:, None] * all_a)',
     "all_h = UNITS[activation][0](all_a)"),
    ('zip(("alpha", "mu", "sigma"), biases', 'zip(("alpha", "mu", "mu"), biases'),
    ("log_p = torch.stack([", "log_p = -torch.stack(["),
    ("all_mu = all_mu + (x", "all_mu = all_mu - (x"),
    ("all_sigma = torch.logaddexp", "all_sigma = 0 * torch.logaddexp"),
    ("residual = (x[..., None] - all_mu)", "residual = (x[..., None] + all_mu)"),
    ("all_mu, residual, all_sigma, getattr", "all_mu, residual, 0 * all_sigma, getattr"),
    ("each = _statement(component)(*options)[0]", "each = 2 * _statement(component)(*options)[0]"),
    ("seen = torch.cat((u[t], c[:, t]), -1)", "seen = torch.cat((u[t + 1], c[:, t]), -1)"),
    ("z_w = parameters", "z_w = 0 * parameters"),
    ("log_w = torch.log_softmax(z_w, -1)", "log_w = z_w"),
    ('total["scales.log_scales"] += d_s', 'total["scales.log_scales"] = d_s'),
    ('total["scales.b_w"] += d_w.sum(0)', 'total["scales.b_w"] -= d_w.sum(0)'),
    ('total["scales.W_w"] += d_w.T @ seen', 'total["scales.W_w"] = d_w.T @ seen'),
    ('d_seen += d_w @ parameters["scales.W_w"]', "pass"),
    ('z_g = parameters["couplings.b"] +', 'z_g = -parameters["couplings.b"] +'),
    ("strength, told = torch.tanh(z_g)", "strength, told = torch.sigmoid(z_g)"),
    ("3 * torch.tanh(x / 3)", "x"),
    (", M) * (1 - told**2 / 9)", ", M)"),
    ('said = torch.einsum("jde,', 'said = torch.einsum("jed,'),
    ("x = x - (strength", "x = x + (strength"),
    ('total["couplings.M"] -= torch', 'total["couplings.M"] += torch'),
    ("d_x, told).tril(-1)", "d_x, told)"),
    ("d_x, said) * (1 - strength**2)", "d_x, said)"),
    ('total["couplings.b"] += d_z_g.sum(0)', 'total["couplings.b"] = d_z_g.sum(0)'),
    ('total["couplings.W"] += d_z_g.T @ seen', 'total["couplings.W"] = d_z_g.T @ seen'),
    ('d_seen += d_z_g @ parameters["couplings.W"]', "pass"),
    ('d_x = d_x - torch.einsum("bj,bd,jde->be", strength, d_x, M) * (1 - told**2 / 9)', "pass"),
    ("g = g + d_seen[:, : g.shape[1]]", "pass"),
    ("d_c[:, t, : n_seen - g.shape[1]] += d_seen[:, g.shape[1] :]", "pass"),
    ("x = torch.linalg.solve_triangular(root, x.T, upper=False).T", "pass"),
    ("d_x = torch.linalg.solve_triangular(root.T, d_x.T, upper=True).T", "pass"),
    ("d_x = torch.linalg.solve_triangular(root.T, d_x.T, upper=True).T",
     "d_x = torch.linalg.solve_triangular(root, d_x.T, upper=False).T"),
    ('d_explained = d_rnade["b_mu"].sum(-1)', "d_explained = -d_x"),
    ('d_explained = d_rnade["b_mu"].sum(-1)', 'd_explained = d_rnade["b_mu"][..., 0]'),
    ("d_A[i] += d_explained.T @ x_i", "d_A[i] += x_i.T @ d_explained"),
    ("d_A[i] += d_explained.T @ x_i", "d_A[i] -= d_explained.T @ x_i"),
    ('total["A"] = d_A\n', 'total["A"] = 2 * d_A\n'),
    ('total["B"] = d_A[:-1] - d_A[1:]', 'total["B"] = d_A[:-1] + d_A[1:]'),
    ("d_A[0].diagonal() * torch.sigmoid(k) * torch.sigmoid(-k)", "d_A[0].diagonal()"),
    ("        A[i] += B_i\n", ""),
    ("        A[i + 1] -= B_i\n", ""),
    ('share = torch.sigmoid(parameters["kappa_logit"])', 'share = parameters["kappa_logit"]'),
    ("A[0] = share.diag()", "A[-1] = share.diag()"),
    ("share = B.new_full((D,), kappa)", "share = B.new_full((D,), 1.0)"),
    ("d_frames[:, t - 1 - i] += d_explained @ A[i]",
     "d_frames[:, t - 1 - i] += d_explained @ A[i].T"),
    ("d_frames[:, t - 1 - i] += d_explained @ A[i]",
     "d_frames[:, t - i] += d_explained @ A[i]"),
    ("return total, d_frames * inside", "return total, d_frames"),
    ("g = e @ W_rec", "g = g @ W_rec"),
    ("g = e @ W_rec", "g = 0 * e"),
    ("g = e @ W_rec", "g = g + e @ W_rec"),
    ('d_b = d_rnade[f"b_{n}"].flatten(1)', 'd_b = d_rnade[f"b_{n}"].transpose(1, 2).flatten(1)'),
    ('total[f"W_{n}"] += d_b.T @ u[t]', 'total[f"W_{n}"] += d_b.T @ u[t + 1]'),
    ('total[f"W_{n}"] += d_b.T @ u[t]', 'total[f"W_{n}"] += u[t].T @ d_b'),
    ('total[f"W_{n}"] += d_b.T @ u[t]', 'total[f"W_{n}"] = d_b.T @ u[t]'),
    ('g = g + d_b @ parameters[f"W_{n}"]', "pass"),
    ('g = g + d_b @ parameters[f"W_{n}"]', 'g = d_b @ parameters[f"W_{n}"]'),
    ('g = g + d_b @ parameters[f"W_{n}"]', 'g = g - d_b @ parameters[f"W_{n}"]'),
    ('total["u_0"] = g.sum(0)', 'total["u_0"] = g[0]'),
    ('total["u_0"] = g.sum(0)', 'total["u_0"] = (e @ W_rec).sum(0)'),
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_without_a_planted_error_the_cases_agree(name: str) -> None:
    assert max(errors(planted({}), name).values()) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(("right", "wrong"), MISTAKES, ids=[wrong for _, wrong in MISTAKES])
def test_a_planted_error_is_caught(right: str, wrong: str) -> None:
    module, worst = planted({right: wrong}), 0.0
    for name in CASES:
        try:
            worst = max(worst, *errors(module, name).values())
        except RuntimeError:  # shapes that do not fit
            worst = np.inf
    assert worst > 1e-6


@pytest.mark.parametrize("key", MISPRINTS)
def test_a_misprint_of_the_supplement_breaks_the_gradients_the_derivation_lists(key: str) -> None:
    wrong = {
        n for n, e in errors(planted(MISPRINTS[key]), MISPRINTED_CASE[key]).items() if e > 1e-6
    }
    assert wrong
    row = re.search(rf"^\| {key} \|.*\| ([^|]*) \|$", DERIVATION.read_text(), re.MULTILINE)
    assert row, f"docs/derivation.md has no misprint {key}"
    listed = set(re.findall(r"`([^`]+)`", row[1]))
    assert {n.removeprefix("rnade.") for n in wrong} == listed


def test_every_line_of_the_algorithms_has_a_planted_error() -> None:
    statement = re.compile(r"^ +((\w+)(\[.*?\])?|u\.append.*) ([-+]?=) (?!torch\.zeros_like)")
    setup = re.compile(
        r"^ +(W|V_alpha|biases|b_alpha|L|A|d_W|d_V|d_b|d_x|gradients|options|rnade|W_in|conditioned"
        r"|total|d_frames|B|x, |name|slopes|C|E|d_c|c|log_scales|M|readers|n_seen)\b[^\[]*= "
    )
    touched = [old for old, _ in MISTAKES] + [old for m in MISPRINTS.values() for old in m]
    lines = [
        line
        for line in SOURCE.splitlines(keepends=True)
        if statement.match(line) and not setup.match(line)
    ]
    assert len(lines) > 40
    for line in lines:
        assert any(old in line for old in touched), f"no error is planted in: {line.strip()}"

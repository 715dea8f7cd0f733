"""Compute what the model computes by slow loops over frames and features, in numpy, written from
the equations of ``docs/derivation.md`` and from torch's documentation of GRU and LSTM.

Conventions:
    ``p`` holds a model's parameters by name. One frame ``x (d,)``, one sequence ``frames (T, D)``,
    one state ``u (S,)`` at a time; log densities in nats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy import ndarray as Array
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rnade_lightning import RNNRNADE
from rnade_lightning.components import make_component

NAMES = ("alpha", "mu", "sigma")
SUBSETS = [s for n in range(4) for s in itertools.combinations(NAMES, n)]
OPTIONS: list[dict[str, Any]] = [
    {"component": component, "activation": activation, "floor": floor}
    for component, activation, floor in itertools.product(
        ("gaussian", "laplace"), ("sigmoid", "relu"), (0.0, 0.3)
    )
]
BOUNDS = (-0.4, 0.7)
OPTIONS.append({"component": "laplace", "activation": "sigmoid", "floor": 0.3, "censor_at": BOUNDS})
every_option = pytest.mark.parametrize(
    "options", OPTIONS, ids=["-".join(map(str, options.values())) for options in OPTIONS]
)


def supplement(
    n_features: int,
    n_hidden: int,
    n_recurrent: int,
    n_components: int,
    cell: str = "sigmoid",
    conditioned: Sequence[str] = NAMES,
    **options: Any,
) -> RNNRNADE:
    """Return the supplement's model: logistic cell, Gaussian components, no floor and no linear
    paths, unless options say otherwise."""
    plain: dict[str, Any] = {"component": "gaussian", "floor": 0.0, "linear": False, "n_past": 0}
    sizes = n_features, n_hidden, n_recurrent, n_components
    return RNNRNADE(*sizes, cell=cell, conditioned=conditioned, **plain | options)


def algorithm(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's options as Algorithms 1 and 2 take them: the component with its bounds."""
    kept = {k: v for k, v in options.items() if k not in ("component", "censor_at")}
    bounds = {"censor_at": options["censor_at"]} if options.get("censor_at") else {}
    return kept | {"component": make_component(options.get("component", "gaussian"), **bounds)}


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return parameters by the names that the algorithms use: those of the first layer as they
    are."""
    return {name.removeprefix("layers.0."): t for name, t in model.named_parameters()}


def parameters(model: nn.Module) -> dict[str, Array]:
    return {name: t.detach().double().numpy().copy() for name, t in named(model).items()}


def spread(model: nn.Module, std: float = 0.5, seed: int = 0) -> Any:
    """Return the model with every parameter drawn from N(0, std^2): none small, none alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for t in model.parameters():
            t.copy_(std * torch.randn(t.shape, generator=generator, dtype=torch.float64))
    return model


# ------------------------------------------------------------------ RNADE


def conditional(
    p: Mapping[str, Array],
    prefix: Sequence[float],
    biases: Sequence[Array] | None = None,
    activation: str = "sigmoid",
    floor: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Return log weights, means and scales ``(K,)`` of the feature that follows ``prefix``."""
    d = len(prefix)
    a = p["c"].copy()
    for i in range(d):
        a += prefix[i] * p["W"][i]
    psi = p["rho"][d] * a
    h = 1 / (1 + np.exp(-psi)) if activation == "sigmoid" else np.maximum(psi, 0)
    if biases is None:
        biases = [p[f"b_{name}"] for name in NAMES]
    z = [p[f"V_{name}"][d].T @ h + b[d] for name, b in zip(NAMES, biases, strict=True)]
    linear = sum(p["L"][d, i] * prefix[i] for i in range(d)) if "L" in p else 0.0
    return z[0] - log_sum_exp(z[0]), z[1] + linear, floor + np.exp(z[2])


def log_prob(
    p: Mapping[str, Array],
    x: Sequence[float],
    biases: Sequence[Array] | None = None,
    component: str = "gaussian",
    activation: str = "sigmoid",
    floor: float = 0.0,
    censor_at: Sequence[float] | None = None,
) -> float:
    total = 0.0
    low, high = censor_at or (-math.inf, math.inf)
    x = [min(max(x_d, low), high) for x_d in x]
    for d in range(len(x)):
        log_weights, means, scales = conditional(p, x[:d], biases, activation, floor)
        terms = []
        for log_w, m, s in zip(log_weights, means, scales, strict=True):
            if x[d] in (low, high):
                below = laplace_cdf((x[d] - m) / s)
                log_phi = math.log(below if x[d] == low else 1 - below)
            elif component == "gaussian":
                log_phi = -((x[d] - m) ** 2) / (2 * s**2) - math.log(s * math.sqrt(2 * math.pi))
            else:
                log_phi = -abs(x[d] - m) / s - math.log(2 * s)
            terms.append(log_w + log_phi)
        total += log_sum_exp(np.array(terms))
    return total


def cdf(
    p: Mapping[str, Array],
    x: Sequence[float],
    biases: Sequence[Array] | None = None,
    component: str = "gaussian",
    activation: str = "sigmoid",
    floor: float = 0.0,
    censor_at: Sequence[float] | None = None,
) -> Array:
    """Return P(feature d <= x_d | the features before it), ``(D,)``: uniform where x is a draw.
    With a censor_at, it is that of values which are not cut off, given cut-off features before
    them."""
    below = np.zeros(len(x))
    if censor_at is not None:
        x = [min(max(x_d, censor_at[0]), censor_at[1]) for x_d in x]
    for d in range(len(x)):
        log_weights, means, scales = conditional(p, x[:d], biases, activation, floor)
        for log_w, m, s in zip(log_weights, means, scales, strict=True):
            r = (x[d] - m) / s
            phi = 0.5 * math.erfc(-r / math.sqrt(2)) if component == "gaussian" else laplace_cdf(r)
            below[d] += math.exp(log_w) * phi
    return below


def laplace_cdf(r: float) -> float:
    return 0.5 * math.exp(r) if r < 0 else 1 - 0.5 * math.exp(-r)


def log_sum_exp(z: Array) -> float:
    return float(z.max() + np.log(np.exp(z - z.max()).sum()))


# ------------------------------------------------------------------ RNN-RNADE


def next_state(p: Mapping[str, Array], x: Array, u: Array, cell: str) -> Array:
    if cell in ("sigmoid", "tanh"):
        z = p["W_in"] @ x + p["W_rec"] @ u + p["b_h"]
        return _logistic(z) if cell == "sigmoid" else np.tanh(z)
    R = p["weight_hh_l0"].shape[1]
    h = u[:R]
    from_x = p["weight_ih_l0"] @ x + p["bias_ih_l0"]
    from_h = p["weight_hh_l0"] @ h + p["bias_hh_l0"]
    if cell == "gru":
        reset, update = (_logistic((from_x + from_h)[i * R : (i + 1) * R]) for i in range(2))
        new = np.tanh(from_x[2 * R :] + reset * from_h[2 * R :])
        return (1 - update) * new + update * h
    i, f, g, o = ((from_x + from_h)[n * R : (n + 1) * R] for n in range(4))
    inner = _logistic(f) * u[R:] + _logistic(i) * np.tanh(g)
    return np.concatenate((_logistic(o) * np.tanh(inner), inner))


def frame_biases(p: Mapping[str, Array], u: Array) -> list[Array]:
    """Return the biases of the frame that sees state ``u``; state matrices not in ``p`` are off."""
    biases = []
    for name in NAMES:
        b = p[f"rnade.b_{name}"].copy()
        if f"W_{name}" in p:
            R = p[f"W_{name}"].shape[1]
            b += (p[f"W_{name}"] @ u[:R]).reshape(b.shape)
        biases.append(b)
    return biases


def frame_by_frame(
    function: Callable[..., Any],
    p: Mapping[str, Array],
    frames: Array,
    cell: str,
    u: Array | None = None,
    **options: Any,
) -> tuple[Array, Array]:
    """Return ``function`` (:func:`log_prob`, :func:`cdf`) of every frame ``(T, ...)``, and the
    state after every frame ``(T, S)``."""
    rnade = {name.removeprefix("rnade."): value for name, value in p.items()}
    u = p["u_0"] if u is None else u
    values, states = [], []
    if censor_at := options.get("censor_at"):
        frames = np.clip(frames, *censor_at)
    for t, x in enumerate(frames):
        copied = sum(A_i @ frames[t - i] for i, A_i in enumerate(p.get("A", ()), 1) if i <= t)
        biases = frame_biases(p, u)
        if censor_at:  # bounds stay where they are, means move
            biases[1] = biases[1] + np.reshape(copied, (-1, 1))
        values.append(function(rnade, x if censor_at else x - copied, biases, **options))
        u = next_state(p, x, u, cell)
        states.append(u)
    return np.array(values), np.array(states)


def _logistic(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


# ------------------------------------------------------------------ gradients and devices


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return ||difference|| over max(||expected||, 1e-8); infinite if there is a NaN."""
    error = (found.double() - expected.double()).norm() / max(expected.double().norm(), 1e-8)
    return math.inf if error.isnan() else error.item()


def slope(
    function: Callable[[Mapping[str, Array]], float],
    p: Mapping[str, Array],
    name: str,
    direction: Array,
    step: float = 1e-5,
) -> float:
    """Return the central difference of ``function`` where ``p[name]`` moves along ``direction``."""
    ahead, behind = ({**p, name: p[name] + s * direction} for s in (step, -step))
    return (function(ahead) - function(behind)) / (2 * step)


class MetaOnly(TorchDispatchMode):
    """Refuses every tensor with dimensions that is not on the meta device. So what passes here has
    no stray CPU operand and reads nothing back to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self._refuse_host(func, (args, kwargs))
        out = func(*args, **(kwargs or {}))
        self._refuse_host(func, out)
        return out

    def _refuse_host(self, func: Any, tensors: Any) -> None:
        for t in tree_leaves(tensors):
            if isinstance(t, Tensor) and t.dim() and t.device.type != "meta":
                raise RuntimeError(f"{func} on a {t.device} tensor of shape {tuple(t.shape)}")

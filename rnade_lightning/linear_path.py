r"""The linear path from past frames: its weights, and whether it is stable.

The path adds up $\sum_i A_i x_{t-i}$ over the last p frames. It is ``free``, with any A_i, or
``reverting`` to the mean,

$$\kappa \odot x_{t-1} + \sum_{i=1}^{p-1} B_i (x_{t-i} - x_{t-i-1}), \qquad 0 < \kappa_d < 1$$

whose A_i add up to the diagonal matrix of $\kappa$. Where nothing else moves, frames follow
$x_t = \sum_i A_i x_{t-i}$. They die away if the *spectral radius*, the largest absolute eigenvalue
of the companion matrix of A_1 .. A_p, is below 1, and leave the data if it is above.

Conventions:
    ``A (p, D, D)``, ``B (p - 1, D, D)``; A_1 and B_1, of the latest frames, come first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rnade_lightning.scans import solved

Past = Literal["free", "reverting"]
PASTS: tuple[Past, ...] = get_args(Past)
STABLE = 0.999
"""Spectral radius that an unstable path is given, unless that of kappa is larger."""


def path_parameters(
    n_past: int, n_features: int, past: str, kappa: float, learn_past: bool, learn_kappa: bool
) -> dict[str, nn.Parameter]:
    """Return the parameters of a path that starts by keeping a share of the last frame: all of it
    if it is free, kappa if it is reverting.

    Returns:
        ``A``, or ``B`` and, if kappa is learnt, ``kappa_logit (D,)``; nothing for n_past = 0.

    Raises:
        ValueError: the arguments make no path.
    """
    if past not in PASTS:
        raise ValueError(f"past {past!r} is none of {', '.join(PASTS)}")
    if past == "reverting" and not (n_past and 0 < kappa < 1):
        raise ValueError("past: reverting needs n_past of 1 or more, and kappa between 0 and 1")
    if learn_kappa and past == "free":
        warnings.warn("a free path has no kappa to learn: set past to reverting", stacklevel=3)
    if not n_past:
        return {}
    if past == "free":
        A = torch.zeros(n_past, n_features, n_features)
        A[0].fill_diagonal_(1)
        return {"A": nn.Parameter(A, requires_grad=learn_past)}
    B = torch.zeros(n_past - 1, n_features, n_features)
    found = {"B": nn.Parameter(B, requires_grad=learn_past)}
    if learn_kappa:
        start = math.log(kappa / (1 - kappa))
        found["kappa_logit"] = nn.Parameter(torch.full((n_features,), start))
    return found


def path_weights(parameters: Mapping[str, Tensor | None], kappa: float) -> Tensor | None:
    """Return A_1 .. A_p of a path with these parameters; None if there is no path."""
    if (B := parameters.get("B")) is None:
        return parameters.get("A")
    share = B.new_full(B.shape[-1:], kappa)
    if (logit := parameters.get("kappa_logit")) is not None:
        share = torch.sigmoid(logit)
    none = torch.zeros_like(share.diag())[None]
    differences = torch.cat((B, none)) - torch.cat((none, B))
    first = share.diag()[None]
    return differences + torch.cat((first, none.expand(len(B), -1, -1)))


@torch.no_grad()
def fit_path(
    parameters: Mapping[str, Tensor | None],
    n_past: int,
    kappa: float,
    sequences: Iterable[Tensor],
    ridge: float,
    context_ridge: float = 1.0,
    own_ridge: float | None = None,
) -> Tensor:
    """Set the A_i, or B_i, of a path, and E, to their ridge regression on sequences, if they are
    learnt.

    Args:
        parameters: of the path; see `path_parameters`.
        n_past: p.
        kappa: share of the last frame that a reverting path starts from.
        sequences: each ``(T, D)``, or ``(T, D + C)`` with the context behind the frame, of a path
            that reads one; the frames after the first p of them are explained.
        ridge: penalty, beside sums over frames. It draws a free path to copying, and a reverting
            one to no part of past differences.
        context_ridge: penalty that draws E to 0.
        own_ridge: penalty on the part of each feature's own past, in place of ``ridge`` (Litterman
            1986, *Forecasting with Bayesian vector autoregressions*).

    Returns:
        The covariance of what the path leaves unexplained, ``(D, D)``, float64.

    Raises:
        ValueError: there are not more such frames than features.
    """
    B, E = parameters.get("B"), parameters.get("E")
    weights = parameters["A"] if B is None else B
    assert weights is not None
    D, n_own = weights.shape[-1], weights.shape[0] * weights.shape[-1]
    P = n_own + (0 if E is None else E.shape[1])
    gram, n = torch.zeros(P + D, P + D, dtype=torch.float64), 0
    for sequence in sequences:
        x, context = sequence.detach().to("cpu", torch.float64).tensor_split([D], 1)
        past = [x[n_past - i : max(len(x) - i, 0)] for i in range(1, n_past + 1)]
        left = x[n_past:] - (1 if B is None else kappa) * past[0]
        if B is not None:
            past = [later - earlier for later, earlier in pairwise(past)]
        both = torch.cat((*past, context[n_past:], left), 1)
        gram, n = gram + both.T @ both, n + len(both)
    if n <= D:
        raise ValueError(
            f"{n} frames have {n_past} before them, too few to start the linear path of {D}"
            " features: set model.n_past to less, give more data, or leave LinearStart out"
        )
    change = torch.zeros(P, D, dtype=torch.float64)
    learnt = slice(0 if weights.requires_grad else n_own, P)
    if learnt.start < P:
        of_learnt = gram[learnt, learnt]
        penalty = torch.full((P,), ridge, dtype=torch.float64)
        penalty[n_own:] = context_ridge
        if own_ridge is None:
            penalised = of_learnt + penalty[learnt].diag()
            change[learnt] = torch.linalg.solve(penalised, gram[learnt, P:])
        for d in range(0 if own_ridge is None else D):
            of_d = penalty.clone()
            of_d[d:n_own:D] = own_ridge  # type: ignore[assignment]
            change[learnt, d] = torch.linalg.solve(
                of_learnt + of_d[learnt].diag(), gram[learnt, P + d]
            )
    if weights.requires_grad:
        new = change[:n_own].reshape(len(weights), D, D).mT.clone()  # a row for each regressor
        if B is None:
            new[0] += torch.eye(D)
        weights.copy_(new)
    if E is not None:
        E.copy_(change[n_own:].T)
    explained = change.T @ gram[:P, P:]
    return (gram[P:, P:] - explained - explained.T + change.T @ gram[:P, :P] @ change) / n


def whitened(x: Tensor, root: Tensor | None) -> Tensor:
    """Return C^{-1} x of frames ``(..., D)``, with C the ``root``, lower triangular; x for none."""
    if root is None:
        return x
    if torch.compiler.is_exporting():  # ONNX has no triangular solution
        return solved(root, x.to(root.dtype))
    one = torch.eye(len(root), dtype=root.dtype, device=root.device)
    x = x.to(root.dtype)
    fine = torch.promote_types(root.dtype, torch.float32)  # no solution is in 16 bits
    inverse = torch.linalg.solve_triangular(root.to(fine), one.to(fine), upper=False)
    white = x.masked_fill(x.isinf(), 0.0) @ inverse.mT.to(root.dtype)
    return white.where(~x.isinf(), x)  # 0 times inf is nan


def log_units(root: Tensor | None) -> Tensor:
    """Return what the log density of each feature loses by whitening, ``(D,)``; 0 for none."""
    return torch.zeros(()) if root is None else root.diagonal().log()


def spectral_radius(A: Tensor) -> float:
    """Return the spectral radius of a path ``A (p, D, D)``.

    >>> spectral_radius(0.5 * torch.eye(3)[None])
    0.5
    """
    p, D, _ = A.shape
    companion = torch.eye(p * D, dtype=torch.float64).roll(D, 0)
    companion[:D] = A.detach().to("cpu", torch.float64).transpose(0, 1).flatten(1)
    return float(torch.linalg.eigvals(companion).abs().max())


@torch.no_grad()
def make_stable(parameters: dict[str, Tensor | None], kappa: float) -> tuple[float, float]:
    """Bring the spectral radius of a path from 1 or more to `STABLE`, with a small change.

    A free path is given A_i g^i, which multiplies its radius by g. Of a reverting path, all B_i are
    multiplied by the largest number that does: without them the radius is the largest kappa. Where
    that is nearer to 1, the new radius is half way between it and 1.

    Returns:
        The radius before and after. Where the largest kappa rounds to 1, the path stays as it is.
    """
    A = path_weights(parameters, kappa)
    before = 0.0 if A is None else spectral_radius(A)
    if before < 1:
        return before, before
    if (B := parameters.get("B")) is None:
        assert A is not None
        powers = torch.arange(1, len(A) + 1, dtype=A.dtype, device=A.device)
        A *= (STABLE / before) ** powers[:, None, None]
        return before, spectral_radius(A)
    start, low, high = B.clone(), 0.0, 1.0
    bound = max(STABLE, (1 + _radius(parameters | {"B": 0 * B}, kappa)) / 2)
    for _ in range(30 if bound < 1 else 0):  # halve the interval in which the radius passes it
        middle = (low + high) / 2
        B.copy_(middle * start)
        low, high = (middle, high) if _radius(parameters, kappa) < bound else (low, middle)
    B.copy_(low * start if bound < 1 else start)
    return before, _radius(parameters, kappa)


def _radius(parameters: Mapping[str, Tensor | None], kappa: float) -> float:
    A = path_weights(parameters, kappa)
    assert A is not None
    return spectral_radius(A)

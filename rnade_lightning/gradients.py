r"""Compute the gradients of RNADE and RNN-RNADE by Algorithms 1 and 2, line by line.

This is the supplement of the RNN-RNADE paper with its misprints corrected; ``docs/derivation.md``
derives every line and says what goes wrong when a misprint is followed. It uses no autograd and
none of the model's code: it is the yardstick of every gradient check, and what the compiled paths
of `rnade_lightning.kernels` do, in the order in which it is easiest to read. The components and
state functions that it states itself are in the tables `STATEMENTS` and `STATES`; for any other
component it takes the derivatives that its class writes down.

Conventions:
    Gradients of **plus** the log density, in nats. ``x (N, D)``, N frames at once: where the
    supplement writes an assignment for one frame, the sum over frames stands here. Symbols are the
    supplement's, ``d_z`` for its partial z; its recurrent state h^t is ``u`` here. A gradient has
    the shape of what it is the gradient of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Statement = Callable[..., tuple[Tensor, ...]]

BLOCK = 16
"""Features between two fresh computations of a; subtraction alone loses float32 digits."""


def rnade_gradients(
    parameters: Mapping[str, Tensor], x: Tensor, biases: Sequence[Tensor] | None = None, *,
    weight: Tensor | None = None, component: Any = "gaussian", activation: str = "sigmoid",
    floor: float = 0.0,
) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
    """Return the gradients of ``sum_n weight_n log p(x_n)``, by Algorithm 1.

    Args:
        parameters: RNADE's parameters by name.
        x: frames ``(N, D)``.
        biases: (alpha, mu, sigma), each ``(D, K)`` or ``(N, D, K)``; None for the static ones.
        weight: ``(N,)``, the gradient that arrives at each frame's log density; None for ones.
        component: a `Component`, or the name of one without arguments in `STATEMENTS`.
        activation: as in `RNADE`.
        floor: as in `RNADE`.

    Returns:
        The gradient of every parameter, by name (b_alpha, b_mu, b_sigma in the shape of the biases
        given), and that of x.
    """
    W, c, rho = parameters["W"], parameters["c"], parameters["rho"]
    V_alpha, V_mu, V_sigma = (parameters[f"V_{name}"] for name in ("alpha", "mu", "sigma"))
    if biases is None:
        biases = [parameters[f"b_{name}"] for name in ("alpha", "mu", "sigma")]
    b_alpha, b_mu, b_sigma = biases
    L = parameters.get("L", x.new_zeros(x.shape[1], x.shape[1]))
    w = torch.ones_like(x[:, :1]) if weight is None else weight[:, None]
    d_W, d_rho, d_L = torch.zeros_like(W), torch.zeros_like(rho), torch.zeros_like(L)
    d_V_alpha, d_V_mu, d_V_sigma = (torch.zeros_like(V) for V in (V_alpha, V_mu, V_sigma))
    d_b_alpha, d_b_mu, d_b_sigma = (torch.zeros_like(b) for b in biases)
    d_x = torch.zeros_like(x)
    statement, atoms = _statement(component), getattr(component, "atoms", ())
    unit, slope = UNITS[activation]
    inside = torch.ones_like(x)
    if atoms:  # values beyond a bound are read as the bound
        inside = ((x >= atoms[0]) & (x <= atoms[1])).to(x.dtype)
        x = x.clamp(*atoms)

    delta = x.new_zeros(len(x), len(c))  # d log p / d a_{d+1}  (N, H)
    a = c + x @ W  # a_{D+1}  (N, H)
    for d in reversed(range(x.shape[1])):
        x_d = x[:, d, None]  # (N, 1)
        d_W[d] = (delta * x_d).sum(0)
        d_x[:, d] += delta @ W[d]
        a = a - x_d * W[d] if d % BLOCK else c + x[:, :d] @ W[:d]  # a_d  (N, H)

        psi = rho[d] * a
        h = unit(psi)  # (N, H)
        z_alpha = h @ V_alpha[d] + b_alpha[..., d, :]  # (N, K)
        z_mu = h @ V_mu[d] + b_mu[..., d, :] + (x[:, :d] @ L[d, :d])[:, None]
        z_sigma = h @ V_sigma[d] + b_sigma[..., d, :]
        log_alpha = torch.log_softmax(z_alpha, -1)
        log_sigma = torch.logaddexp(z_sigma, z_sigma.new_tensor(floor).log())
        r = (x_d - z_mu) * torch.exp(-log_sigma)  # (x_d - mu) / sigma
        log_phi, d_log_phi_mu, d_log_phi_sigma = statement(x_d, z_mu, r, log_sigma, atoms)
        pi = torch.softmax(log_alpha + log_phi, -1)  # responsibilities

        d_z_alpha = w * (pi - torch.exp(log_alpha))
        d_z_mu = w * pi * d_log_phi_mu
        d_z_sigma = w * pi * d_log_phi_sigma * torch.exp(z_sigma - log_sigma)

        d_V_alpha[d] = h.T @ d_z_alpha
        d_V_mu[d] = h.T @ d_z_mu
        d_V_sigma[d] = h.T @ d_z_sigma
        d_b_alpha[..., d, :] = _like(d_z_alpha, b_alpha)
        d_b_mu[..., d, :] = _like(d_z_mu, b_mu)
        d_b_sigma[..., d, :] = _like(d_z_sigma, b_sigma)
        d_x[:, d] -= d_z_mu.sum(-1)
        d_x[:, :d] += d_z_mu.sum(-1, keepdim=True) * L[d, :d]
        d_L[d, :d] = d_z_mu.sum(-1) @ x[:, :d]

        d_h = d_z_alpha @ V_alpha[d].T + d_z_mu @ V_mu[d].T + d_z_sigma @ V_sigma[d].T  # (N, H)
        d_psi = d_h * slope(psi, h)
        d_rho[d] = (d_psi * a).sum()
        delta = delta + rho[d] * d_psi
    d_c = delta.sum(0)
    d_x *= inside

    gradients = {
        "W": d_W, "c": d_c, "rho": d_rho,
        "V_alpha": d_V_alpha, "V_mu": d_V_mu, "V_sigma": d_V_sigma,
        "b_alpha": d_b_alpha, "b_mu": d_b_mu, "b_sigma": d_b_sigma,
    }  # fmt: skip
    return gradients | ({"L": d_L} if "L" in parameters else {}), d_x


def scaled_gradients(
    parameters: Mapping[str, Tensor], x: Tensor, biases: Sequence[Tensor], log_scales: Tensor,
    log_w: Tensor, *, weight: Tensor, **options: Any,
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of ``sum_n weight_n log sum_j w_nj p_j(x_n)``: Algorithm 1 for each p_j,
    which has log s_j (J,) added to the biases of sigma, weighted by its responsibility. Return as
    `rnade_gradients`, and those of log_scales and of what ``log_w (N, J)`` is the log softmax of.
    """
    each = [[*biases[:2], biases[2] + s] for s in log_scales]
    log_p = torch.stack([_log_density(parameters, x, b, **options) for b in each], -1)
    share = torch.softmax(log_w + log_p, -1)  # responsibilities (N, J)
    gradients = [
        rnade_gradients(parameters, x, b, weight=weight * share[:, j], **options)
        for j, b in enumerate(each)
    ]
    total = {name: torch.stack([d[name] for d, _ in gradients]).sum(0) for name in gradients[0][0]}
    d_log_scales = torch.stack([d["b_sigma"].sum() for d, _ in gradients])
    d_z_w = weight[:, None] * (share - torch.exp(log_w))
    return total, torch.stack([d for _, d in gradients]).sum(0), d_log_scales, d_z_w


def _log_density(
    parameters: Mapping[str, Tensor], x: Tensor, biases: Sequence[Tensor], component: Any,
    activation: str, floor: float,
) -> Tensor:  # fmt: skip
    """Return log p of frames ``x (N, D)``, none beyond a bound, ``(N,)``."""
    steps = x[:, :-1, None] * parameters["W"][:-1]
    all_a = torch.cat((parameters["c"].expand(len(x), 1, -1), steps), 1).cumsum(1)  # (N, D, H)
    all_h = UNITS[activation][0](parameters["rho"][:, None] * all_a)
    all_alpha, all_mu, all_sigma = (
        torch.einsum("ndh,dhk->ndk", all_h, parameters[f"V_{n}"]) + b
        for n, b in zip(("alpha", "mu", "sigma"), biases, strict=True)
    )
    if "L" in parameters:
        all_mu = all_mu + (x @ parameters["L"].tril(-1).T)[..., None]
    all_sigma = torch.logaddexp(all_sigma, x.new_tensor(floor).log())
    residual = (x[..., None] - all_mu) * torch.exp(-all_sigma)
    options = x[..., None], all_mu, residual, all_sigma, getattr(component, "atoms", ())
    each = _statement(component)(*options)[0]
    return torch.logsumexp(torch.log_softmax(all_alpha, -1) + each, -1).sum(-1)


def rnn_rnade_gradients(
    parameters: Mapping[str, Tensor], frames: Tensor, *, mask: Tensor | None = None,
    cell: str = "sigmoid", component: Any = "gaussian", activation: str = "sigmoid",
    floor: float = 0.0, kappa: float = 0.0, context: Tensor | None = None,
    root: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
    """Return the gradients of the summed log density of sequences, by Algorithm 2 (plain cells).

    Args:
        parameters: RNN-RNADE's parameters by name (``rnade.W``, .., ``W_in``, ..); a state matrix
            (``W_alpha``, ``W_mu``, ``W_sigma``) that is missing is one switched off.
        frames: ``(B, T, D)``.
        mask: ``(B, T)``, True for valid frames, right padding only; None for all valid.
        cell: ``sigmoid`` (the supplement) or ``tanh`` (the authors' experiments).
        component: a `Component`, or the name of one without arguments in `STATEMENTS`.
        activation: as in `RNADE`.
        floor: as in `RNADE`.
        kappa: as in `RNNRNADE`; for a path that reverts to the mean (parameter ``B``).
        context: ``(B, T, C)``, NaN where a number is absent (parameters ``C_alpha``, .., ``E``,
            ``absent``); None for a model without. A context by feature ``(B, T, D C)``, all
            features side by side, has ``C_alpha (D, K, C)``, and the net does not read it.
        root: ``(D, D)``, lower triangular, what a model that whitens divides by; it is constant.

    Returns:
        The gradient of every parameter, by name, under ``context`` that of the context if there is
        one, and that of the frames.
    """
    B, T, D = frames.shape
    options: dict[str, Any] = {"component": component, "activation": activation, "floor": floor}
    rnade = {k.removeprefix("rnade."): p for k, p in parameters.items() if k.startswith("rnade.")}
    W_in, W_rec, b_h = (parameters[name] for name in ("W_in", "W_rec", "b_h"))
    conditioned = [n for n in ("alpha", "mu", "sigma") if f"W_{n}" in parameters]
    A = _past_weights(parameters, kappa, D)
    C = 0 if context is None else context.shape[-1]
    log_scales = parameters.get("scales.log_scales")
    M = parameters["couplings.M"].tril(-1) if "couplings.M" in parameters else None
    readers = [parameters[n] for n in ("couplings.W", "scales.W_w") if n in parameters]
    n_seen = readers[0].shape[1] if readers else 0
    E = parameters.get("E", frames.new_zeros(frames.shape[-1], C))
    c = frames.new_zeros(*frames.shape[:2], 0)
    if context is not None:  # c_t, with the learned number where one is absent
        c = torch.where(context.isnan(), parameters["absent"], context.nan_to_num(0.0))
    read = c[..., : W_in.shape[1] - frames.shape[-1]]  # by the net: all of it, or nothing
    weight = torch.ones_like(frames[..., 0]) if mask is None else mask.to(frames.dtype)
    frames = frames if mask is None else frames.where(mask[..., None], frames.new_zeros(()))
    atoms, (state, state_slope) = getattr(component, "atoms", ()), STATES[cell]
    inside = torch.ones_like(frames)
    if atoms:
        inside = ((frames >= atoms[0]) & (frames <= atoms[1])).to(frames.dtype)
        frames = frames.clamp(*atoms)

    u = [parameters["u_0"].expand(B, -1)]  # u_0 .. u_T, each (B, R)
    for t in range(T):
        z = torch.cat((frames[:, t], read[:, t]), -1) @ W_in.T + u[t] @ W_rec.T + b_h
        u.append(state(z))

    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    d_frames, d_A, d_c = (torch.zeros_like(t) for t in (frames, A, c))
    g = torch.zeros_like(u[T])  # d / d u_t; nothing follows the last frame
    for t in reversed(range(T)):  # frame t + 1 of the supplement: it sees u[t] and makes u[t + 1]
        biases = [rnade[f"b_{n}"].expand(B, -1, -1) for n in ("alpha", "mu", "sigma")]
        for i, n in enumerate(("alpha", "mu", "sigma")):
            if n in conditioned:
                biases[i] = biases[i] + (u[t] @ parameters[f"W_{n}"].T).view_as(biases[i])
                if f"C_{n}" in parameters:
                    own = _by_context(parameters[f"C_{n}"], c[:, t])
                    biases[i] = biases[i] + own.view_as(biases[i])
        past = [frames[:, t - i] for i in range(1, min(len(A), t) + 1)]  # before the first: 0
        explained = sum(x_i @ A_i.T for x_i, A_i in zip(past, A, strict=False))
        explained = explained + c[:, t] @ E.T
        x = frames[:, t]
        if not atoms:
            x = x - explained
        else:  # bounds cannot be shifted: the means are
            biases[1] = biases[1] + explained[..., None]
        if root is not None:
            x = torch.linalg.solve_triangular(root, x.T, upper=False).T
        seen = torch.cat((u[t], c[:, t]), -1)[:, :n_seen]  # by couplings and by common scales
        d_seen = torch.zeros_like(seen)
        if M is not None:
            z_g = parameters["couplings.b"] + seen @ parameters["couplings.W"].T
            strength, told = torch.tanh(z_g), 3 * torch.tanh(x / 3)
            said = torch.einsum("jde,be->bjd", M, told)
            x = x - (strength[..., None] * said).sum(1)
        if log_scales is None:
            d_rnade, d_x = rnade_gradients(rnade, x, biases, weight=weight[:, t], **options)
        else:
            z_w = parameters["scales.b_w"] + seen @ parameters["scales.W_w"].T
            log_w = torch.log_softmax(z_w, -1)
            d_rnade, d_x, d_s, d_w = scaled_gradients(
                rnade, x, biases, log_scales, log_w, weight=weight[:, t], **options
            )
            total["scales.log_scales"] += d_s
            total["scales.b_w"] += d_w.sum(0)
            total["scales.W_w"] += d_w.T @ seen
            d_seen += d_w @ parameters["scales.W_w"]
        if M is not None:
            total["couplings.M"] -= torch.einsum("bj,bd,be->jde", strength, d_x, told).tril(-1)
            d_z_g = -torch.einsum("bd,bjd->bj", d_x, said) * (1 - strength**2)
            total["couplings.b"] += d_z_g.sum(0)
            total["couplings.W"] += d_z_g.T @ seen
            d_seen += d_z_g @ parameters["couplings.W"]
            d_x = d_x - torch.einsum("bj,bd,jde->be", strength, d_x, M) * (1 - told**2 / 9)
        if root is not None:  # y = C^{-1} x
            d_x = torch.linalg.solve_triangular(root.T, d_x.T, upper=True).T
        for name, d in d_rnade.items():
            total[f"rnade.{name}"] += d.sum(0) if name.startswith("b_") else d
        e = g * state_slope(u[t + 1])
        total["W_in"] += e.T @ torch.cat((frames[:, t], read[:, t]), -1)
        total["W_rec"] += e.T @ u[t]
        total["b_h"] += e.sum(0)
        d_frames[:, t] += d_x + e @ W_in[:, :D]
        d_explained = d_rnade["b_mu"].sum(-1) if atoms else -d_x
        d_c[:, t, : read.shape[-1]] += e @ W_in[:, D:]
        d_c[:, t] += d_explained @ E
        if "E" in parameters:
            total["E"] += d_explained.T @ c[:, t]
        for i, x_i in enumerate(past):
            d_A[i] += d_explained.T @ x_i
            d_frames[:, t - 1 - i] += d_explained @ A[i]
        g = e @ W_rec
        if n_seen:
            g = g + d_seen[:, : g.shape[1]]
            d_c[:, t, : n_seen - g.shape[1]] += d_seen[:, g.shape[1] :]
        for n in conditioned:
            d_b = d_rnade[f"b_{n}"].flatten(1)  # (B, D*K)
            total[f"W_{n}"] += d_b.T @ u[t]
            g = g + d_b @ parameters[f"W_{n}"]
            if f"C_{n}" in parameters:
                d_C, d_c_t = _through_context(parameters[f"C_{n}"], c[:, t], d_b)
                total[f"C_{n}"] += d_C
                d_c[:, t] += d_c_t
    total["u_0"] = g.sum(0)
    if context is not None:
        absent = context.isnan()
        total["absent"] = d_c.where(absent, d_c.new_zeros(())).sum((0, 1))
        total["context"] = d_c.masked_fill(absent, 0.0)
    if "A" in parameters:
        total["A"] = d_A
    if "B" in parameters:  # B_i stands in A_i and, with a minus, in A_{i+1}
        total["B"] = d_A[:-1] - d_A[1:]
    if (k := parameters.get("kappa_logit")) is not None:  # kappa is the diagonal of A_1 - B_1
        total["kappa_logit"] = d_A[0].diagonal() * torch.sigmoid(k) * torch.sigmoid(-k)
    return total, d_frames * inside


def _by_context(C: Tensor, c: Tensor) -> Tensor:
    """Return what a context ``(B, C)`` adds to a parameter, ``(B, D K)``; by feature, ``(B, D
    C)``."""
    if C.dim() == 2:
        return c @ C.T
    return torch.einsum("bdc,dkc->bdk", c.unflatten(-1, (len(C), -1)), C).flatten(1)


def _through_context(C: Tensor, c: Tensor, d_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients by C and by c, from that by what they add, ``(B, D K)``."""
    if C.dim() == 2:
        return d_b.T @ c, d_b @ C
    d_bias, by_feature = d_b.unflatten(-1, (len(C), -1)), c.unflatten(-1, (len(C), -1))
    d_C = torch.einsum("bdk,bdc->dkc", d_bias, by_feature)
    return d_C, torch.einsum("bdk,dkc->bdc", d_bias, C).flatten(1)


def _past_weights(parameters: Mapping[str, Tensor], kappa: float, D: int) -> Tensor:
    """Return A_1 .. A_p of the linear path, ``(p, D, D)``."""
    if "B" not in parameters:
        return parameters.get("A", parameters["b_h"].new_zeros(0, D, D))
    B = parameters["B"]
    A = B.new_zeros(len(B) + 1, D, D)
    share = B.new_full((D,), kappa)
    if "kappa_logit" in parameters:
        share = torch.sigmoid(parameters["kappa_logit"])
    A[0] = share.diag()
    for i, B_i in enumerate(B):
        A[i] += B_i
        A[i + 1] -= B_i
    return A


# ------------------------------------------------------------------ components, units, states


def _gaussian(
    x: Tensor, mu: Tensor, r: Tensor, log_sigma: Tensor, atoms: Any
) -> tuple[Tensor, ...]:
    """Return log phi, and its derivatives by mu and by log sigma."""
    log_phi = -0.5 * r**2 - log_sigma - 0.5 * math.log(2 * math.pi)
    d_log_phi_mu = r * torch.exp(-log_sigma)
    d_log_phi_sigma = r**2 - 1
    return log_phi, d_log_phi_mu, d_log_phi_sigma


def _laplace(x: Tensor, mu: Tensor, r: Tensor, log_sigma: Tensor, atoms: Any) -> tuple[Tensor, ...]:
    """Return the same; on a bound of ``atoms``, log F(t), the log probability of it or beyond."""
    log_phi = -r.abs() - log_sigma - math.log(2)
    d_log_phi_mu = torch.sign(r) * torch.exp(-log_sigma)
    d_log_phi_sigma = r.abs() - 1
    if not atoms:
        return log_phi, d_log_phi_mu, d_log_phi_sigma
    high, on_bound = x >= atoms[1], (x <= atoms[0]) | (x >= atoms[1])
    t = torch.where(high, -r, r)
    tail = torch.exp(-t.abs()) / 2
    log_F = torch.where(t < 0, t - math.log(2), torch.log1p(-tail))
    d_t = torch.where(t < 0, torch.ones_like(t), tail / (1 - tail))  # of log F
    d_mu = torch.where(high, d_t, -d_t) * torch.exp(-log_sigma)
    log_phi = torch.where(on_bound, log_F, log_phi)
    d_log_phi_mu = torch.where(on_bound, d_mu, d_log_phi_mu)
    d_log_phi_sigma = torch.where(on_bound, -t * d_t, d_log_phi_sigma)
    return log_phi, d_log_phi_mu, d_log_phi_sigma


STATEMENTS: dict[str, Statement] = {"gaussian": _gaussian, "laplace": _laplace}
"""Components by name: log density and its derivatives by mu and log sigma."""
UNITS: dict[str, tuple[Any, Any]] = {
    "sigmoid": (torch.sigmoid, lambda psi, h: h * (1 - h)),
    "relu": (torch.relu, lambda psi, h: psi > 0),
}
"""RNADE's units by name: h of psi, and its derivative."""
STATES: dict[str, tuple[Any, Any]] = {
    "sigmoid": (torch.sigmoid, lambda u: u * (1 - u)),
    "tanh": (torch.tanh, lambda u: 1 - u**2),
}
"""Cells by name that Algorithm 2 covers: u of z, and its derivative."""


def _statement(component: Any) -> Statement:
    """Return the statement of a component: ours, or the one that its class writes down."""
    name = component if isinstance(component, str) else component.name
    if isinstance(component, str) or name in STATEMENTS:
        return STATEMENTS[name]

    def of_class(x: Tensor, mu: Tensor, r: Tensor, log_sigma: Tensor, atoms: Any) -> Any:
        slopes = component.log_prob_slopes(x, mu, log_sigma)
        return component.log_prob(x, mu, log_sigma), slopes[0], slopes[1]

    return of_class


def _like(d_z: Tensor, bias: Tensor) -> Tensor:
    """Sum the gradient over all frames for a static bias; keep it by frame for a frame's own."""
    return d_z if bias.dim() == 3 else d_z.sum(0)

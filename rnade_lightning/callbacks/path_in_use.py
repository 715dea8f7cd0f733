r"""Check that the path in use computes the gradient that it should, as far as its dtype can tell.

The yardstick g is the gradient in float64. Rounding explains a difference only up to a size that is
derived here, so that a tolerance need not be guessed:

* A computation of n roundings gives, to first order, the exact result of inputs that are each
  changed by a relative $\gamma_n$ (Higham 2002, *Accuracy and Stability of Numerical Algorithms*,
  section 3.1). Rounding errors behave as independent ones, so with probability above
  $1 - 2 n e^{-\lambda^2 / 2}$ that is $\gamma = \lambda \sqrt n\, u$ (Higham and Mary 2019,
  doi 10.1137/18M1226312), u half the dtype's eps. n is the length of the longest chain of
  operations: the sums over D, H, R and 3 K inputs, frames and sequences.
* What such changes of weights and frames do to g is measured: the largest $\|g' - g\|$ of some
  draws in which every input moves by $\pm\gamma$. Kinks (ReLU, Laplace) near which a frame lies
  are so taken into account.
* The sum over frames adds at most $\gamma \sum_t \|g_t\|$, $g_t$ the gradient of one frame's log p.

$$\|\hat g - g\| \le 2 \max_i \|g_i' - g\| + \gamma \sum_t \|g_t\|$$

The same holds for the log densities themselves, $\sum_t \|g_t\|$ then being $\sum_t |\log p_t|$.

Conventions:
    The path in use is that of the model as it stands: its backend, dtype and device. Yardstick and
    draws are in float64 on the CPU.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnade_lightning.sequence_density import SequenceDensity

LAMBDA = 6.0
N_DRAWS = 4
LOG_P = "log p"

Gradients = Callable[[SequenceDensity, Tensor], Mapping[str, Tensor]]


class Measured(NamedTuple):
    """Norms that go with one parameter, or with the log densities."""

    error: float  # of the path in use against the yardstick
    allowed: float  # the error that rounding explains


def roundings(model: SequenceDensity, frames: Tensor) -> int:
    """Return the length of the longest chain of operations behind a number: the longest side of
    every weight, one after another through frames and sequences."""
    sides = {max(p.shape, default=1) for p in model.parameters()}
    return sum(sides) * max(frames.shape[1], 1) + frames[..., 0].numel()


def roundoff(dtype: torch.dtype, device: str) -> float:
    """Return u of the path in use: half the eps of its dtype, or of TF32 where a GPU may round the
    factors of products in float32 to that."""
    products = torch.backends.cuda.matmul, torch.backends.cudnn.rnn
    shortened = device == "cuda" and any(p.fp32_precision == "tf32" for p in products)
    return 2.0**-11 if shortened and dtype == torch.float32 else torch.finfo(dtype).eps / 2


def measure(
    model: SequenceDensity,
    exact: SequenceDensity,
    frames: Tensor,
    mask: Tensor | None,
    yardstick: Mapping[str, Tensor],
    seed: int,
    context: Tensor | None = None,
) -> dict[str, Measured]:
    """Return what the path in use misses and may miss, by parameter and for `LOG_P`.

    Args:
        model: the model in use.
        exact: the same weights on the torch path, in float64 on the CPU.
        frames: ``(B, T, D)``, in float64 on the CPU.
        mask: ``(B, T)``, valid frames; None for all.
        yardstick: the gradient of ``sum log p`` by every parameter, in float64.
        seed: of the draws.
        context: ``(B, T, C)``, of a model that has one, likewise.
    """
    like = next(model.parameters(), frames)
    u = roundoff(like.dtype, like.device.type)
    gamma = LAMBDA * math.sqrt(roundings(model, frames)) * u
    own_mask = None if mask is None else mask.to(like.device)
    own_context = None if context is None else context.to(like)
    found = _numbers(model, frames.to(like), own_mask, own_context)
    exact_numbers = _numbers(exact, frames, mask, context)
    expected = {**yardstick, LOG_P: exact_numbers[LOG_P]}
    sums = _sums_over_frames(exact, frames, mask, context)
    moved = dict.fromkeys(expected, 0.0)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(N_DRAWS):
        other = copy.deepcopy(exact)
        with torch.no_grad():
            for p in other.parameters():
                p.mul_(1 + gamma * _signs(p, generator))
        at = frames * (1 + gamma * _signs(frames, generator))
        given = None if context is None else context * (1 + gamma * _signs(context, generator))
        for name, number in _numbers(other, at, mask, given).items():
            moved[name] = max(moved[name], _norm(number - exact_numbers[name]))
    return {
        name: Measured(
            _norm(found[name].double().cpu() - number), 2 * moved[name] + gamma * sums[name]
        )
        for name, number in expected.items()
    }


def gradients(model: nn.Module, log_p: Tensor, *, retain_graph: bool = False) -> dict[str, Tensor]:
    """Return the gradient of a log density by every parameter, by autograd."""
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(
        log_p, list(parameters.values()), materialize_grads=True, retain_graph=retain_graph
    )
    return dict(zip(parameters, found, strict=True))


def _numbers(
    model: SequenceDensity, frames: Tensor, mask: Tensor | None, context: Tensor | None
) -> dict[str, Tensor]:
    log_p = model.log_prob(frames, mask, None, context)
    return {**gradients(model, log_p.sum()), LOG_P: log_p.detach()}


def _sums_over_frames(
    model: SequenceDensity, frames: Tensor, mask: Tensor | None, context: Tensor | None
) -> dict[str, float]:
    """Sums over frames of the norms of each frame's own gradient, and of its log p."""
    log_p = model.log_prob(frames, mask, None, context)
    total = {LOG_P: log_p.abs().sum().item()}
    for one in log_p.flatten():
        for name, g in gradients(model, one, retain_graph=True).items():
            total[name] = total.get(name, 0.0) + g.norm().item()
    return total


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(like.shape, generator=generator, dtype=like.dtype)
    return torch.where(uniform < 0.5, -1.0, 1.0).to(like.dtype)


def _norm(t: Tensor) -> float:
    """The norm, infinite where a number is not one."""
    norm = t.norm().item()
    return math.inf if math.isnan(norm) else norm

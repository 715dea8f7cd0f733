"""Check the gradients: algorithm, autograd and central differences against each other.

Conventions:
    Everything in float64 on a copy on the CPU. A relative error is the norm of the difference over
    the larger of the gradient's norm and 1e-8, so that a gradient that is exactly zero (b_alpha at
    K = 1) is not an error. Central differences are taken in random directions, all entries of a
    parameter moving at once by +-h and +-h/2, extrapolated to fourth order. Among several h, the
    one at which h and h/2 agree best counts: a kink of ReLU or Laplace between them makes them
    differ.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rnade_lightning.callbacks.media import log_numbers, log_table, markdown
from rnade_lightning.density import SequenceDensity
from rnade_lightning.gradients import STATES, rnade_gradients, rnn_rnade_gradients
from rnade_lightning.loaders import as_batch
from rnade_lightning.rnade import RNADE
from rnade_lightning.rnn_rnade import RNNRNADE, RecurrentModel
from rnade_lightning.run_files import going_without, write_csv, write_text

NAMES = ("alpha", "mu", "sigma")
STEPS = (1e-4, 1e-6, 1e-8)
N_DIRECTIONS = 2


class GradientError(RuntimeError):
    """A gradient is wrong or not finite; the message names its parameter."""


class GradientRow(NamedTuple):
    """The check of one parameter. Errors are relative, and NaN where a method does not apply."""

    parameter: str
    norm: float
    algorithm: float  # Algorithm 1 or 2 against autograd
    difference: float  # autograd against central differences


def gradient_table(
    model: SequenceDensity, frames: Tensor, mask: Tensor | None = None, seed: int = 0
) -> list[GradientRow]:
    """Check the gradient of every parameter of ``sum log_prob(frames)``.

    Args:
        model: any sequence model. Algorithm 2 applies to an RNN-RNADE with a plain cell; with a GRU
            or LSTM, Algorithm 1 is taken for RNADE and autograd through the cell.
        frames: ``(B, T, D)``; a few are enough.
        mask: ``(B, T)``, valid frames.
        seed: seed of the random directions.
    """
    model = copy.deepcopy(model).to("cpu", torch.float64).eval().requires_grad_(True)
    frames = frames.detach().to("cpu", torch.float64)
    mask = None if mask is None else mask.cpu()
    for part in model.modules():  # members of an ensemble too
        if isinstance(part, RecurrentModel | RNADE):
            part.backend = "torch"
        if isinstance(part, RNADE):
            part.scale_mean_gradient = False
    by_algorithm = _algorithm_gradients(model, frames, mask)
    by_autograd = _autograd_gradients(model, frames, mask)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for name, parameter in model.named_parameters():
        g = by_autograd[name]
        algorithm = _relative(by_algorithm[name] - g, g) if by_algorithm else math.nan
        difference = _against_differences(model, frames, mask, parameter, g, generator)
        rows.append(GradientRow(name, g.norm().item(), algorithm, difference))
    return rows


def format_table(rows: list[GradientRow]) -> str:
    """Return the table as text."""
    width = max(len(row.parameter) for row in rows)
    head = f"{'parameter':{width}}  {'norm':>9}  algorithm vs autograd  autograd vs difference"
    lines = [
        f"{r.parameter:{width}}  {r.norm:9.2e}  {r.algorithm:21.1e}  {r.difference:22.1e}"
        for r in rows
    ]
    return "\n".join([head, *lines])


def require_correct(
    rows: list[GradientRow], algorithm_tolerance: float = 1e-9, difference_tolerance: float = 1e-5
) -> None:
    """Raise `GradientError` with the name of the first parameter that fails."""
    for row in rows:
        if not math.isfinite(row.norm):
            raise GradientError(f"the gradient of {row.parameter} is not finite")
        if row.algorithm > algorithm_tolerance:
            raise GradientError(
                f"{row.parameter}: algorithm and autograd differ by {row.algorithm:.1e} (relative)"
            )
        if not row.difference <= difference_tolerance:
            raise GradientError(
                f"{row.parameter}: autograd and central differences differ by "
                f"{row.difference:.1e} (relative)"
            )


class GradientCheck(pl.Callback):
    """Checks the gradients on a float64 copy of the model and a few frames of the batch. If they
    disagree or one is not finite, the run stops and names the parameter. Every check is written to
    the run folder's ``gradcheck/`` (``by_step.csv`` has all of them, ``table.md`` the last) and
    logged. At the trainer's logging steps, the norm of each parameter's gradient before clipping is
    logged too (``grad_norm/<parameter>``).

    Args:
        every_n_steps: optimiser steps between two checks; the first comes before the first step.
        n_sequences: sequences of the batch to check on.
        n_frames: first frames of each.
        algorithm_tolerance: largest relative error between Algorithm and autograd.
        difference_tolerance: largest relative error between autograd and central differences.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        n_sequences: int = 2,
        n_frames: int = 4,
        algorithm_tolerance: float = 1e-9,
        difference_tolerance: float = 1e-5,
    ) -> None:
        self.every_n_steps, self.n_sequences, self.n_frames = every_n_steps, n_sequences, n_frames
        self.tolerances = (algorithm_tolerance, difference_tolerance)
        self._steps: list[tuple[Any, ...]] = []  # of every check, the step and a row

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps:
            return
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero:
            return
        batch, some = as_batch(batch), (slice(self.n_sequences), slice(self.n_frames))
        rows = gradient_table(pl_module.model, batch["frames"][some], batch["mask"][some])
        metrics = {
            "gradcheck/algorithm": max(row.algorithm for row in rows),
            "gradcheck/difference": max(row.difference for row in rows),
        }
        log_numbers(trainer, metrics)
        log_table(trainer, "gradcheck/table", GradientRow._fields, rows)
        self._steps += [(trainer.global_step, *row) for row in rows]
        if log_dir is not None:
            folder = Path(log_dir, "gradcheck")
            note = f"Step {trainer.global_step}. Relative errors; algorithm: against autograd; "
            note += "difference: autograd against central differences.\n"
            with going_without("the table of gradients"):
                write_csv(folder / "by_step.csv", [("step", *GradientRow._fields), *self._steps])
                write_text(folder / "table.md", f"{markdown(GradientRow._fields, rows)}\n\n{note}")
        require_correct(rows, *self.tolerances)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or (trainer.global_step + 1) % every:
            return
        grads = {n: p.grad for n, p in pl_module.model.named_parameters() if p.grad is not None}
        norms = torch._foreach_norm(list(grads.values()))
        pl_module.log_dict({f"grad_norm/{n}": v for n, v in zip(grads, norms, strict=True)})


def _log_prob(model: SequenceDensity, frames: Tensor, mask: Tensor | None) -> Tensor:
    return model.log_prob(frames, mask).sum()


def _autograd_gradients(
    model: SequenceDensity, frames: Tensor, mask: Tensor | None
) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        _log_prob(model, frames, mask), list(parameters.values()), materialize_grads=True
    )
    return dict(zip(parameters, gradients, strict=True))


def _algorithm_gradients(
    model: SequenceDensity, frames: Tensor, mask: Tensor | None
) -> dict[str, Tensor]:
    if not isinstance(model, RNNRNADE):
        return {}
    if model.cell in STATES and model.n_layers == 1 and model.feature_order is None:
        layer = "layers.0."
        names = [name for name, _ in model.named_parameters()]
        parameters = {n.removeprefix(layer): p.detach() for n, p in model.named_parameters()}
        options = model.rnade.gradient_options
        found = rnn_rnade_gradients(parameters, frames, mask=mask, cell=model.cell, **options)[0]
        return {name: found[name.removeprefix(layer)] for name in names}
    if mask is not None:
        frames = frames.where(mask[..., None], frames.new_zeros(()))
    history = model.states(frames)[0]
    x, N = model.unexplained(frames, history), frames.shape[0] * frames.shape[1]
    biases = [b.expand(*x.shape[:2], *b.shape[-2:]).reshape(N, *b.shape[-2:])
              for b in model.frame_params(history)]  # fmt: skip
    own = {name: p.detach() for name, p in model.rnade.named_parameters()}
    weight = torch.ones(N, dtype=x.dtype) if mask is None else mask.flatten().to(x.dtype)
    given = [t.detach() for t in (x.flatten(0, 1), *biases)]
    options = model.rnade.gradient_options
    d, d_x = rnade_gradients(own, given[0], given[1:], weight=weight, **options)
    parameters = dict(model.named_parameters())
    outputs, by_output = zip(
        *(pair for pair in (
            (x, d_x.view_as(x)), *zip(biases, (d[f"b_{n}"] for n in NAMES), strict=True)
        ) if pair[0].requires_grad), strict=True,
    )  # fmt: skip
    through_cell = torch.autograd.grad(
        outputs, list(parameters.values()), by_output, allow_unused=True, materialize_grads=True
    )
    found = dict(zip(parameters, through_cell, strict=True))
    return found | {f"rnade.{name}": t for name, t in d.items() if not name.startswith("b_")}


@torch.no_grad()
def _against_differences(
    model: SequenceDensity,
    frames: Tensor,
    mask: Tensor | None,
    parameter: nn.Parameter,
    gradient: Tensor,
    generator: torch.Generator,
) -> float:
    """Return the relative error of the gradient against central differences along random signs. A
    difference that the rounding of log p hides counts as a relative error of 1e-5."""

    def central(direction: Tensor, step: float) -> float:
        start = parameter.clone()
        parameter.copy_(start + step * direction)
        above = _log_prob(model, frames, mask).item()
        parameter.copy_(start - step * direction)
        below = _log_prob(model, frames, mask).item()
        parameter.copy_(start)
        return (above - below) / (2 * step)

    resolution = 8 * torch.finfo(gradient.dtype).eps * abs(_log_prob(model, frames, mask).item())
    rows = []  # derivative by differences, by the gradient, and the rounding of the first
    for _ in range(N_DIRECTIONS):
        sign = torch.rand(parameter.shape, generator=generator, dtype=gradient.dtype) - 0.5
        direction = torch.sign(sign)
        found = []
        for step in STEPS:
            whole, half = central(direction, step), central(direction, step / 2)
            rounding = resolution / step
            found.append((abs(whole - half) + rounding, (4 * half - whole) / 3, rounding))
        _, slope, rounding = min(found)
        rows.append((slope, (gradient * direction).sum().item(), rounding))
    slopes, along, hidden = torch.tensor(rows, dtype=gradient.dtype).T
    scale = torch.maximum(along.norm(), 1e5 * hidden.norm())
    return ((slopes - along).norm() / scale.clamp(min=1e-8)).item()


def _relative(difference: Tensor, gradient: Tensor) -> float:
    return (difference.norm() / gradient.norm().clamp(min=1e-8)).item()

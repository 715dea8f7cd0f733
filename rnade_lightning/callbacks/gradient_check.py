"""Check the gradients: the path in use, autograd, algorithms and central differences against each
other.

    in_use      the gradient of the model as it trains (its backend, dtype, device) against the
                yardstick: Algorithm 1 or 2 in float64, or, where neither applies, autograd through
                the torch path in float64
    allowed     the error of ``in_use`` that rounding explains, derived in `path_in_use`
    algorithm   Algorithm 1 or 2 against autograd through the torch path, both in float64
    difference  the gradient of the path in use, in float64, against differences of its log p

The row ``log p`` holds the log densities themselves.

Conventions:
    A relative error is the norm of the difference over the larger of the gradient's norm and 1e-8,
    so that a gradient that is exactly zero (b_alpha at K = 1) is not an error; NaN says that a
    method does not apply. All is checked without dropout and without the mean heuristic, which is
    no gradient of anything. Central differences are taken in random directions, all entries of a
    parameter moving at once by +-h and +-h/2, extrapolated to fourth order. The first h that agrees
    with the gradient to 1e-7 ends the search, since no wrong gradient does. If none does, that one
    counts whose result is surest: h and h/2 agree, and both agree with the smallest h. A kink of
    ReLU or Laplace within h makes them differ. A kink that is nearer than all of them is seen by
    the slopes on both sides, and leaves open which of them is meant.
"""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rnade_lightning.callbacks.media import log_numbers, log_table, markdown
from rnade_lightning.callbacks.path_in_use import LOG_P, measure
from rnade_lightning.callbacks.path_in_use import gradients as autograd_gradients
from rnade_lightning.gradients import (
    STATES,
    rnade_gradients,
    rnn_rnade_gradients,
    scaled_gradients,
)
from rnade_lightning.loaders import as_batch
from rnade_lightning.recurrent_model import RecurrentModel
from rnade_lightning.rnade import RNADE
from rnade_lightning.rnn_rnade import RNNRNADE
from rnade_lightning.run_files import going_without, write_csv, write_text
from rnade_lightning.sequence_density import SequenceDensity

NAMES = ("alpha", "mu", "sigma")
STEPS = (1e-4, 1e-6, 1e-8)
AGREED = 1e-7
N_DIRECTIONS = 2


class GradientError(RuntimeError):
    """A gradient is wrong or not finite; the message names its parameter."""


class GradientRow(NamedTuple):
    """The check of one parameter. Errors are relative, and NaN where a method does not apply."""

    parameter: str
    norm: float
    in_use: float  # the path in use against the yardstick
    allowed: float  # what rounding explains of that
    algorithm: float  # Algorithm 1 or 2 against autograd
    difference: float  # the path in use against central differences


def gradient_table(
    model: SequenceDensity,
    frames: Tensor,
    mask: Tensor | None = None,
    seed: int = 0,
    context: Tensor | None = None,
) -> list[GradientRow]:
    """Check ``log_prob(frames)`` and the gradient of its sum by every parameter.

    Args:
        model: any sequence model, as it is used. Algorithm 2 applies to an RNN-RNADE with a plain
            cell; with a GRU or LSTM, Algorithm 1 is taken for RNADE and autograd through the cell.
        frames: ``(B, T, D)``; a few are enough.
        mask: ``(B, T)``, valid frames.
        seed: of the random directions and draws.
        context: ``(B, T, C)``, of a model that has one.

    Returns:
        A row for `LOG_P` and one for each parameter.
    """
    in_use = _copy(model)
    exact = _copy(model).to("cpu", torch.float64)
    for part in exact.modules():  # members of an ensemble too
        if isinstance(part, RecurrentModel | RNADE):
            part.backend = "torch"
    given = frames.detach()
    frames = given.to("cpu", torch.float64)
    mask = None if mask is None else mask.cpu()
    context = None if context is None else context.detach().to("cpu", torch.float64)
    at_exact = frames, mask, None, context
    by_algorithm = _algorithm_gradients(exact, frames, mask, context)
    by_autograd = autograd_gradients(exact, exact.log_prob(*at_exact).sum())
    yardstick = by_autograd | by_algorithm
    measured = measure(in_use, exact, frames, mask, yardstick, seed, context)
    wide = _copy(in_use).to(torch.float64)
    device = next(wide.parameters()).device
    at = [None if t is None else t.to(device) for t in at_exact]
    gradients = autograd_gradients(wide, wide.log_prob(*at).sum())  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    log_p = exact.log_prob(*at_exact).norm().item()
    error, allowed = (value / max(log_p, 1e-8) for value in measured[LOG_P])
    rows = [GradientRow(LOG_P, log_p, error, allowed, math.nan, math.nan)]
    for name, parameter in wide.named_parameters():
        norm = by_autograd[name].norm().item()
        error, allowed = (value / max(norm, 1e-8) for value in measured[name])
        algorithm = math.nan
        if by_algorithm:
            algorithm = _relative(by_algorithm[name] - by_autograd[name], by_autograd[name])
        difference = _against_differences(wide, at, parameter, gradients[name], generator)
        rows.append(GradientRow(name, norm, error, allowed, algorithm, difference))
    return rows


def _copy(model: SequenceDensity) -> SequenceDensity:
    """The model as its gradients are checked: without dropout, noise and the mean heuristic."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    for part in model.modules():
        if isinstance(part, RNADE):
            part.scale_mean_gradient = False
    return model


def format_table(rows: list[GradientRow]) -> str:
    """Return the table as text."""
    width = max(len(row.parameter) for row in rows)
    head = f"{'parameter':{width}}  {'norm':>9}  {'in use':>8}  {'allowed':>8}  {'algorithm':>9}"
    lines = [
        f"{r.parameter:{width}}  {r.norm:9.2e}  {r.in_use:8.1e}  {r.allowed:8.1e}  "
        f"{r.algorithm:9.1e}  {r.difference:10.1e}"
        for r in rows
    ]
    return "\n".join([f"{head}  difference", *lines])


def require_correct(
    rows: list[GradientRow], algorithm_tolerance: float = 1e-9, difference_tolerance: float = 1e-5
) -> None:
    """Require that all checks of a table hold.

    Raises:
        GradientError: one does not; the message names the first parameter that fails.
    """
    for row in rows:
        what = row.parameter if row.parameter == LOG_P else f"the gradient of {row.parameter}"
        if not math.isfinite(row.norm):
            raise GradientError(f"{what} is not finite")
        for one, other, error, tolerance in (
            ("algorithm", "autograd", row.algorithm, algorithm_tolerance),
            ("the path in use", "central differences", row.difference, difference_tolerance),
            ("the path in use", "its float64 yardstick", row.in_use, row.allowed),
        ):
            if error > tolerance:
                raise GradientError(
                    f"{row.parameter}: {one} and {other} differ by {error:.1e}, relative; "
                    f"at most {tolerance:.1e} is rounding"
                )


class GradientCheck(pl.Callback):
    """Checks the gradients of the path that trains, on a copy of the model and a few frames of the
    batch; stops the run, with the parameter's name, when two methods disagree or a gradient is not
    finite. Every check is written to the run folder's ``gradcheck/`` (``by_step.csv`` all of them,
    ``table.md`` the last) and logged; at the trainer's logging steps, so are the norms of the
    gradients, by parameter, before clipping (``grad_norm/<parameter>``).

    Args:
        every_n_steps: optimiser steps between two checks; the first comes before the first step.
        n_sequences: sequences of the batch to check on.
        n_frames: first frames of each.
        algorithm_tolerance: largest relative error between Algorithm and autograd.
        difference_tolerance: largest relative error between the path in use, in float64, and
            central differences.
    """

    def __init__(
        self,
        every_n_steps: int = 1000,
        n_sequences: int = 2,
        n_frames: int = 4,
        algorithm_tolerance: float = 1e-9,
        difference_tolerance: float = 1e-5,
    ) -> None:
        self.every_n_steps, self.n_sequences, self.n_frames = every_n_steps, n_sequences, n_frames
        self.tolerances = (algorithm_tolerance, difference_tolerance)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps:
            return
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero:
            return
        batch, some = as_batch(batch), (slice(self.n_sequences), slice(self.n_frames))
        context = batch["context"][some] if "context" in batch else None
        given = batch["frames"][some], batch["mask"][some]
        rows = gradient_table(pl_module.model, *given, context=context)
        metrics = {
            f"gradcheck/{name}": max(getattr(row, name) for row in rows[1:])
            for name in ("in_use", "algorithm", "difference")
        }
        log_numbers(trainer, metrics)
        log_table(trainer, "gradcheck/table", GradientRow._fields, rows)
        if log_dir is not None:
            folder = Path(log_dir, "gradcheck")
            note = (
                f"Step {trainer.global_step}. Relative errors; in_use: the path in use against "
                "float64, of which rounding explains what is allowed; algorithm: against autograd; "
                "difference: the path in use, in float64, against central differences.\n"
            )
            with going_without("the table of gradients"):
                found = [(trainer.global_step, *row) for row in rows]
                write_csv(
                    folder / "by_step.csv",
                    [("step", *GradientRow._fields), *_checked_before(folder, trainer), *found],
                )
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


def _checked_before(folder: Path, trainer: pl.Trainer) -> list[list[str]]:
    """Return the rows of the steps before this one: a run that was resumed has some."""
    path = folder / "by_step.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    return [row for row in rows if int(row[0]) < trainer.global_step]


def _algorithm_gradients(
    model: SequenceDensity, frames: Tensor, mask: Tensor | None, context: Tensor | None = None
) -> dict[str, Tensor]:
    if not isinstance(model, RNNRNADE):
        return {}
    if model.cell in STATES and model.n_layers == 1 and model.feature_order is None:
        layer = "layers.0."
        names = [name for name, _ in model.named_parameters()]
        parameters = {n.removeprefix(layer): p.detach() for n, p in model.named_parameters()}
        options = model.rnade.gradient_options
        found = rnn_rnade_gradients(
            parameters, frames, mask=mask, cell=model.cell, kappa=model.kappa, **options,
            context=None if context is None else context.flatten(2), root=model.root,
        )[0]  # fmt: skip
        return {name: found[name.removeprefix(layer)] for name in names}
    if mask is not None:
        frames = frames.where(mask[..., None], frames.new_zeros(()))
    history = model.states(frames, None, None, context)[0]
    x, N = model.unexplained(frames, history), frames.shape[0] * frames.shape[1]
    biases = [b.expand(*x.shape[:2], *b.shape[-2:]).reshape(N, *b.shape[-2:])
              for b in model.frame_params(history)]  # fmt: skip
    own = {name: p.detach() for name, p in model.rnade.named_parameters()}
    weight = torch.ones(N, dtype=x.dtype) if mask is None else mask.flatten().to(x.dtype)
    given = [t.detach() for t in (x.flatten(0, 1), *biases)]
    options = model.rnade.gradient_options
    pairs: list[tuple[Tensor, Tensor]] = []
    if model.scales is None:
        d, d_x = rnade_gradients(own, given[0], given[1:], weight=weight, **options)
    else:
        log_scales = model.scales.log_scales
        log_w = model.scales.log_weights(model.frame_params(history).state).flatten(0, 1)
        d, d_x, *d_scales = scaled_gradients(
            own, given[0], given[1:], log_scales.detach(), log_w.detach(), weight=weight, **options
        )
        pairs = [(log_scales, d_scales[0]), (log_w, d_scales[1])]
    pairs += [(x, d_x.view_as(x)), *zip(biases, (d[f"b_{n}"] for n in NAMES), strict=True)]
    parameters = dict(model.named_parameters())
    outputs, by_output = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
    through_cell = torch.autograd.grad(
        outputs, list(parameters.values()), by_output, allow_unused=True, materialize_grads=True
    )
    found = dict(zip(parameters, through_cell, strict=True))
    return found | {f"rnade.{name}": t for name, t in d.items() if not name.startswith("b_")}


@torch.no_grad()
def _against_differences(
    model: SequenceDensity,
    at: Sequence[Tensor | None],
    parameter: nn.Parameter,
    gradient: Tensor,
    generator: torch.Generator,
) -> float:
    """Return the relative error of the gradient against central differences along random signs.
    What the rounding of log p and kinks hide counts as a relative error of 1e-6: it is estimated,
    partly by the second difference of the smallest step, and may be several times as much."""

    def terms() -> Tensor:
        return model.log_prob(*at)  # type: ignore[arg-type]

    def log_p() -> float:
        return terms().sum().item()

    def central(direction: Tensor, step: float) -> tuple[float, float]:
        """Return the slope, and the difference of the slopes on both sides."""
        start = parameter.clone()
        parameter.copy_(start + step * direction)
        above = log_p()
        parameter.copy_(start - step * direction)
        below = log_p()
        parameter.copy_(start)
        return (above - below) / (2 * step), abs(above + below - 2 * middle) / step

    middle = log_p()
    size = terms().abs().sum().item()  # they may cancel
    resolution = 8 * torch.finfo(gradient.dtype).eps * size
    rows = []  # derivative by differences, by the gradient, and what the first does not know
    for _ in range(N_DIRECTIONS):
        sign = torch.rand(parameter.shape, generator=generator, dtype=gradient.dtype) - 0.5
        direction = torch.sign(sign).to(gradient.device)
        by_gradient = (gradient * direction).sum().item()
        found = []  # by step, the smallest last
        for step in STEPS:
            (whole, bent), (half, kink) = central(direction, step), central(direction, step / 2)
            slope, hidden = (4 * half - whole) / 3, 0.0
            if abs(slope - by_gradient) <= AGREED * abs(by_gradient):
                break
            found.append((step, abs(whole - half), slope))
        else:
            unknown = max(resolution, bent * STEPS[-1], kink * STEPS[-1] / 2)  # of log p
            *_, last = found[-1]  # and `kink` is of the smallest step, too
            hidden, slope = min(
                (max(own + unknown / step, abs(slope - last)), slope) for step, own, slope in found
            )
            hidden = max(hidden, kink)
        rows.append((slope, by_gradient, hidden))
    slopes, along, hidden_ = torch.tensor(rows, dtype=gradient.dtype).T
    scale = torch.maximum(along.norm(), 1e6 * hidden_.norm())
    return _finite((slopes - along).norm() / scale.clamp(min=1e-8))


def _relative(difference: Tensor, gradient: Tensor) -> float:
    return _finite(difference.norm() / gradient.norm().clamp(min=1e-8))


def _finite(error: Tensor) -> float:
    return math.inf if error.isnan() else error.item()

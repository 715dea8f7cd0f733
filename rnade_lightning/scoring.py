r"""Tell how sure a mean over test frames is, and give draws a proper score.

**Errors.** Neighbouring frames are alike, so the deviation of single frames says too little of the
error of their mean. A block bootstrap (Kuensch 1989) draws blocks of frames, not frames, with
replacement: the mean of a draw is the sum over its blocks over the number of their frames, and the
standard error is the deviation over draws. Blocks have to be longer than the memory of the data.

**Energy score** (Gneiting and Raftery 2007), of draws y_i of a frame x, lower is better:

$$\frac1m \sum_i |y_i - x| - \frac1{2 m (m - 1)} \sum_{i, j} |y_i - y_j|$$

Its expectation is smallest for draws from the density that x comes from. The squared error of draws
is not proper: it rewards narrow ones.

Conventions:
    Blocks of sums ``(M,)`` with their numbers of frames ``(M,)``; frames ``(..., D)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

LEAST_BLOCKS = 10
"""Blocks that an error needs: with fewer, it is itself wrong by a quarter or more."""
N_DRAWS = 2000
_SEED = 0


def block_sums(values: Sequence[Tensor], n_frames: int | None) -> tuple[Tensor, Tensor]:
    """Return the sums over blocks of frames, and the number of frames of each, ``(M,)``, float64.

    Args:
        values: of the frames of each sequence, ``(T,)``. A block lies in one sequence.
        n_frames: frames of a block; the rest of a sequence is a shorter one. None for a block of
            each whole sequence.
    """
    parts = [
        part
        for sequence in values
        if len(sequence)
        for part in sequence.double().cpu().split(n_frames or len(sequence))
    ]
    sums = torch.tensor([part.sum().item() for part in parts], dtype=torch.float64)
    return sums, torch.tensor([float(len(part)) for part in parts], dtype=torch.float64)


def standard_error(values: Sequence[Tensor], n_frames: int | None) -> float:
    """Return the standard error of the mean over all frames; see `block_sums` and
    `error_of_blocks`."""
    return error_of_blocks(*block_sums(values, n_frames))


def error_of_blocks(sums: Tensor, counts: Tensor) -> float:
    """Return the standard error of the mean over all frames by a block bootstrap, from a fixed
    seed, so that errors of the same blocks are of the same draws.

    Args:
        sums: over the frames of each block, ``(M,)``.
        counts: number of these frames, ``(M,)``.

    Returns:
        NaN for fewer than `LEAST_BLOCKS` blocks, and where a value is not finite.
    """
    M = len(sums)
    if M < LEAST_BLOCKS or not bool(sums.isfinite().all()):
        return math.nan
    generator = torch.Generator().manual_seed(_SEED)
    means = []
    for n in torch.full((N_DRAWS,), M).split(max(2**22 // M, 1)):
        drawn = torch.randint(M, (len(n), M), generator=generator)
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return torch.cat(means).std().item()


def ahead(pairs: Iterable[tuple[float, float]]) -> bool:
    """Return whether all differences, each with its standard error, are above two errors; False for
    none, and where an error is nan."""
    found = list(pairs)
    return bool(found) and all(above > 2 * error for above, error in found)


def energy_score(draws: Tensor, x: Tensor) -> Tensor:
    """Return the energy score ``(...)`` of draws ``(m, ..., D)`` of frames ``x (..., D)``; NaN for
    one draw, of which there is none.

    It is the mean of |a| less half the mean of |a - b| over pairs of draws, a and b less the frame.
    Pairs give |a| + |b| - |a - b| each, here as 2 (|a| |b| + a.b) / (|a| + |b| + |a - b|): in the
    difference, a draw that is far away would cancel all digits.
    """
    m = len(draws)
    if m < 2:
        return x.new_full(x.shape[:-1], math.nan)
    seen = draws - x
    length, total = seen.norm(dim=-1), torch.zeros_like(seen[0, ..., 0])
    for i in range(m - 1):
        a, b = seen[i], seen[i + 1 :]
        around = length[i] + length[i + 1 :] + (a - b).norm(dim=-1)
        excess = 2 * (length[i] * length[i + 1 :] + (a * b).sum(-1))
        total = total + (excess / around.clamp(min=torch.finfo(x.dtype).tiny)).sum(0)
    return total / (m * (m - 1))

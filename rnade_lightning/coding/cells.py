"""Tell in which cells samples are coded, and how likely each is, in compiled code.

A cell is one integer where the scale is of the order of a step. Where it is far above, as in sound
of 24 bits, a cell is some integers in a row, of equal chance as far as anyone can tell, and the
place in it is written in plain bits.

Conventions:
    As in `kernels.experts`.
"""

import numpy as np

from rnade_lightning.datamodules.sound import exact, front_end
from rnade_lightning.datamodules.sound.exact import compiler
from rnade_lightning.datamodules.sound.front_end import State
from rnade_lightning.kernels import experts
from rnade_lightning.kernels.experts import Net, Weights, cdf, learn, mixture, predict

compiled = compiler(exact.__file__, front_end.__file__, experts.__file__, __file__)

CELLS = 4096
"""Cells on each side of the prediction; what lies beyond is coded in plain bits."""
PLAIN = 40
"""Bits of a number that is."""
_FINE = 128.0  # cells of a scale, at least half as many, where steps are finer


@compiled
def place(S: State, N: Net) -> None:
    """Choose the cells in which the next sample is coded, for `Net.cells`: their first edge, and
    how many steps one is wide, a power of 2 far below the scale."""
    width, s = 1.0, S.m[1]
    while width * _FINE < s:
        width *= 2.0
    N.cells[0], N.cells[1] = np.floor(S.m[0] + 0.5) - 0.5, width
    N.cells[2] = N.evidence[1]


@compiled
def ends(
    S: State, N: Net, W: Weights, samples: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return how each of the next samples ``(N,)`` is coded.

    Returns:
        Its cell from -CELLS on and before CELLS, F at both ends of the cell, and what follows in
        plain bits: a number and how many bits it takes.
    """
    n, K = len(samples), W.sizes[3]
    cell, low, high = np.empty(n), np.empty(n), np.empty(n)
    plain, n_plain = np.zeros(n), np.zeros(n)
    for t in range(n):
        x = samples[t]
        predict(S, N, W, other[t] if len(other) else 0.0)
        place(S, N)
        first, width = N.cells[0], N.cells[1]
        cell[t] = min(max(np.floor((x - first) / width), -float(CELLS)), CELLS - 1.0)
        low[t] = cdf(N, first + cell[t] * width, K)
        high[t] = cdf(N, first + (cell[t] + 1.0) * width, K)
        if -CELLS < cell[t] < CELLS - 1:
            plain[t] = x - (first + cell[t] * width + 0.5)
            while width > 1.0:
                width *= 0.5
                n_plain[t] += 1.0
        else:
            plain[t], n_plain[t] = x + 2.0 ** (PLAIN - 1), PLAIN
        learn(S, N, W, x)
    return cell, low, high, plain, n_plain


@compiled
def next_cells(S: State, N: Net, W: Weights, x: float, other: float, begun: bool) -> None:
    """Take in a sample, if there was one, and fill in the mixture and the cells of the next."""
    if begun:
        learn(S, N, W, x)
    predict(S, N, W, other)
    place(S, N)


@compiled
def guess(
    q: float, cells: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse: np.ndarray,
    table: np.ndarray, K: int,
) -> float:  # fmt: skip
    """Return the cell in which F passes q."""
    low, high = -CELLS, CELLS - 1
    while low < high:
        middle = (low + high) // 2
        if at_edge(middle + 1.0, cells, weight, mean, inverse, table, K) > q:
            high = middle
        else:
            low = middle + 1
    return float(low)


@compiled
def at_edge(
    edge: float, cells: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse: np.ndarray,
    table: np.ndarray, K: int,
) -> float:  # fmt: skip
    """Return F at an edge by its number, of what `predict` and `place` filled in."""
    x = cells[0] + edge * cells[1]
    return mixture(x, cells[2], weight, mean, inverse, table, K)

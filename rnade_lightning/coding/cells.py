"""Tell in which cells samples are coded, and how likely each is, in compiled code.

A cell is one integer where the scale is of the order of a step. Where it is far above, as in sound
of 24 bits, a sample is told in two symbols: a cell of some integers in a row, and the place in it.
What is still finer, or beyond all cells, is written in plain bits. Where samples are multiples of a
power of 2, a cell holds one of these at least.

Conventions:
    As in `kernels.experts`. ``Net.cells`` holds the cells of the next symbol: the first edge, the
    width of one, the net's share of F, F at the beginning of them all, one over what F rises there,
    and the power of 2 of which samples are multiples, ``Bank.step``.
"""

from collections.abc import Iterator

import numpy as np

from rnade_lightning.datamodules.sound import exact, front_end, panel
from rnade_lightning.datamodules.sound.exact import compiler
from rnade_lightning.datamodules.sound.front_end import State
from rnade_lightning.kernels import bank, experts, logistic
from rnade_lightning.kernels.experts import Net, Weights, learn, mixture, predict

compiled = compiler(
    exact.__file__, panel.__file__, front_end.__file__, logistic.__file__, bank.__file__,
    experts.__file__, __file__,
)  # fmt: skip

CELLS = 4096
"""Cells on each side of the prediction, and most places in a cell."""
PLAIN = 40
"""Bits of a number that lies beyond."""
_FINE = 128.0  # cells of a scale, at least half as many, where steps are finer


@compiled
def place(S: State, N: Net) -> None:
    """Choose the cells of the next sample, whose width is a power of 2 far below the scale."""
    s, step = S.m[1], N.bank.step[0]
    width = step
    while width * _FINE < s:
        width *= 2.0
    N.cells[0] = (np.floor(S.m[0] / step + 0.5) - 0.5) * step
    N.cells[1], N.cells[2], N.cells[5] = width, N.evidence[1], step
    N.cells[3], N.cells[4] = 0.0, 1.0


@compiled
def enter(
    cell: float, cells: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse: np.ndarray,
    table: np.ndarray, K: int,
) -> None:  # fmt: skip
    """Go from cells to the places in one of them."""
    first, width = cells[0] + cell * cells[1], cells[1]
    low = mixture(first, cells[2], weight, mean, inverse, table, K)
    high = mixture(first + width, cells[2], weight, mean, inverse, table, K)
    cells[0], cells[1] = first, max(width / CELLS, cells[5])
    cells[3], cells[4] = low, 1.0 / (high - low) if high > low else 0.0


@compiled
def at_edge(
    edge: float, cells: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse: np.ndarray,
    table: np.ndarray, K: int,
) -> float:  # fmt: skip
    """Return the share of F below an edge, by its number; even where F is flat."""
    if cells[4] == 0.0:
        return min(max((edge + CELLS) / (2.0 * CELLS), 0.0), 1.0)
    F = mixture(cells[0] + edge * cells[1], cells[2], weight, mean, inverse, table, K)
    return min(max((F - cells[3]) * cells[4], 0.0), 1.0)


@compiled
def ends(
    S: State, N: Net, W: Weights, samples: np.ndarray, other: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return how each of the next samples ``(N,)`` is coded.

    Args:
        S: state of the front end.
        N: of the net and the bank.
        W: weights.
        samples: ``(N,)``.
        other: of the other channel; none if there is none.
        steps: powers of 2 of which they are multiples, ``(N,)``; none for 1.

    Returns:
        Its symbols ``(N, 2)``, each from -CELLS on and before CELLS, the second nan where there is
        none; the share of F below each, and up to its end, ``(N, 2)``; and what follows in plain
        bits, ``(N,)``: a number and how many bits it takes.
    """
    n, K = len(samples), W.sizes[3]
    symbol = np.full((n, 2), np.nan)
    low, high = np.zeros((n, 2)), np.ones((n, 2))
    plain, n_plain = np.zeros(n), np.zeros(n)
    for t in range(n):
        x = samples[t]
        N.bank.step[0] = steps[t] if len(steps) else 1.0
        predict(S, N, W, other[t] if len(other) else 0.0)
        place(S, N)
        for level in range(2):
            cells = N.cells
            at = min(max(np.floor((x - cells[0]) / cells[1]), -float(CELLS)), CELLS - 1.0)
            symbol[t, level] = at
            low[t, level] = at_edge(at, cells, N.weight, N.mean, N.inverse, N.table, K)
            high[t, level] = at_edge(at + 1.0, cells, N.weight, N.mean, N.inverse, N.table, K)
            if level == 0 and not -CELLS < at < CELLS - 1:
                plain[t], n_plain[t] = x + 2.0 ** (PLAIN - 1), PLAIN
                break
            if cells[1] == cells[5]:
                break
            if level == 0:
                enter(at, cells, N.weight, N.mean, N.inverse, N.table, K)
            else:
                plain[t] = (x - (cells[0] + at * cells[1])) / cells[5] - 0.5
                width = cells[1]
                while width > cells[5]:
                    width *= 0.5
                    n_plain[t] += 1.0
        learn(S, N, W, x)
    return symbol, low, high, plain, n_plain


@compiled
def each(
    S: State, N: Net, W: Weights, taken: np.ndarray, other: np.ndarray, steps: np.ndarray
) -> Iterator[int]:  # a generator is handed its arrays once, not at every sample
    """Yield the number of each sample of another channel's piece ``(N,)`` or of zeros, when mixture
    and cells of the sample are filled in. The sample itself is taken in from ``taken (1,)``."""
    for t in range(len(other)):
        N.bank.step[0] = steps[t]
        predict(S, N, W, other[t])
        place(S, N)
        yield t
        learn(S, N, W, taken[0])


@compiled
def guess(
    q: float, cells: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse: np.ndarray,
    table: np.ndarray, K: int,
) -> float:  # fmt: skip
    """Return the cell in which the share of F passes q."""
    low, high, reach = -CELLS, CELLS - 1, 16
    while reach < CELLS:  # most lie near the prediction
        if at_edge(float(reach), cells, weight, mean, inverse, table, K) <= q:
            low = reach
        elif at_edge(float(-reach), cells, weight, mean, inverse, table, K) > q:
            high = -reach - 1
        else:
            low, high = max(low, -reach), min(high, reach - 1)
            break
        reach *= 8
    while low < high:
        middle = (low + high) // 2
        if at_edge(middle + 1.0, cells, weight, mean, inverse, table, K) > q:
            high = middle
        else:
            low = middle + 1
    return float(low)

"""The logistic distribution function as a table, alike on every machine, in compiled code.

Between values, which are multiples of 2^-40, lie straight lines, so that the function never falls
where its argument rises, whatever is rounded.
"""

import numpy as np

from rnade_lightning.datamodules.sound import exact
from rnade_lightning.datamodules.sound.exact import compiler, exp

compiled = compiler(exact.__file__, __file__)

_REACH, _PER_UNIT = 24, 256


@compiled
def table() -> np.ndarray:
    """Return 1 / (1 + e^-r) at r = -24, .., 24, rounded to multiples of 2^-40."""
    n = 2 * _REACH * _PER_UNIT
    found = np.empty(n + 1)
    for i in range(n + 1):
        p = 1.0 / (1.0 + exp(-(i / _PER_UNIT - _REACH)))
        found[i] = np.floor(p * 1099511627776.0 + 0.5) / 1099511627776.0
    found[0], found[n] = 0.0, 1.0
    return found


@compiled
def below(r: float, table: np.ndarray) -> float:
    """Return 1 / (1 + e^-r), from the table."""
    at = (r + _REACH) * _PER_UNIT
    if not at > 0.0:
        return 0.0
    if at >= len(table) - 1:
        return 1.0
    i = int(at)
    return table[i] + (at - i) * (table[i + 1] - table[i])


@compiled
def between(low: float, high: float, table: np.ndarray) -> float:
    """Return the mass between two numbers."""
    return below(high, table) - below(low, table)

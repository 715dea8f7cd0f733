"""Compile functions whose numbers must be the same on every machine, and their mathematics.

No operation is reordered, none is fused with another, and Python's own checks of division are left
out: code as it is written, by IEEE 754.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from rnade_lightning.datamodules.core.compiling import kept


def compiler(*sources: str) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles functions, and keeps them on disk where possible.

    Args:
        *sources: files whose code the functions run, their own and those they call into.
    """
    return kept(sources, error_model="numpy", nogil=True)


compiled = compiler(__file__)


@compiled
def log(x: float) -> float:
    """Return the natural logarithm of a number, which is bounded to 1e-300 to 1e300, alike on every
    machine."""
    e = 0
    x = min(max(x, 1e-300), 1e300)
    while x >= 1.4142135623730951:
        if x >= 4294967296.0:
            x *= 2.3283064365386963e-10
            e += 32
        else:
            x *= 0.5
            e += 1
    while x < 0.7071067811865476:
        if x < 2.3283064365386963e-10:
            x *= 4294967296.0
            e -= 32
        else:
            x *= 2.0
            e -= 1
    r = (x - 1.0) / (x + 1.0)
    q = r * r
    p = 1.0 / 19.0
    for k in range(17, 0, -2):
        p = p * q + 1.0 / k
    return 2.0 * r * p + e * 0.6931471805599453


@compiled
def exp(x: float) -> float:
    """Return the exponential of a number, 0 below -700, alike on every machine."""
    if not x >= -700.0:
        return 0.0
    x = min(x, 700.0)
    n = np.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10
    p = 1.0
    for k in range(13, 0, -1):
        p = 1.0 + r * p / k
    m, two = int(abs(n)), 2.0 if n > 0 else 0.5
    while m:
        if m & 1:
            p *= two
        two *= two
        m >>= 1
    return p


@compiled
def dot(a: np.ndarray, b: np.ndarray, n: int) -> float:
    """Return the product of two vectors: eight sums side by side, which processors like."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = n // 8 * 8
    for i in range(0, whole, 8):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    for i in range(whole, n):
        s0 += a[i] * b[i]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))

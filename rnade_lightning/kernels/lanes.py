r"""Compile exponentials and small products over lanes of frames, for all compiled paths.

Conventions:
    A block of frames lies in lanes: ``(rows, n)``, a row a unit or a feature, frames side by side
    in memory, so that every inner loop runs over frames and becomes vector instructions. ``P (C,
    M)`` holds the weights of C outputs of M inputs; M is a multiple of 4 and C of 3 (padded with
    zeros), the tile of weights that stays in registers while the frames pass by. Both dtypes are
    compiled on first use and kept on disk for the next process.

exp is 2^n times a polynomial in what is left (Cody and Waite 1980); log is the series of artanh.
Relative errors are below 2e-7 in float32 and 3e-16 in float64. NaN stays NaN. The limits of exp are
those of 2^n: 0 below -87.7 and infinity above 88.4 in float32, -708.8 and 709.5 in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from rnade_lightning.datamodules.core.compiling import kept

_ORDER_MATTERS = {"contract", "nsz", "arcp"}  # no reassociation where rounding is the method
_FAST: Any = {
    "nogil": True,
    "fastmath": _ORDER_MATTERS | {"reassoc"},
    "error_model": "numpy",
}


def subroutine(function: Callable[..., Any]) -> Any:
    """Compile a function with its callers: only compiled code calls it, Python cannot."""
    only_inside: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(**only_inside, **_FAST)(function)


compiled = kept(sorted(Path(__file__).parent.glob("*.py")), **_FAST)
"""Compile a function that releases the interpreter's lock; keep it on disk where possible."""

f32, f64, i32, i64 = np.float32, np.float64, np.int32, np.int64
_LOG2E, _LN2_HIGH, _LN2_LOW = f32(1.44269504), f32(0.693359375), f32(-2.12194440e-4)
_LN2_HIGH64, _LN2_LOW64 = 6.93145751953125e-1, 1.42860682030941723212e-6


def exp(x: Any) -> Any:
    """Return e^x of a scalar; compiled code only."""
    raise NotImplementedError


def log(x: Any) -> Any:
    """Return natural logarithm of a positive, normal scalar; compiled code only."""
    raise NotImplementedError


def _exp32(x):  # type: ignore[no-untyped-def]
    y = f32(88.8) if x > f32(88.8) else x
    y = f32(-88.0) if y < f32(-88.0) else y
    n = np.floor(y * _LOG2E + f32(0.5))
    r = y - n * _LN2_HIGH - n * _LN2_LOW
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    p = p * (r * r) + r + f32(1.0)
    return p * i32((i32(n) + i32(127)) * i32(1 << 23)).view(f32)


def _exp64(x):  # type: ignore[no-untyped-def]
    y = 710.0 if x > 710.0 else x
    y = -709.0 if y < -709.0 else y
    n = np.floor(y * 1.4426950408889634 + 0.5)
    r = y - n * _LN2_HIGH64 - n * _LN2_LOW64
    p = 1.0 / 6227020800
    p = p * r + 1.0 / 479001600
    p = p * r + 1.0 / 39916800
    p = p * r + 1.0 / 3628800
    p = p * r + 1.0 / 362880
    p = p * r + 1.0 / 40320
    p = p * r + 1.0 / 5040
    p = p * r + 1.0 / 720
    p = p * r + 1.0 / 120
    p = p * r + 1.0 / 24
    p = p * r + 1.0 / 6
    p = p * r + 0.5
    p = p * (r * r) + r + 1.0
    return p * i64((i64(n) + i64(1023)) * i64(1 << 52)).view(f64)


def _log32(x):  # type: ignore[no-untyped-def]
    bits = f32(x).view(i32) - i32(
        0x3F3504F3
    )  # of sqrt(1/2): the fraction is then within sqrt(2) of 1
    n = bits >> i32(23)
    m = i32((bits & i32(0x7FFFFF)) + i32(0x3F3504F3)).view(f32)
    s = (m - f32(1.0)) / (m + f32(1.0))
    t = s * s
    p = t * f32(1.0 / 11) + f32(1.0 / 9)
    p = p * t + f32(1.0 / 7)
    p = p * t + f32(1.0 / 5)
    p = p * t + f32(1.0 / 3)
    out = f32(n) * _LN2_LOW + f32(2.0) * s * t * p + f32(2.0) * s + f32(n) * _LN2_HIGH
    return out if x == x else x


def _log64(x):  # type: ignore[no-untyped-def]
    bits = f64(x).view(i64) - i64(0x3FE6A09E667F3BCD)
    n = bits >> i64(52)
    m = i64((bits & i64(0xFFFFFFFFFFFFF)) + i64(0x3FE6A09E667F3BCD)).view(f64)
    s = (m - 1.0) / (m + 1.0)
    t = s * s
    p = t * (1.0 / 25) + 1.0 / 23
    p = p * t + 1.0 / 21
    p = p * t + 1.0 / 19
    p = p * t + 1.0 / 17
    p = p * t + 1.0 / 15
    p = p * t + 1.0 / 13
    p = p * t + 1.0 / 11
    p = p * t + 1.0 / 9
    p = p * t + 1.0 / 7
    p = p * t + 1.0 / 5
    p = p * t + 1.0 / 3
    out = f64(n) * _LN2_LOW64 + 2.0 * s * t * p + 2.0 * s + f64(n) * _LN2_HIGH64
    return out if x == x else x


_options: Any = {"fastmath": _ORDER_MATTERS, "error_model": "numpy"}


@overload(exp, jit_options=_options)
def _exp(x):  # type: ignore[no-untyped-def]
    return _exp32 if x == types.float32 else _exp64


@overload(log, jit_options=_options)
def _log(x):  # type: ignore[no-untyped-def]
    return _log32 if x == types.float32 else _log64


@subroutine
def add_product(out, P, s):  # type: ignore[no-untyped-def]
    """Add a product: out (C, n) += P (C, M) s (M, n)."""
    for k in range(0, P.shape[0], 3):
        for m in range(0, P.shape[1], 4):
            a0, a1, a2, a3 = P[k, m], P[k, m + 1], P[k, m + 2], P[k, m + 3]
            b0, b1, b2, b3 = P[k + 1, m], P[k + 1, m + 1], P[k + 1, m + 2], P[k + 1, m + 3]
            c0, c1, c2, c3 = P[k + 2, m], P[k + 2, m + 1], P[k + 2, m + 2], P[k + 2, m + 3]
            for n in range(out.shape[1]):
                s0, s1, s2, s3 = s[m, n], s[m + 1, n], s[m + 2, n], s[m + 3, n]
                out[k, n] += a0 * s0 + a1 * s1 + a2 * s2 + a3 * s3
                out[k + 1, n] += b0 * s0 + b1 * s1 + b2 * s2 + b3 * s3
                out[k + 2, n] += c0 * s0 + c1 * s1 + c2 * s2 + c3 * s3


@subroutine
def add_transposed_product(out, P, z):  # type: ignore[no-untyped-def]
    """Add a transposed product: out (M, n) += P' (M, C) z (C, n)."""
    for m in range(0, P.shape[1], 4):
        for k in range(0, P.shape[0], 3):
            a0, a1, a2, a3 = P[k, m], P[k, m + 1], P[k, m + 2], P[k, m + 3]
            b0, b1, b2, b3 = P[k + 1, m], P[k + 1, m + 1], P[k + 1, m + 2], P[k + 1, m + 3]
            c0, c1, c2, c3 = P[k + 2, m], P[k + 2, m + 1], P[k + 2, m + 2], P[k + 2, m + 3]
            for n in range(out.shape[1]):
                z0, z1, z2 = z[k, n], z[k + 1, n], z[k + 2, n]
                out[m, n] += a0 * z0 + b0 * z1 + c0 * z2
                out[m + 1, n] += a1 * z0 + b1 * z1 + c1 * z2
                out[m + 2, n] += a2 * z0 + b2 * z1 + c2 * z2
                out[m + 3, n] += a3 * z0 + b3 * z1 + c3 * z2


@subroutine
def add_outer(P, z, s):  # type: ignore[no-untyped-def]
    """Add the gradient of the weights: P (C, M) += z (C, n) s' (n, M)."""
    zero = P.dtype.type(0)
    for m in range(0, P.shape[1], 4):
        for k in range(0, P.shape[0], 3):
            a0, a1, a2, a3 = zero, zero, zero, zero
            b0, b1, b2, b3 = zero, zero, zero, zero
            c0, c1, c2, c3 = zero, zero, zero, zero
            for n in range(z.shape[1]):
                z0, z1, z2 = z[k, n], z[k + 1, n], z[k + 2, n]
                s0, s1, s2, s3 = s[m, n], s[m + 1, n], s[m + 2, n], s[m + 3, n]
                a0 += z0 * s0
                a1 += z0 * s1
                a2 += z0 * s2
                a3 += z0 * s3
                b0 += z1 * s0
                b1 += z1 * s1
                b2 += z1 * s2
                b3 += z1 * s3
                c0 += z2 * s0
                c1 += z2 * s1
                c2 += z2 * s2
                c3 += z2 * s3
            P[k, m] += a0
            P[k, m + 1] += a1
            P[k, m + 2] += a2
            P[k, m + 3] += a3
            P[k + 1, m] += b0
            P[k + 1, m + 1] += b1
            P[k + 1, m + 2] += b2
            P[k + 1, m + 3] += b3
            P[k + 2, m] += c0
            P[k + 2, m + 1] += c1
            P[k + 2, m + 2] += c2
            P[k + 2, m + 3] += c3

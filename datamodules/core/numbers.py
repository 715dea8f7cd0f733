"""Decide which words of files are numbers, and how far a number was rounded."""

import math
import re

import numpy as np
import numpy.typing as npt

from rnade_lightning.datamodules.core import Array

NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
"""A number as C and Python both write it; it can be matched in one way only, in linear time."""


def is_number(word: str) -> bool:
    """Tell whether a word is a finite number.

    >>> is_number("-1.5e3"), is_number("1_000"), is_number("nan"), is_number("1e999")
    (True, False, False, False)
    """
    return re.fullmatch(NUMBER, word) is not None and math.isfinite(float(word))


_DIGITS = 9  # more decimals than files are written with


def rounding(frames: npt.ArrayLike) -> Array:
    """Return by how much the numbers of each feature may be off, as they were rounded in a file.

    That is half the last decimal of the number that has the most of them. A number without an end
    may be off by half its last bit, in single precision where it fits in that. A feature may end
    in zeros by chance, or hold integers only, so none is taken to be rounded more than the most
    rounded one that varies, and integers are taken to be rounded as much as that.

    Args:
        frames: Numbers as they were read, ``(T, D)``, one frame at least.

    Returns:
        ``(D,)``, in the units of the features.

    >>> rounding([[0.25, 7.0, 0.5], [0.3333, 7.0, 0.5]])
    array([5.e-05, 5.e-05, 5.e-05])
    """
    values = np.asarray(frames, dtype=np.float64)
    finest = _rounding(values).min(axis=0)  # infinite where all are integers
    some = np.isfinite(finest) & (np.ptp(values, axis=0) > 0)
    most = finest[some].max() if some.any() else np.inf
    found = np.minimum(finest, most)
    return np.where(np.isfinite(found), found, 0.0)


def _rounding(values: Array) -> Array:
    """Return half the last decimal of each number; infinite for integers, which tell nothing."""
    size = np.abs(values)
    with np.errstate(over="ignore"):
        single = size == size.astype(np.float32)
    found = size * np.where(single, 2.0**-24, 2.0**-53)
    for digits in range(_DIGITS, -1, -1):
        scaled = size * 10.0**digits
        ends = np.abs(scaled - np.rint(scaled)) <= 2.0**-51 * scaled
        found[ends] = 0.5 * 10.0**-digits if digits else np.inf
    return found

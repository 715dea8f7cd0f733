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


def rounding(values: npt.ArrayLike) -> Array:
    """Return by how much each number may be off if it was rounded to the digits that it has.

    That is half its last decimal; an integer counts as exact. Of a number without an end it is half
    the last bit, in single precision where it fits in that.

    >>> rounding([7.0, 0.3333, np.float32(0.1), 1 / 3]).round(10)
    array([0.e+00, 5.e-05, 6.e-09, 0.e+00])
    """
    size = np.abs(np.asarray(values, dtype=np.float64))
    with np.errstate(over="ignore"):
        single = size == size.astype(np.float32)
    found = size * np.where(single, 2.0**-24, 2.0**-53)
    for digits in range(_DIGITS, -1, -1):
        scaled = size * 10.0**digits
        ends = np.abs(scaled - np.rint(scaled)) <= 2.0**-51 * scaled
        found[ends] = 0.5 * 10.0**-digits if digits else 0.0
    return found

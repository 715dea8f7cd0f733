"""Decide which words of a text file are numbers."""

import math
import re

NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
"""A number as C and Python both write it; it can be matched in one way only, in linear time."""


def is_number(word: str) -> bool:
    """Tell whether a word is a finite number.

    >>> is_number("-1.5e3"), is_number("1_000"), is_number("nan"), is_number("1e999")
    (True, False, False, False)
    """
    return re.fullmatch(NUMBER, word) is not None and math.isfinite(float(word))

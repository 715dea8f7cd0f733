"""One pattern says what a number is in every text format."""

import re

import numpy as np
import pytest

from rnade_lightning.datamodules.core.numbers import NUMBER, is_number, rounding


@pytest.mark.parametrize("word", ["0", "-1.5", "+.5", "2.", "1e-3", "-1.5E+10"])
def test_numbers_as_c_and_python_write_them(word: str) -> None:
    assert is_number(word)


@pytest.mark.parametrize("word", ["", "x", "1_000", "0x10", "nan", "inf", "1e999", "1,5", "--1"])
def test_all_else_is_none(word: str) -> None:
    assert not is_number(word)


def test_long_damaged_words_take_linear_time() -> None:
    """A pattern that could match digits in two ways would not end."""
    line = "OFFSET" + f" {'1' * 20_000}" * 2 + " 1x"
    assert not re.fullmatch(rf"OFFSET(?:\s+{NUMBER}){{3}}", line)


@pytest.mark.parametrize("digits", [1, 4, 7])
def test_rounding_is_half_of_the_last_decimal(digits: int) -> None:
    exact = np.random.default_rng(digits).normal(size=1000)
    written = np.array([float(f"{x:.{digits}f}") for x in exact])
    off = rounding(written)
    assert off.max() == 0.5 * 10.0**-digits
    assert np.mean(np.abs(written - exact) <= off + 1e-15) > 0.85  # but for those that end in zeros
    assert rounding(exact).max() < 1e-15
    single = rounding(exact.astype(np.float32))
    assert np.all(np.abs(exact - exact.astype(np.float32)) <= single + 1e-15)


def test_integers_are_exact() -> None:
    assert not rounding([0, -3.0, 7e15, 1e300]).any()

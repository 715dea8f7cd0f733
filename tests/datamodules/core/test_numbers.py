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
    exact = np.random.default_rng(digits).normal(size=(1000, 3))
    exact[:, 2] = 7 + 10.0 ** -(digits + 1)  # ends in zeros when written
    written = np.array([[float(f"{x:.{digits}f}") for x in row] for row in exact])
    off = rounding(written)
    np.testing.assert_allclose(off, 0.5 * 10.0**-digits, rtol=1e-12)
    assert (np.abs(written - exact) <= off + 1e-15).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_without_an_end_are_rounded_to_their_last_bit(dtype: type) -> None:
    exact = np.random.default_rng(0).normal(size=(1000, 3))
    exact[:, 1] = 0.5  # has one digit, and not because of rounding
    off = rounding(exact.astype(dtype))
    assert (np.abs(exact.astype(dtype) - exact) <= np.finfo(dtype).eps * np.abs(exact)).all()
    assert off.max() < np.finfo(dtype).eps


def test_integers_are_exact() -> None:
    assert not rounding([[0, -3.0, 7e15, 1e300], [1, -3.0, 2.0, 5.0]]).any()

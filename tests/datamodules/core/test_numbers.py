"""One pattern says what a number is in every text format."""

import re

import pytest

from rnade_lightning.datamodules.core.numbers import NUMBER, is_number


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

"""Rows of numbers in text: CSV files read, the end of a text that was cut, rows to write."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.numbers import is_number

_RUN = ("=", "+", "-", "@", "\t", "\r")
"""What the cells begin with that spreadsheets take for formulas."""


def read_csv(path: Path) -> tuple[Array, list[str] | None]:
    """Return the numbers of a CSV file ``(T, D)``, and the names in its first line if there are.

    Numbers stand between commas, semicolons, tabs or blanks.

    Raises:
        DataError: Not such a file, damaged, or cut inside its last number. Names the line.
    """
    names: list[str] | None = None
    numbers, width, number = array("d"), 0, 0
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                words = _words(line)
                try:
                    row = [float(word) for word in words]
                    if any("_" in word for word in words):
                        raise ValueError  # Python's own notation: 1_000
                except ValueError:
                    if width:
                        bad = next(word for word in words if not is_number(word))
                        raise DataError(
                            f"{path}, line {number}: {bad[:30]!r} is not a number: repair it"
                        ) from None
                    names, width = [word.strip("\"'") for word in words], len(words)
                    continue
                width = width or len(row)
                if len(row) != width:
                    raise DataError(
                        f"{path}, line {number}: {len(row)} numbers where {width} are expected"
                    )
                numbers.extend(row)
        if not numbers:
            raise DataError(f"{path}: holds no line of numbers: leave it out")
        if not line[-1:].isspace():
            with path.open(encoding="utf-8-sig") as lines:
                check_end(path, number, (_words(line)[-1] for line in lines if line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}): get it again") from error
    return np.frombuffer(numbers, np.float64).reshape(-1, width), names


def check_end(path: Path, line: int, last_words: Iterable[str]) -> None:
    """Refuse a text that ends inside a number: written shorter than all above it.

    For texts that end without a newline, as most that were cut do.

    Args:
        path: File to name in an error.
        line: Number of its last line.
        last_words: The last word of every row, in order.

    Raises:
        DataError: The last of them is cut.
    """
    forms: set[tuple[bool, int, int]] = set()
    last: str | None = None
    for word in last_words:
        if last is not None:
            forms.add(_form(last))
        last = word
    if last is None or (form := _form(last)) in forms:
        return
    if any(other > form or other[2] > form[2] for other in forms):
        raise DataError(
            f"{path}, line {line}: ends in {last[:30]!r}, shorter than the numbers above it, as in"
            " a truncated file: get the whole file again, or end its last line if it is whole"
        )


def same_form(words: Iterable[str]) -> bool:
    """Tell whether numbers all have a point and as many digits after it, so that one that was cut
    would be seen.

    >>> same_form(["0.50", "-12.25"]), same_form(["0.5", "-12.25"]), same_form(["1", "2"])
    (True, False, False)
    """
    forms = {_form(word) for word in words}
    return len(forms) == 1 and min(forms)[0]


def plain_rows(rows: Iterable[Sequence[Any]]) -> Iterator[list[Any]]:
    """Yield rows to write as CSV, with a quote before text that a spreadsheet would run.

    >>> list(plain_rows([("=1+1", -1.5), ("walk", "@a")]))
    [["'=1+1", -1.5], ['walk', "'@a"]]
    """
    for row in rows:
        yield [f"'{x}" if isinstance(x, str) and x.startswith(_RUN) else x for x in row]


def _form(word: str) -> tuple[bool, int, int]:
    """Return whether a number has a point, digits after it, and characters of its exponent."""
    number, _, exponent = word.lower().partition("e")
    return "." in number, len(number.partition(".")[2]), len(exponent)


def _words(line: str) -> list[str]:
    for separator in ",;\t":
        if separator in line:
            return [word.strip() for word in line.strip("\r\n ").split(separator)]
    return line.split()

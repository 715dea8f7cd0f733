"""Rows of numbers in text."""

from pathlib import Path

import numpy as np
import pytest

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.tables import check_end, read_csv

NUMBERS = np.random.default_rng(0).normal(size=(50, 3))
NUMBERS[-1, -1] = -0.0213456789


def written(form: str, separator: str) -> str:
    return "\n".join(separator.join(form % x for x in row) for row in NUMBERS)


@pytest.mark.parametrize("separator", [",", ";", "\t", "  "])
@pytest.mark.parametrize(("form", "digits"), [("%.6f", 6), ("%.3e", 3), ("%.0f", 0), ("%.17g", 17)])
def test_whole_files_are_read_with_and_without_a_last_newline(
    tmp_path: Path, separator: str, form: str, digits: int
) -> None:
    path = tmp_path / "a.csv"
    for end in ("\n", "", "\r\n\r\n"):
        path.write_text(written(form, separator) + end)
        found, names = read_csv(path)
        assert names is None
        np.testing.assert_allclose(found, NUMBERS, atol=0.5 if digits == 0 else 10.0**-digits)


@pytest.mark.parametrize("separator", [",", " "])
@pytest.mark.parametrize("form", ["%.6f", "%.6e"])
def test_a_cut_at_any_place_of_the_last_row_is_refused(
    tmp_path: Path, separator: str, form: str
) -> None:
    path, whole = tmp_path / "a.csv", written(form, separator)
    for n in range(1, len(whole.rpartition("\n")[2])):
        path.write_text(whole[:-n])
        with pytest.raises(DataError, match=r"a\.csv, line 50"):
            read_csv(path)
    path.write_text(whole[: whole.rindex("\n")])  # nothing says that a row is missing
    assert len(read_csv(path)[0]) == 49


def test_names_are_read_and_widths_held(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"a",b\n1,2\n\n3,4\n')
    found, names = read_csv(path)
    assert (found.tolist(), names) == ([[1, 2], [3, 4]], ["a", "b"])
    for content, match in (
        ("a,b\n1,2,3\n", "line 2: 3 numbers where 2"),
        ("1,2\nx,3\n", "line 2: 'x' is not a number"),
        ("1,2\n1_0,3\n", "line 2: '1_0' is not a number"),
        ("a,b\n", "no line of numbers"),
        ("", "no line of numbers"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=match):
            read_csv(path)
    path.write_bytes(b"1,2\n\xff,3\n")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_csv(path)


def test_the_end_of_a_text_is_judged_by_the_rows_above_it() -> None:
    path = Path("a.csv")
    for words in (["1.25", "1.25"], ["1", "22"], ["0.5", "0.25", "0.5"], ["1.5"], []):
        check_end(path, 9, words)
    for words in (["1.25", "1.2"], ["1.25", "1."], ["1.25", "1"], ["1e-05", "1e-0"]):
        with pytest.raises(DataError, match=r"a\.csv, line 9: ends in .*shorter"):
            check_end(path, 9, words)

"""Check what a reader gives, or raises."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.core.reading import read_checked
from rnade_lightning.datamodules.core.recording import Recording


def _read(found: Any) -> Any:
    """Return a reader that gives something, or raises it."""

    def read(path: Path) -> Recording:
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    return read


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (KeyError("x"), "raised KeyError: 'x'"),
        (ZeroDivisionError("division by zero"), "raised ZeroDivisionError: division by zero"),
        (None, "returned a NoneType, no Recording"),
        (Recording({"": [[1.0]]}, ["a"], 10.0, {}), "returned frames of list"),  # type: ignore[dict-item]
        (Recording({"": np.ones((9, 1)) + 1j}, ["a"], 10.0, {}), "returned frames of complex128"),
        (Recording({"": np.ones((9, 2))}, ["a", "a"], 10.0, {}), "calls several features 'a'"),
        (Recording({"": np.ones((9, 1))}, ["a"], float("nan"), {}), "says nan frames a second"),
        (Recording({"": np.ones((9, 1))}, ["a"], -10.0, {}), "says -10.0 frames a second"),
    ],
)
def test_a_reader_that_errs_is_named_with_the_file(found: Any, said: str) -> None:
    with pytest.raises(DataError, match=rf"^one\.txt: _read\.<locals>\.read {said}"):
        read_checked(_read(found), Path("one.txt"))

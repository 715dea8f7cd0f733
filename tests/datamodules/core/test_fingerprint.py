"""Data are told from others, wherever their files are."""

from __future__ import annotations

import numpy as np
import pytest

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.fingerprint import Parts, check_same, fingerprints

FRAMES = np.random.default_rng(0).normal(size=(200, 40, 3))


def parts(n: int = 3, start: int = 0) -> Parts:
    return {
        "train": [(f"walk{i}", FRAMES[start + i]) for i in range(n)],
        "val": [("run", FRAMES[-1])],
    }


def test_the_same_data_pass_and_others_are_named() -> None:
    known = fingerprints(parts())
    check_same("root", parts(), known)
    for other in (parts(2), parts(3, 1), parts() | {"train": parts()["train"][::-1]}):
        with pytest.raises(DataError, match=r"root: other data .* train is .*--weights_from"):
            check_same("root", other, known)
    with pytest.raises(DataError, match="test is None, not 1 sequences"):
        check_same("root", parts(), known | {"test": "1 sequences"})


def test_a_change_at_an_end_is_seen_in_a_small_part() -> None:
    known = fingerprints(parts())
    for t in (0, -1):
        changed = FRAMES[1].copy()
        changed[t, 2] += 1e-9
        train = [("walk0", FRAMES[0]), ("walk1", changed), ("walk2", FRAMES[2])]
        assert fingerprints(parts() | {"train": train}) != known


def test_a_large_part_is_looked_into_here_and_there() -> None:
    assert fingerprints(parts(150)) == fingerprints(parts(150))
    assert fingerprints(parts(150)) != fingerprints(parts(150, 1))

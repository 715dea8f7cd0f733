"""Damaged files of every format are refused in one line, or read."""

from pathlib import Path

import numpy as np
import pytest
from damaged import KINDS, write_all
from fuzz import CHECKED, mutate, outcome, reader_of

from rnade_lightning.datamodules.core.frames import Recording


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_damaged_files_are_refused_in_one_line_or_read(kind: str, tmp_path: Path) -> None:
    files = write_all(tmp_path)
    path, motion = files[kind], files["amc" if kind == "asf" else kind]
    whole, read = path.read_bytes(), reader_of(path)
    assert outcome(motion, read) == "read"
    known = read(motion) if motion.name.endswith(CHECKED) else None
    found = set()
    for seed in range(60):
        path.write_bytes(mutate(whole, np.random.default_rng(seed)))
        found.add(outcome(motion, read, known))
    assert found <= {"read", "refused"}, found
    assert "refused" in found


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_end_early_are_refused(kind: str, tmp_path: Path) -> None:
    files = write_all(tmp_path)
    path, motion = files[kind], files["amc" if kind == "asf" else kind]
    whole, read = path.read_bytes(), reader_of(path)
    for share in (0, 0.01, 0.1, 0.3, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        if (
            kind.endswith("csv")
            and share > 0.05
            and whole[: int(share * len(whole))].endswith(b"\n")
        ):
            continue  # nothing in such a file says how long it is
        assert outcome(motion, read) == "refused" or kind == "csv", share


def test_a_reader_that_lets_damage_through_is_seen(tmp_path: Path) -> None:
    path = write_all(tmp_path)["npy"]

    def careless(path: Path) -> Recording:
        return Recording({"": np.load(path)}, ["a", "b"], 30.0, {})

    assert outcome(path, careless) == "frames (60, 4) of 2 features"
    path.write_bytes(b"")
    assert "Error" in outcome(path, careless)

"""Fixtures of the tests of data."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bodies import PARTS, SAMPLES
from counted_reads import LENGTHS, counted_table, old
from motion_formats import TAKES
from tables import table

from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.datamodules.motion.bvh import read_bvh
from rnade_lightning.datamodules.motion.skeleton import Motion


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "tables"
    root.mkdir()
    for i, n_frames in enumerate(LENGTHS):
        np.savetxt(root / f"{i}.txt", counted_table(n_frames, i), fmt="%.17g")
        old(root / f"{i}.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("READS", str(tmp_path / "reads"))
    return root


@pytest.fixture
def tables_at(tmp_path: Path) -> Path:
    root = tmp_path / "tables"
    root.mkdir()
    for i, n_frames in enumerate((50, 73, 41, 60, 38)):
        np.savetxt(root / f"{i}.txt", table(n_frames, i), fmt="%.17g")
    return root


@pytest.fixture(scope="module")
def short_take() -> Motion:
    assert TAKES is not None
    whole = read_bvh(TAKES / "16_32.bvh.gz")
    return replace(whole, positions=whole.positions[:120], rotations=whole.rotations[:120])


@pytest.fixture(scope="module")
def shipped() -> MocapDataModule:
    return MocapDataModule(parts=PARTS)


@pytest.fixture(scope="module")
def take() -> Motion:
    assert SAMPLES is not None
    return read_bvh(SAMPLES / "16_32.bvh.gz")


@pytest.fixture
def cloud() -> np.ndarray:
    """Return places of four markers ``(300, 4, 3)``, two of them with a gap."""
    points = 300 + 100 * np.sin(np.arange(300)[:, None, None] / 9 + np.arange(12).reshape(4, 3))
    points = np.round(points * 2) / 2
    points[40:45, 1] = np.nan
    points[150:190, 2] = np.nan
    return points

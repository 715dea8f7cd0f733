"""One take to frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bodies import tumble

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.motion.markers import Markers
from rnade_lightning.datamodules.motion.takes import TakeReader


def reader(**options: Any) -> TakeReader:
    usual: dict[str, Any] = {
        "rate": None, "skip_frames": 0, "up": "auto", "representation": "expmap",
        "root_motion": "velocity", "rename": {}, "markers": None, "max_gap": 10, "min_piece": 20,
        "noise": 0.0, "max_bytes": None,
    }  # fmt: skip
    return TakeReader(**usual | options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a.bvh"
    file.write_bytes(b"0" * 1000)
    return file


def test_the_layout_tells_where_frames_come_from(path: Path) -> None:
    found = reader().read(path, tumble(50), ".bvh", "y")
    assert found.frame_rate == 30
    assert (found.layout["up"], found.layout["up_by"]) == ("y", "usual for .bvh")
    assert found.layout["source_rate"] == 30
    low, high = found.layout["height"]
    assert (low, high) == (tumble(50).positions[:, 1].min(), tumble(50).positions[:, 1].max())
    assert reader(up="z").read(path, tumble(50), ".bvh", "y").layout["up_by"] == "as given"


def test_frames_asked_for_are_bounded_by_the_size_of_the_file(path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.bvh: its frames at 1e\+06 instead of 30.*max_bytes"):
        reader(rate=1e6).read(path, tumble(50), ".bvh", "y")
    points = np.random.default_rng(0).normal(size=(50, 2, 3))
    markers = Markers(["a", "b"], points, 1e-3, "mm")
    with pytest.raises(DataError, match=r"its frames at 30 instead of 0\.001 a second"):
        reader(rate=30.0).read(path, markers, ".c3d", "z")
    assert reader().read(path, markers, ".c3d", "z").frame_rate == 1e-3

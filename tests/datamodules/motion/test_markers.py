"""Markers are chosen by name and pattern, and takes are cut where they are gone."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from motion_formats import c3d_bytes

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.motion.markers import chosen, usable, whole_pieces

NAMES = ["LASI", "RASI", "*12", "LKNE", "RKNE", "S:*3", "-odd"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, [0, 1, 3, 4, 6]),
        ([], [0, 1, 3, 4, 6]),
        (["RKNE", "LASI"], [4, 0]),
        (["*12"], [2]),
        (["L*"], [0, 3]),
        (["*KNE", "L*"], [3, 4, 0]),
        (["?ASI", "-LASI"], [1]),
        (["-L*"], [1, 4, 6]),
        (["!*ASI", "!-odd"], [3, 4]),
        (["-odd"], [6]),
        (["*"], [0, 1, 3, 4, 6]),
    ],
)
@pytest.mark.slow
def test_markers_are_chosen_in_the_order_asked_for(
    wanted: list[str] | None, found: list[int]
) -> None:
    assert chosen(Path("a.c3d"), NAMES, wanted) == found


def test_what_cannot_be_chosen_is_named() -> None:
    for wanted in (["LTOE"], ["Q*"], ["-Q*"], ["LASI", "!LTOE"]):
        with pytest.raises(DataError, match=r"a\.c3d: has no marker \['(LTOE|Q\*)'\], only"):
            chosen(Path("a.c3d"), NAMES, wanted)
    with pytest.raises(DataError, match=r"a\.c3d: markers leaves out all"):
        chosen(Path("a.c3d"), NAMES, ["-*"])


def test_short_gaps_are_filled_and_long_ones_cut_the_take(cloud: np.ndarray) -> None:
    pieces = whole_pieces(cloud, max_gap=10)
    assert [len(piece) for piece in pieces] == [150, 110]
    np.testing.assert_array_equal(pieces[1], cloud[190:])
    line = np.linspace(cloud[39, 1], cloud[45, 1], 7)
    np.testing.assert_allclose(pieces[0][39:46, 1], line)
    assert [len(piece) for piece in whole_pieces(cloud, max_gap=4)] == [40, 105, 110]
    assert [len(piece) for piece in whole_pieces(cloud, max_gap=40)] == [300]
    cloud[:3, 0] = np.nan
    assert [len(piece) for piece in whole_pieces(cloud, max_gap=40)] == [297]


def test_the_largest_usable_set_is_that_of_an_exhaustive_search() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        points = rng.normal(size=(60, 5, 3))
        for m in range(5):
            for start in rng.integers(0, 60, 3):
                points[start : start + rng.integers(1, 9), m] = np.nan
        kept, n_frames = usable(points, max_gap=3, shortest=20)
        best = 0
        for bits in range(1, 32):
            some = [m for m in range(5) if bits >> m & 1]
            pieces = [len(x) for x in whole_pieces(points[:, some], 3) if len(x) >= 20]
            best = max(best, len(some) if pieces else 0)
            if some == kept:
                assert n_frames == sum(pieces)
        assert len(kept) == best


def test_markers_in_another_order_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(300, 3, 3)) + 500
    for i in range(4):
        (tmp_path / f"{i}.c3d").write_bytes(c3d_bytes(points))
    swapped = c3d_bytes(points[:, [1, 0, 2]]).replace(b"M0  M1  ", b"M1  M0  ")
    (tmp_path / "odd.c3d").write_bytes(swapped)
    how = {"window": 8, "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(DataError, match=r"odd\.c3d: .*its markers are in another order \(set mark"):
        MocapDataModule(str(tmp_path), **how).setup()  # type: ignore[arg-type]
    data = MocapDataModule(str(tmp_path), markers=["M0", "M1", "M2"], **how)  # type: ignore[arg-type]
    data.setup()
    one, odd = (data.read(tmp_path / f"{name}.c3d").frames[""] for name in ("0", "odd"))
    np.testing.assert_array_equal(one, odd)


@pytest.mark.parametrize(("fps", "min_piece"), [(None, 60), (20.0, 60), (60.0, 100)])
def test_a_refusal_proposes_markers_that_are_then_read(
    fps: float | None, min_piece: int, tmp_path: Path
) -> None:
    points = np.random.default_rng(0).normal(size=(400, 5, 3)) + 500
    points[::50, 1] = points[20:380, 3] = np.nan
    points[::50, 1] = np.nan
    (tmp_path / "a.c3d").write_bytes(c3d_bytes(points))
    how = {"window": 8, "fps": fps, "min_piece": min_piece, "max_gap": 0}
    with pytest.raises(
        DataError, match=r"a\.c3d: no \d+ frames in a row at \d+ a second, of 400 at 60"
    ) as caught:
        MocapDataModule(str(tmp_path), **how).setup()  # type: ignore[arg-type]
    found = re.search(r"--data.markers='(.*?)' leaves 3 of 5 markers in (\d+)", str(caught.value))
    assert found is not None
    data = MocapDataModule(str(tmp_path), markers=json.loads(found[1]), **how)  # type: ignore[arg-type]
    assert data.n_features == 9
    assert int(found[2]) == 400

"""One take to frames."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bodies import tumble

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.motion.markers import Markers
from rnade_lightning.datamodules.motion.places import Located
from rnade_lightning.datamodules.motion.representation import decode
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton
from rnade_lightning.datamodules.motion.stature import leg_length
from rnade_lightning.datamodules.motion.takes import TakeReader


def reader(**options: Any) -> TakeReader:
    usual: dict[str, Any] = {
        "rate": None, "skip_frames": 0, "up": "auto", "representation": "expmap",
        "root_motion": "velocity", "leg_length": None, "rename": {}, "markers": None,
        "max_gap": 10, "min_piece": 20, "noise": 0.0, "max_bytes": None,
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


@pytest.mark.parametrize("axis", ["y", "z"])
def test_names_that_tell_nothing_leave_it_to_the_places(axis: str, path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(120, 3, 3))
    points[..., "xyz".index(axis)] = [0, 9, 18] + 0.01 * points[..., 0]
    layout = reader().read(path, Markers(["a", "b", "c"], points, 30.0, "mm"), ".trc", "y").layout
    assert (layout["up"], layout["up_by"]) == (axis, "by the extent of the body")


def test_gaps_that_are_filled_in_are_counted(path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(120, 2, 3))
    points[10:13, 0] = points[60:75, 1] = points[110:114, 1] = np.nan
    layout = reader().read(path, Markers(["a", "b"], points, 30.0, "mm"), ".c3d", "z").layout
    assert layout["filled"] == [3 + 4, 2 * 105]
    short = reader(min_piece=50).read(path, Markers(["a", "b"], points, 30.0, "mm"), ".c3d", "z")
    assert short.layout["filled"] == [3, 2 * 60]


def test_frames_asked_for_are_bounded_by_the_size_of_the_file(path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.bvh: its frames at 1e\+06 instead of 30.*max_bytes"):
        reader(rate=1e6).read(path, tumble(50), ".bvh", "y")
    points = np.random.default_rng(0).normal(size=(50, 2, 3))
    markers = Markers(["a", "b"], points, 1e-3, "mm")
    with pytest.raises(DataError, match=r"its frames at 30 instead of 0\.001 a second"):
        reader(rate=30.0).read(path, markers, ".c3d", "z")
    assert reader().read(path, markers, ".c3d", "z").frame_rate == 1e-3


def walker(factor: float = 1.0) -> Motion:
    """Return a body with legs that tumbles, of any size."""
    motion = tumble(50)
    names = ["Hips", "LeftFoot", "Head"]
    return replace(motion, skeleton=replace(motion.skeleton, names=names)).scaled(factor)


def located(motion: Motion) -> Located:
    """Return the places of its joints, without end sites, as files have them."""
    body = replace(motion.skeleton, end_parents=[], end_offsets=np.zeros((0, 3)))
    places = replace(motion, skeleton=body).points()
    how = body, motion.positions, motion.rotations, motion.fps, places
    return Located(*how).facing("y")


@pytest.mark.parametrize("representation", ["expmap", "6d", "positions", "raw"])
@pytest.mark.parametrize("root_motion", ["velocity", "position"])
def test_bodies_scaled_to_one_leg_have_one_motion(
    representation: Any, root_motion: Any, path: Path
) -> None:
    """Also the layout: a sample is drawn, and measured, on the same body."""
    how = {"representation": representation, "root_motion": root_motion}
    for kind in (lambda motion: motion, located):
        small, large = (
            reader(leg_length=0.9, noise=0.1, **how).read(path, kind(walker(s)), ".bvh", "y")
            for s in (1.0, 37.0)
        )
        np.testing.assert_allclose(small.frames[""], large.frames[""], atol=1e-9)
        for key in ("height", "ground", "tall"):
            np.testing.assert_allclose(small.layout[key], large.layout[key], atol=1e-9)
        of_body = "places" if kind is located else "skeleton"
        body = Skeleton.from_state(large.layout[of_body])
        assert leg_length(body) == pytest.approx(0.9)
        np.testing.assert_allclose(small.layout[of_body]["offsets"], body.offsets)
        as_they_are = [
            reader(noise=0.1, **how).read(path, kind(walker(s)), ".bvh", "y") for s in (1.0, 37.0)
        ]
        one, other = (x.frames[""] for x in as_they_are)
        assert np.abs(one - other).max() > 1


def test_a_scaled_body_keeps_its_angles_and_comes_back_in_the_new_unit(path: Path) -> None:
    motion = walker()
    found = reader(leg_length=0.9).read(path, motion, ".bvh", "y")
    again = decode(found.frames[""], Skeleton.from_state(found.layout["skeleton"]), 30.0)
    factor = 0.9 / leg_length(motion.skeleton)
    steps, own = (np.diff(x.positions, axis=0) for x in (again, motion.scaled(factor)))
    lengths, known = (np.linalg.norm(x, axis=1) for x in (steps, own[1:]))
    np.testing.assert_allclose(lengths, known, atol=1e-9)
    np.testing.assert_allclose(again.positions[:, 1], factor * motion.positions[1:, 1], atol=1e-9)
    turn = np.abs(np.sum(again.rotations[:, 1:] * motion.rotations[1:, 1:], axis=-1))
    np.testing.assert_allclose(turn, 1, atol=1e-9)


def test_what_has_no_leg_is_not_scaled(path: Path) -> None:
    scaling, motion = reader(leg_length=0.9), walker()
    bare = replace(motion, skeleton=motion.skeleton.scaled(0.0))
    points = np.random.default_rng(0).normal(size=(50, 2, 3))
    for content, match in [
        (tumble(50), "no leg to scale.*no joint is called foot.*: rename it"),
        (bare, "no leg to scale.*does not say where joints are: leave leg_length out"),
        (Markers(["a", "b"], points, 30.0, "mm"), "has no skeleton.*train without leg_length"),
    ]:
        with pytest.raises(DataError, match=rf"a\.bvh: {match}"):
            scaling.read(path, content, ".bvh", "y")

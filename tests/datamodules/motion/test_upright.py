"""The axis that is up."""

from dataclasses import replace

import numpy as np
import pytest
from bodies import tumble
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton
from rnade_lightning.datamodules.motion.upright import (
    axis_of_extent,
    axis_of_markers,
    up_axis,
)

TO_Z = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])


def standing(names: str = "Hips Spine Head LeftFoot RightFoot") -> Motion:
    """A body of y up that sways, turns and walks."""
    rng, n = np.random.default_rng(0), 90
    offsets = np.array([[0, 0, 0], [0, 0.3, 0], [0, 0.4, 0.05], [0.1, -0.9, 0], [-0.1, -0.9, 0]])
    skeleton = Skeleton(
        names.split(), [-1, 0, 1, 0, 0], offsets, [2], np.array([[0, 0.2, 0]]), ["ZYX"] * 5
    )
    turns = Rotation.from_rotvec(0.1 * rng.normal(size=(n * 5, 3))).as_quat().reshape(n, 5, 4)
    heading = Rotation.from_rotvec(np.linspace(0, 3, n)[:, None] * [0, 1, 0])
    turns[:, 0] = (heading * Rotation.from_quat(turns[:, 0])).as_quat()
    place = np.stack([np.linspace(0, 2, n), np.full(n, 0.9), np.sin(np.linspace(0, 4, n))], axis=1)
    return Motion(skeleton, place, turns, 30.0)


def turned(motion: Motion, by: np.ndarray) -> Motion:
    """The world turned: the root's rotation does it, the rest pose stays."""
    rotations = motion.rotations.copy()
    rotations[:, 0] = (Rotation.from_matrix(by) * Rotation.from_quat(rotations[:, 0])).as_quat()
    return replace(motion, positions=motion.positions @ by.T, rotations=rotations)


def renamed(motion: Motion, by: np.ndarray) -> Motion:
    """All axes renamed, those of the rest pose too."""
    skeleton, turns = motion.skeleton, motion.rotations.copy()
    turns[..., :3] = turns[..., :3] @ by.T
    skeleton = replace(
        skeleton, offsets=skeleton.offsets @ by.T, end_offsets=skeleton.end_offsets @ by.T
    )
    return Motion(skeleton, motion.positions @ by.T, turns, motion.fps)


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_a_body_that_stands_tells(size: float) -> None:
    body = standing()
    bones = replace(body.skeleton, offsets=size * body.skeleton.offsets)
    body = replace(body, positions=size * body.positions, skeleton=bones)
    assert up_axis(body) == "y"
    assert up_axis(renamed(body, TO_Z)) == "z"
    assert up_axis(turned(body, TO_Z)) == "z"


@pytest.mark.parametrize("head_first", [False, True])
def test_a_body_that_lies_has_the_axis_of_its_rest_pose(head_first: bool) -> None:
    """Head towards z, on a floor of y up: the lowest point stays level, and the body goes about."""
    body, n = standing(), 90
    level = Rotation.from_euler("x", 90 if head_first else -90, degrees=True).as_quat()
    rotations = body.rotations.copy()
    rotations[:, 0] = level
    rng = np.random.default_rng(1)
    crawl = np.stack([0.2 * rng.normal(size=n), np.full(n, 0.1), np.linspace(0, 2, n)], axis=1)
    lying = replace(body, positions=crawl, rotations=rotations)
    assert up_axis(lying) == "y"
    assert up_axis(renamed(lying, TO_Z)) == "z"


def test_what_does_not_tell_is_not_guessed() -> None:
    assert up_axis(tumble(90)) is None  # nobody's feet
    assert up_axis(standing("a b c d e")) is None
    x_up = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    assert up_axis(renamed(standing(), x_up)) is None
    upside_down = np.diag([1.0, -1.0, -1.0])
    assert up_axis(renamed(standing(), upside_down)) is None


def test_an_animal_longer_than_high_does_not_tell() -> None:
    """Head ahead, hips behind, four feet between: z does not become up by the head's place."""
    body = standing("Hips Spine Head FrontFoot BackFoot")
    offsets = np.array([[0, 0, 0], [0, 0.1, 0.6], [0, 0.1, 0.6], [0.1, -0.3, 0.8], [0, -0.3, 0.0]])
    rotations = np.zeros((90, 5, 4))
    rotations[..., 3] = 1
    longer = replace(body, rotations=rotations, skeleton=replace(body.skeleton, offsets=offsets))
    assert up_axis(longer) in (None, "y")


def test_a_body_that_stands_on_level_ground_tells_without_names() -> None:
    body = standing("a b c d e")
    points = body.points()
    assert axis_of_extent(points) == "y"
    assert axis_of_extent(points @ TO_Z.T) == "z"
    assert axis_of_extent(points @ TO_Z) is None  # x is up
    assert axis_of_extent(tumble(90).points()) is None
    jumping = points + 3 * np.random.default_rng(0).normal(size=(len(points), 1, 1)) * [0, 1, 0]
    assert axis_of_extent(jumping) is None
    points[:-1, 2] = np.nan
    assert axis_of_extent(points) is None
    points[-1, 2] = np.nan
    assert axis_of_extent(points) is None


NAMES = ["S:LANK", "S:RHEE", "S:LFHD", "S:RKNE", "S:LSHANK"]


@pytest.mark.parametrize(("axis", "found"), [(1, "y"), (2, "z"), (0, None)])
def test_markers_tell_where_up_is_by_their_names(axis: int, found: str | None) -> None:
    points = 100 * np.random.default_rng(0).normal(size=(300, 5, 3))
    points[:, 2, axis] += 1700
    points[:, 3, axis] += 450
    points[40:, 0] = np.nan
    assert axis_of_markers(NAMES, points) == found
    assert axis_of_markers([*NAMES[:2], "LASI", "RASI", "T10"], points) is None
    assert axis_of_markers(["WHEEL", "S:LSHANK", "HEAD", "a", "b"], points) is None
    points[:, :2] = np.nan
    assert axis_of_markers(NAMES, points) is None

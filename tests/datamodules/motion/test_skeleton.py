"""Rotations, forward kinematics and resampling."""

import numpy as np
import pytest
from pymotion.ops.skeleton import fk
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.motion.representation import (
    to_maps,
)
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton, from_euler


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX", "XYX"])
def test_quaternions_and_maps_are_those_of_scipy(order: str) -> None:
    rng = np.random.default_rng(0)
    angles = rng.normal(scale=200, size=(400, 5, 3))
    angles[:2], angles[2:4] = 0, 1e-9 * angles[2:4]
    angles[4] = 90 * rng.integers(-8, 9, size=(5, 3))
    expected = Rotation.from_euler(order, angles.reshape(-1, 3), degrees=True)
    quaternions = from_euler(order, angles)
    np.testing.assert_allclose(quaternions.reshape(-1, 4), expected.as_quat(), atol=1e-15)
    maps = to_maps(quaternions).reshape(-1, 3)
    np.testing.assert_allclose(maps, expected.as_rotvec(), rtol=1e-12, atol=2e-15)
    assert to_maps(np.array([0.0, 0, 0, -1])).tolist() == [0, 0, 0]


def test_resampling_keeps_every_nth_frame_or_turns_evenly(take: Motion) -> None:
    thirds = take.resampled(10.0003)
    assert np.array_equal(thirds.rotations, take.rotations[::3])
    angle = np.outer(np.arange(11), [0.3, 0.0, 0.0])
    rotations = Rotation.from_rotvec(angle).as_quat()[:, None]
    skeleton = Skeleton(["Hips"], [-1], np.zeros((1, 3)), [], np.zeros((0, 3)), ["ZYX"])
    even = Motion(skeleton, 2 * angle, rotations, 25.0).resampled(30.0)
    expected = np.arange(13) * 25 / 30 * 0.3
    np.testing.assert_allclose(even.positions[:, 0], 2 * expected, atol=1e-12)
    again = np.unwrap(Rotation.from_quat(even.rotations[:, 0]).as_rotvec()[:, 0])
    np.testing.assert_allclose(again, expected, atol=1e-12)


def test_forward_kinematics_agree_with_pymotion(take: Motion) -> None:
    w_first = np.roll(take.rotations, 1, axis=-1)
    parents = np.array([0, *take.skeleton.parents[1:]])
    offsets = take.skeleton.offsets.copy()
    offsets[0] = 0
    expected, _ = fk(w_first, take.positions, offsets, parents)
    points = take.points()
    np.testing.assert_allclose(points[:, : len(parents)], expected, atol=1e-6)
    lengths = [np.linalg.norm(points[:, b] - points[:, a], axis=-1) for a, b in take.skeleton.bones]
    assert np.ptp(lengths, axis=-1).max() < 1e-9  # bones stay as long as they are

"""Rotations as exponential maps without wrap-around, and the heading of a rotation.

An exponential map is the axis of rotation times its angle. Angles that differ by whole turns are
the same rotation: of these, each frame takes the one nearest to the frame before it.

Conventions:
    Maps are ``(..., 3)``, radians. The vertical is y, x is to the left and z ahead; `TO_Y_UP` turns
    the world of a file into this one.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array

TO_Y_UP = {"y": np.eye(3), "z": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])}
_TURN = 2 * np.pi


def swing_twist(rotation: Rotation) -> tuple[Array, Array]:
    """Splits R = T S: the angle of T about the vertical, ``(T,)``, and the map of S, ``(T, 3)``.

    The quaternion of T is that of R without its level components, scaled to length one. Upside
    down, where the heading is undefined (w = y = 0), it is taken to be zero.
    """
    quaternion = rotation.as_quat()
    heading = 2 * np.arctan2(quaternion[:, 1], quaternion[:, 3])
    tilt = (about_vertical(-heading) * rotation).as_rotvec()
    return heading, unwrap(tilt)


def about_vertical(angle: Array) -> Rotation:
    """Rotations about y by ``angle`` (T,) radians."""
    return Rotation.from_rotvec(angle[:, None] * np.array([0.0, 1.0, 0.0]))


def unwrap(maps: Array) -> Array:
    """Adds whole turns to exponential maps over time, ``(T, ..., 3)``, so that none jumps.

    Each map may be lengthened along its axis by multiples of a turn; of these the one nearest to
    the map chosen for the frame before is taken.
    """
    angle = np.linalg.norm(maps, axis=-1)
    axis = maps / np.where(angle > 0, angle, 1.0)[..., None]

    def turns(previous: Array, t: int | slice, joint: tuple[int, ...] = ()) -> Array:
        along = np.sum(previous * axis[(t, *joint)], axis=-1)
        return np.asarray(np.round((along - angle[(t, *joint)]) / _TURN))

    unwrapped = maps.copy()
    wraps = turns(maps[:-1], slice(1, None)) != 0
    for joint in map(tuple, np.argwhere(wraps.any(axis=0))):  # few: those that pass half a turn
        for t in range(1 + int(wraps[(slice(None), *joint)].argmax()), len(maps)):
            extra = turns(unwrapped[(t - 1, *joint)], t, joint) * _TURN
            unwrapped[(t, *joint)] += extra * axis[(t, *joint)]
    return unwrapped

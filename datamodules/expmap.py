"""Motion as exponential maps: a frame of numbers without wrap-around, and back.

One frame holds, in this order:

====================  =======================================================================
``root.turn``         change of heading since the last frame, radians
``root.left/ahead``   change of position since the last frame, in the facing frame of the last
                      frame, file units
``root.height``       height of the root, file units
``root.tilt_x/_z``    what is left of the root's rotation when the heading is taken off, as an
                      exponential map; its vertical component is zero by construction
``<joint>.x/.y/.z``   local rotation of every other joint as an exponential map, radians
====================  =======================================================================

Heading and tilt are the twist and swing of the root's rotation about the vertical: R = T S, with T
about the vertical and the axis of S level. Position and heading in the world are not modelled, only
their changes, so the density does not depend on where, or which way, a take was recorded.

An exponential map is the axis of rotation times its angle. Angles that differ by whole turns are
the same rotation: of these, each frame takes the one nearest to the frame before it.

Conventions:
    Inside this module the vertical is y, x is to the left and z ahead; files whose vertical is z
    are turned on the way in and out. The first frame of a take has no change and is left out.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from datamodules.skeleton import Array, Motion, Skeleton

_ROOT = ("turn", "left", "ahead", "height", "tilt_x", "tilt_z")
TO_Y_UP = {"y": np.eye(3), "z": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])}
_TURN = 2 * np.pi


def feature_names(skeleton: Skeleton) -> list[str]:
    """Names of the features of one frame, in order."""
    joints = [f"{name}.{axis}" for name in skeleton.names[1:] for axis in "xyz"]
    return [f"root.{name}" for name in _ROOT] + joints


def encode(motion: Motion, up: str = "y") -> Array:
    """Features of a motion of T frames, ``(T - 1, D)``.

    Args:
        motion: What to encode.
        up: Vertical axis of the file's world, ``"y"`` or ``"z"``.
    """
    to_y_up = TO_Y_UP[up]
    n_frames = len(motion.positions)
    positions = motion.positions @ to_y_up.T
    root = Rotation.from_matrix(to_y_up) * Rotation.from_quat(motion.rotations[:, 0])
    heading, tilt = swing_twist(root)
    step = about_vertical(-heading[:-1]).apply(np.diff(positions, axis=0))
    turn = np.diff(heading)
    turn -= _TURN * np.round(turn / _TURN)
    joints = Rotation.from_quat(motion.rotations[:, 1:].reshape(-1, 4)).as_rotvec()
    joints = unwrap(joints.reshape(n_frames, -1, 3)).reshape(n_frames, -1)
    level = np.stack([turn, step[:, 0], step[:, 2], positions[1:, 1]], axis=-1)
    return np.concatenate([level, tilt[1:, ::2], joints[1:]], axis=-1)


def decode(features: Array, skeleton: Skeleton, fps: float, up: str = "y") -> Motion:
    """The motion of ``(T, D)`` features: the inverse of `encode`, of T frames.

    The first frame stands above the origin with heading zero; its changes have no frame to start
    from and are not used.
    """
    to_y_up = TO_Y_UP[up]
    n_frames = len(features)
    turn, left, ahead, height, tilt_x, tilt_z = features[:, :6].T
    heading = np.concatenate([[0.0], np.cumsum(turn[1:])])
    step = np.stack([left, np.zeros(n_frames), ahead], axis=-1)[1:]
    positions = np.zeros((n_frames, 3))
    positions[1:] = np.cumsum(about_vertical(heading[:-1]).apply(step), axis=0)
    positions[:, 1] = height
    tilt = np.stack([tilt_x, np.zeros(n_frames), tilt_z], axis=-1)
    root = Rotation.from_matrix(to_y_up.T) * about_vertical(heading) * Rotation.from_rotvec(tilt)
    joints = Rotation.from_rotvec(features[:, 6:].reshape(-1, 3)).as_quat()
    rotations = np.concatenate([root.as_quat()[:, None], joints.reshape(n_frames, -1, 4)], axis=1)
    return Motion(skeleton, positions @ to_y_up, rotations, fps)


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
    wraps = turns(maps[:-1], slice(1, None)).any(axis=0)
    for joint in map(tuple, np.argwhere(wraps)):  # few: only those that pass half a turn
        for t in range(1, len(maps)):
            extra = turns(unwrapped[(t - 1, *joint)], t, joint) * _TURN
            unwrapped[(t, *joint)] += extra * axis[(t, *joint)]
    return unwrapped

"""Turn motion into frames of numbers, in one of four representations, and back.

    expmap        rotations as exponential maps, 3 numbers a joint, radians
    6d            rotations as the first two columns of their matrices, 6 numbers a joint, which
                  never wrap; made orthonormal again on the way back (Zhou et al. 2019)
    positions     places of all joints and end sites, 3 numbers each; how a bone turns about itself
                  is lost, so that no BVH can be written
    raw           channels of the file: the root's place, and Euler angles in degrees, which go on
                  past half a turn where a file would wrap them

The root comes first. With ``velocity`` its frame holds what does not depend on where, or which
way, a take was recorded:

    root.turn         change of heading since the last frame, radians
    root.left/ahead   change of position since the last frame, in the facing frame of the last
                      frame, file units
    root.height       height of the root, file units
    root.tilt_..      what is left of the root's rotation when the heading is taken off; as an
                      exponential map its vertical component is zero and left out

Heading and tilt are the twist and swing of the root's rotation about the vertical: R = T S, with T
about the vertical and the axis of S level. The places of ``positions`` are then measured from the
ground below the root, in the facing frame, in which the root itself has a height only. With
``position`` the root has its place and rotation in the world, and so have all places. ``raw`` is in
the world always.

Columns of rotation matrices are orthonormal and bones keep their lengths, so frames of ``6d`` and
``positions`` lie on a surface, on which a density is unbounded: declare noise. Likelihoods of
different representations are of different variables; nats are never compared across them.

Conventions:
    As in `skeleton`. Inside this module the vertical is y, x is to the left and z ahead; files
    whose vertical is z are turned on the way in and out (but not the channels of ``raw``). A first
    frame has no change and is left out by ``velocity``.
"""

import warnings
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton, from_euler

Kind = Literal["expmap", "6d", "positions", "raw"]
RootMotion = Literal["velocity", "position"]

TO_Y_UP = {"y": np.eye(3), "z": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])}
"""Turns the world of a file whose vertical is this axis into one whose vertical is y."""
_TURN = 2 * np.pi
_CHANGES = ["turn", "left", "ahead"]
_SIX = ["xx", "xy", "xz", "yx", "yy", "yz"]


def feature_names(
    skeleton: Skeleton, kind: Kind = "expmap", root_motion: RootMotion = "velocity"
) -> list[str]:
    """Return the names of the features of one frame, in order."""
    moves = root_motion == "velocity"
    root, rest = skeleton.names[0], skeleton.names[1:]
    if kind == "raw":
        turns = zip(skeleton.names, skeleton.euler_orders, strict=True)
        place = [f"{root}.{axis}position" for axis in "XYZ"]
        return place + [f"{name}.{axis}rotation" for name, order in turns for axis in order]
    axes = list("xyz") if kind != "6d" else _SIX
    if kind == "positions":
        rest = rest + [f"{skeleton.names[p]}.end{e}" for e, p in enumerate(skeleton.end_parents)]
        first = ["height"] if moves else list("xyz")
    elif moves:
        first = ["height", *(f"tilt_{axis}" for axis in (axes if kind == "6d" else "xz"))]
    else:
        first = [*"xyz", *(f"turn_{axis}" for axis in axes)]
    names = [f"root.{name}" for name in (_CHANGES if moves else []) + first]
    return names + [f"{name}.{axis}" for name in rest for axis in axes]


def rounding_of(names: list[str], kind: Kind, size: float) -> list[float]:
    """Return by how much features may be off because files are written with few digits.

    Of 104 CMU takes, angles that are fixed vary by up to 6e-7 rad; places are written with six or
    seven digits of the size of a body.

    Args:
        names: See `feature_names`.
        kind: Representation.
        size: Of the skeleton, in file units; 0 where it is not known.
    """
    length = 1e-6 * size or 1e-5
    lengths = {f"root.{what}" for what in ("left", "ahead", "height", "x", "y", "z")}
    if kind == "positions":
        return [1e-5 if name == "root.turn" else length for name in names]
    if kind == "raw":
        return [1e-3 if name.endswith("rotation") else length for name in names]
    return [length if name in lengths else 1e-5 for name in names]


def encode(
    motion: Motion, up: str = "y", kind: Kind = "expmap", root_motion: RootMotion = "velocity"
) -> Array:
    """Return the features of a motion of T frames, ``(T, D)``, or ``(T - 1, D)`` with the root's
    velocity.

    Args:
        motion: Motion to encode.
        up: Vertical axis of the file's world, ``"y"`` or ``"z"``.
        kind: Representation.
        root_motion: Changes of the root, or its place in the world.
    """
    n_frames = len(motion.positions)
    if kind == "raw":
        return np.concatenate([motion.positions, euler_angles(motion)], axis=1)
    to_y_up = TO_Y_UP[up]
    positions = motion.positions @ to_y_up.T
    root = Rotation.from_matrix(to_y_up) * Rotation.from_quat(motion.rotations[:, 0])
    heading, tilt = swing_twist(root)
    if kind == "positions":
        points = motion.points() @ to_y_up.T
        if root_motion == "position":
            return points.reshape(n_frames, -1)
        points[..., ::2] -= positions[:, None, ::2]
        back = np.repeat(-heading, points.shape[1])
        points = about_vertical(back).apply(points.reshape(-1, 3)).reshape(points.shape)
        pose = np.concatenate([positions[:, 1:2], points[:, 1:].reshape(n_frames, -1)], axis=1)
        return np.concatenate([changes(positions, heading), pose[1:]], axis=1)
    joints = motion.rotations[:, 1:]
    if kind == "6d":
        limbs = six(Rotation.from_quat(joints.reshape(-1, 4))).reshape(n_frames, -1)
        own = six(Rotation.from_rotvec(tilt) if root_motion == "velocity" else root)
    else:
        limbs = unwrap(to_maps(joints)).reshape(n_frames, -1)
        own = tilt[:, ::2] if root_motion == "velocity" else unwrap(root.as_rotvec())
    if root_motion == "position":
        return np.concatenate([positions, own, limbs], axis=1)
    pose = np.concatenate([positions[:, 1:2], own, limbs], axis=1)
    return np.concatenate([changes(positions, heading), pose[1:]], axis=1)


def decode(
    features: Array,
    skeleton: Skeleton,
    fps: float,
    up: str = "y",
    kind: Kind = "expmap",
    root_motion: RootMotion = "velocity",
) -> Motion:
    """Return the motion of ``(T, D)`` features: T frames, the inverse of `encode`.

    With the root's velocity, the first frame stands above the origin with heading zero; its changes
    have no frame to start from and are not used.

    Raises:
        ValueError: ``positions`` do not determine a motion; see `points_of`.
    """
    if kind == "positions":
        raise ValueError("positions of joints do not determine how bones turn about themselves")
    n_frames, to_y_up = len(features), TO_Y_UP[up]
    if kind == "raw":
        angles = features[:, 3:].reshape(n_frames, -1, 3)
        turns = [from_euler(order, angles[:, j]) for j, order in enumerate(skeleton.euler_orders)]
        return Motion(skeleton, features[:, :3].copy(), np.stack(turns, axis=1), fps)
    per_joint = 6 if kind == "6d" else 3
    if root_motion == "velocity":
        heading, positions = _walk(features)
        n_own = 6 if kind == "6d" else 2
        own, limbs = features[:, 4 : 4 + n_own], features[:, 4 + n_own :]
        if kind == "6d":  # of what comes near a tilt, the tilt
            tilt = Rotation.from_rotvec(swing_twist(from_six(own))[1])
        else:
            tilt = Rotation.from_rotvec(np.insert(own, 1, 0.0, axis=1))
        root = about_vertical(heading) * tilt
    else:
        positions, own = features[:, :3].copy(), features[:, 3 : 3 + per_joint]
        limbs = features[:, 3 + per_joint :]
        root = from_six(own) if kind == "6d" else Rotation.from_rotvec(own)
    root = Rotation.from_matrix(to_y_up.T) * root
    flat = limbs.reshape(-1, per_joint)
    turns = from_six(flat) if kind == "6d" else Rotation.from_rotvec(flat)
    local = turns.as_quat().reshape(n_frames, -1, 4)
    rotations = np.concatenate([root.as_quat()[:, None], local], axis=1)
    return Motion(skeleton, positions @ to_y_up, rotations, fps)


def points_of(
    features: Array,
    skeleton: Skeleton,
    fps: float,
    up: str = "y",
    kind: Kind = "expmap",
    root_motion: RootMotion = "velocity",
) -> Array:
    """Return the places of joints and end sites with y up, ``(T, J + E, 3)``, for every
    representation."""
    if kind != "positions":
        motion = decode(features, skeleton, fps, up, kind, root_motion)
        return np.asarray(motion.points() @ TO_Y_UP[up].T)
    if root_motion == "position":
        return features.reshape(len(features), -1, 3).copy()
    heading, positions = _walk(features)
    points = features[:, 4:].reshape(len(features), -1, 3)
    turned = about_vertical(np.repeat(heading, points.shape[1])).apply(points.reshape(-1, 3))
    points = turned.reshape(points.shape)
    points[..., ::2] += positions[:, None, ::2]
    return np.concatenate([positions[:, None], points], axis=1)


def six(rotation: Rotation) -> Array:
    """Return the first two columns of the matrices, one after the other, ``(N, 6)``."""
    return np.asarray(rotation.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6))


def from_six(values: Array) -> Rotation:
    """Return rotations by Gram and Schmidt; the first column of ``(N, 6)`` keeps its direction."""
    first, second = values[:, :3], values[:, 3:]
    x = _unit(first, np.array([1.0, 0, 0]))
    y = second - np.sum(x * second, axis=1, keepdims=True) * x
    spare = np.eye(3)[np.abs(x).argmin(axis=1)]
    y = _unit(y, spare - np.sum(x * spare, axis=1, keepdims=True) * x)
    return Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=-1))


def euler_angles(motion: Motion) -> Array:
    """Return the Euler angles of all joints, ``(T, 3 J)`` degrees, each near to the frame before
    it.

    Angles (a, b, c) and (a + 180, 180 - b, c + 180) are the same rotation, and so are angles that
    differ by whole turns.
    """
    n_frames, n_joints = motion.rotations.shape[:2]
    angles = np.empty((n_frames, n_joints, 3))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")  # any split of the angle will do
        for j, order in enumerate(motion.skeleton.euler_orders):
            rotation = Rotation.from_quat(motion.rotations[:, j])
            angles[:, j] = rotation.as_euler(order, degrees=True)
    jumps = (np.abs(np.diff(angles, axis=0)) > 90).any(axis=(0, 2))
    moving = angles[:, jumps]  # few: only those that wrap
    for t in range(1, n_frames if jumps.any() else 0):
        other = moving[t] * [1, -1, 1] + 180
        both = np.stack([moving[t], other])
        both += 360 * np.round((moving[t - 1] - both) / 360)
        nearer = np.abs(both - moving[t - 1]).sum(axis=-1).argmin(axis=0)
        moving[t] = both[nearer, np.arange(len(nearer))]
    angles[:, jumps] = moving
    return angles.reshape(n_frames, -1)


def changes(positions: Array, heading: Array) -> Array:
    """Return the turn, and the steps to the left and ahead, since the last frame, ``(T - 1,
    3)``."""
    step = about_vertical(-heading[:-1]).apply(np.diff(positions, axis=0))
    turn = np.diff(heading)
    turn -= _TURN * np.round(turn / _TURN)
    return np.stack([turn, step[:, 0], step[:, 2]], axis=-1)


def _walk(features: Array) -> tuple[Array, Array]:
    """Return heading ``(T,)`` and places ``(T, 3)`` from changes and height: the inverse of
    `changes`."""
    n_frames = len(features)
    turn, left, ahead, height = features[:, :4].T
    heading = np.concatenate([[0.0], np.cumsum(turn[1:])])
    step = np.stack([left, np.zeros(n_frames), ahead], axis=-1)[1:]
    positions = np.zeros((n_frames, 3))
    positions[1:] = np.cumsum(about_vertical(heading[:-1]).apply(step), axis=0)
    positions[:, 1] = height
    return heading, positions


def _unit(vectors: Array, otherwise: Array) -> Array:
    """Return vectors of length one; ``otherwise`` gives the direction of those of length zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.where(length > 1e-9, vectors, otherwise)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


# ------------------------------------------------------------------ exponential maps


def to_maps(quaternions: Array) -> Array:
    """Return exponential maps ``(..., 3)`` of quaternions ``(..., 4)``, none longer than half a
    turn."""
    x, y, z, w = np.moveaxis(quaternions, -1, 0)
    sine = np.sqrt(x * x + y * y + z * z)  # of half the angle
    with np.errstate(invalid="ignore"):
        angle_by_sine = np.where(sine > 0, 2 * np.arctan2(sine, np.abs(w)) / sine, 2.0)
    factor = np.where(w < 0, -angle_by_sine, angle_by_sine)
    return np.stack([factor * x, factor * y, factor * z], axis=-1)


def swing_twist(rotation: Rotation) -> tuple[Array, Array]:
    """Split R = T S: the angle of T about the vertical, ``(T,)``, and the map of S, ``(T, 3)``.

    The quaternion of T is that of R without its level components, scaled to length one. Upside
    down, where the heading is undefined (w = y = 0), it is taken to be zero.
    """
    quaternion = rotation.as_quat()
    heading = 2 * np.arctan2(quaternion[:, 1], quaternion[:, 3])
    tilt = (about_vertical(-heading) * rotation).as_rotvec()
    return heading, unwrap(tilt)


def about_vertical(angle: Array) -> Rotation:
    """Return rotations about y by ``angle`` (T,) radians."""
    return Rotation.from_rotvec(angle[:, None] * np.array([0.0, 1.0, 0.0]))


def unwrap(maps: Array) -> Array:
    """Add whole turns to exponential maps over time, ``(T, ..., 3)``, so that none jumps.

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

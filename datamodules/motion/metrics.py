"""Measure motion beside the likelihood: whether feet slide, and whether joints bend too far.

``foot_skate``
    Mean horizontal speed of a foot while it stands, in units of length per second. A foot is a
    joint or end site whose name, or whose joint's, speaks of a foot, toe, ball or heel. It stands
    while it is lower than a height found from data, the median of that foot's; not a number if no
    foot stands.
``joint_limit``
    Share of joint angles outside the range seen in data. An angle is a component of the
    exponential map of a joint's rotation (of the root's, none).

Conventions:
    Points are ``(T, P, 3)`` with y up; angles are ``(T, A)`` radians.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton

_STANDS = 0.5  # share of the frames; in a walk a foot stands for about 0.6 of them
_SLACK = 1e-3  # radians; angles in files are rounded


@dataclass(frozen=True)
class Limits:
    """Limits that are found from data.

    Attributes:
        heights: Height below which each foot stands.
        low: Smallest value of each angle, ``(A,)``; empty without angles.
        high: Largest value of each angle, ``(A,)``.
    """

    heights: Array
    low: Array
    high: Array


def feet_of(skeleton: Skeleton) -> list[int]:
    """Return the points of the feet.

    >>> feet_of(Skeleton(["Hips", "LeftFoot"], [-1, 0], np.zeros((2, 3)), [1], np.zeros((1, 3)),
    ...                  ["ZYX"] * 2))
    [1, 2]
    """
    names = skeleton.names + [skeleton.names[parent] for parent in skeleton.end_parents]
    form = re.compile(r"foot|toe|ball|heel", re.IGNORECASE)
    return [i for i, name in enumerate(names) if form.search(name)]


def angles_of(motion: Motion) -> Array:
    """Return exponential maps of all joints but the root, each of at most half a turn, ``(T,
    A)``."""
    maps = Rotation.from_quat(motion.rotations[:, 1:].reshape(-1, 4)).as_rotvec()
    return np.asarray(maps.reshape(len(motion.positions), -1))


def find_limits(points: Sequence[Array], angles: Sequence[Array], feet: list[int]) -> Limits:
    """Return the limits of the motions of a data set.

    Args:
        points: Points of each motion.
        angles: Angles of each motion; empty where they are not known.
        feet: Points of the feet; see `feet_of`.
    """
    heights = np.concatenate([p[:, feet, 1] for p in points])
    low = high = np.zeros(0)
    if angles:
        low = np.min([a.min(axis=0) for a in angles], axis=0)
        high = np.max([a.max(axis=0) for a in angles], axis=0)
    return Limits(np.quantile(heights, _STANDS, axis=0), low, high)


def motion_figures(
    points: Array, angles: Array | None, fps: float, feet: list[int], limits: Limits
) -> dict[str, float]:
    """Return the figures that one motion has; without feet there is no ``foot_skate``.

    Args:
        points: Points, ``(T, P, 3)``.
        angles: Angles, ``(T, A)``, or None where they are not known.
        fps: Frames per second.
        feet: Points of the feet.
        limits: Limits of the data.
    """
    figures = {}
    place = points[:, feet]  # (T, F, 3)
    if feet and len(points) > 1:
        speed = np.linalg.norm(np.diff(place[..., ::2], axis=0), axis=-1) * fps
        low = place[..., 1] < limits.heights
        stands = low[1:] & low[:-1]
        figures["foot_skate"] = float(speed[stands].mean()) if stands.any() else float("nan")
    if angles is not None and angles.size:
        outside = (angles < limits.low - _SLACK) | (angles > limits.high + _SLACK)
        figures["joint_limit"] = float(outside.mean())
    return figures

"""Find which axis of a motion's world is up: found from where feet, root and head are.

A body stands: its root is above its feet, and its head is above both. Where that holds along one
axis, on average over the motion, this axis is up. In a take that lies or rolls about it holds along
none, and the rest pose tells. Where the two differ, as in a take that lies on the floor with the
head towards z, or in a world that the root alone turns upright, the ground tells: the lowest point
of a body stays about level. Where names tell neither feet nor head, the axis along which the body
extends most is up, if the lowest point along it is level.

Conventions:
    As in `skeleton`. Only y and z can be up.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.motion.metrics import feet_of
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton

_AXES = "xyz"
_FRAMES = 100  # of a motion that are looked at
_LEADS = 2.0  # times as far along an axis as along any other
_LEVEL = 2.0  # times as level along one axis as along another
_HEAD = re.compile(r"head|skull|crown", re.IGNORECASE)
_ANKLE = re.compile(r"ankle", re.IGNORECASE)
_FOOT_MARKER = re.compile(r"(?<!sh)(?<!fl)ank|(?<!w)hee|toe|foot|calc|mt[1-5h]", re.IGNORECASE)
_HEAD_MARKER = re.compile(r"head|[fb]hd|crown|vertex", re.IGNORECASE)


def up_axis(motion: Motion) -> str | None:
    """Return ``"y"`` or ``"z"``, or None where the motion does not tell.

    It does not where no joint is called a foot (toe, heel, ankle) or none a head, and where a body
    does not stand, as an animal that is longer than it is high.
    """
    skeleton = motion.skeleton
    every = np.unique(np.linspace(0, len(motion.positions) - 1, _FRAMES).astype(int))
    some = replace(motion, positions=motion.positions[every], rotations=motion.rotations[every])
    at_rest = np.zeros((1, len(skeleton.names), 4))
    at_rest[..., 3] = 1
    rest = replace(motion, positions=np.zeros((1, 3)), rotations=at_rest)
    points = some.points()
    moving, resting = (_stands_along(skeleton, x) for x in (points, rest.points()))
    if moving is None or resting is None or moving == resting:
        return moving or resting
    level = {axis: points[..., _AXES.index(axis)].min(axis=1).std() for axis in (moving, resting)}
    return resting if level[moving] > _LEVEL * level[resting] else moving


def standing_axis(skeleton: Skeleton, points: Array) -> str | None:
    """Return the axis, ``"y"`` or ``"z"``, along which a body stands on average; None if on none.

    Args:
        skeleton: Tells which points are feet and head.
        points: Points, ``(T, P, 3)``.
    """
    every = np.unique(np.linspace(0, len(points) - 1, _FRAMES).astype(int))
    return _stands_along(skeleton, points[every])


def axis_of_markers(names: Sequence[str], points: Array) -> str | None:
    """Return the axis, ``"y"`` or ``"z"``, along which markers of the head are above those of the
    feet on average; None if along none, or if their names do not tell.

    Args:
        names: Names of the markers.
        points: Places, ``(T, M, 3)``, NaN where a marker was not seen.
    """
    some = points[:: max(len(points) // _FRAMES, 1)]
    places = []
    for form in (_FOOT_MARKER, _HEAD_MARKER):
        of = [i for i, name in enumerate(names) if form.search(name.rpartition(":")[2])]
        seen = some[:, of][~np.isnan(some[:, of]).any(axis=-1)]  # (N, 3)
        if not len(seen):
            return None
        places.append(seen.mean(axis=0))
    return _leading(places[1] - places[0])


def axis_of_extent(points: Array) -> str | None:
    """Return the axis, ``"y"`` or ``"z"``, along which a body extends most and stands on level
    ground; None where neither is so by far.

    Args:
        points: Places of joints or markers, ``(T, P, 3)``, NaN where one was not seen.
    """
    some = points[:: max(len(points) // _FRAMES, 1)]
    some = some[~np.isnan(some).any(axis=(1, 2))]
    if not len(some):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # damaged numbers
        extent, level = np.ptp(some, axis=1).mean(axis=0), some.min(axis=1).std(axis=0)
    for axis, *others in ((1, 0, 2), (2, 0, 1)):
        longest = extent[axis] >= _LEADS * extent[others].max()
        if longest and level[others].min() > _LEVEL * level[axis]:
            return _AXES[axis]
    return None


def _stands_along(skeleton: Skeleton, points: Array) -> str | None:
    """The axis along which the root is above the feet, and the head above both.

    Args:
        skeleton: Tells which points are feet and head.
        points: Points, ``(T, P, 3)``.
    """
    names = [*skeleton.names, *(skeleton.names[parent] for parent in skeleton.end_parents)]
    feet = feet_of(skeleton) or [i for i, name in enumerate(names) if _ANKLE.search(name)]
    heads = [i for i, name in enumerate(names) if _HEAD.search(name)]
    if not feet or not heads:
        return None
    foot, root, head = (points[:, of].mean(axis=(0, 1)) for of in (feet, [0], heads))
    axes = {_leading(higher - lower) for higher, lower in ((root, foot), (head, foot))}
    return axes.pop() if len(axes) == 1 else None


def _leading(vector: Array) -> str | None:
    """The axis, y or z, that a vector points along, and not against."""
    for axis, *others in ((1, 0, 2), (2, 0, 1)):
        if vector[axis] > 0 and vector[axis] >= _LEADS * np.abs(vector[others]).max():
            return _AXES[axis]
    return None

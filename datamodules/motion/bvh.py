"""Read and write BVH motion files.

A BVH file is a hierarchy of joints, a statement a line, followed by one line of numbers a frame:

    HIERARCHY
    ROOT name { OFFSET x y z  CHANNELS n name ..  joints }
    joint is JOINT name { .. as above .. } or End Site { OFFSET x y z }
    MOTION, Frames: n, Frame Time: s, and the numbers

Conventions:
    Angles are in degrees. A joint's channels are applied in the order listed: ``Zrotation
    Yrotation Xrotation`` is R = Rz Ry Rx on column vectors. Axes that a joint has no channel for
    are not turned about. Position channels give the joint's position in its parent and replace its
    offset; below the root the two must agree, unless the offset is zero.
"""

import gzip
import itertools
import math
import warnings
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from pytorch_lightning.utilities import rank_zero_info
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.motion.bvh_text import read_text
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton, from_euler

_AXES = "XYZ"
_DEEPEST = 40  # tabs before a line; without an end they would make a long chain's file quadratic
_CHANGES_PLACE = 1e-3  # of the skeleton's size; a joint that is not the root may not move more
_MOVES = 1e-6  # of that size; a joint below a root that does not turn moves where it does so more


def read_bvh(path: str | Path, max_bytes: int | None = None) -> Motion:
    """Read a motion from a ``.bvh`` or ``.bvh.gz`` file.

    A root that does not turn above one joint that moves in it, as programs put it above the hips,
    is folded into that joint, which then is the root. What else stands still in such a root is left
    out.

    Args:
        path: File to read.
        max_bytes: What the file may take; see `Limit`.

    Raises:
        DataError: Not a BVH file, truncated, numbers missing or not finite, or a joint other than
            the root that moves away from its parent. Names the file, and the line where known.
    """
    path = Path(path)
    text = read_text(path, max_bytes)
    orders = [_euler_order(path, *joint) for joint in zip(text.names, text.channels, strict=True)]
    channels = [(j, channel) for j, names in enumerate(text.channels) for channel in names]
    columns = {channel: column for column, channel in enumerate(channels)}
    n_frames, n_joints = len(text.values), len(text.names)
    values = np.concatenate([text.values, np.zeros((n_frames, 1))], axis=1)  # zero: axes unturned
    rotations = np.empty((n_frames, n_joints, 4))
    for order in sorted(set(orders)):
        joints = [j for j in range(n_joints) if orders[j] == order]
        chosen = [columns.get((j, f"{axis}rotation"), -1) for j in joints for axis in order]
        rotations[:, joints] = from_euler(order, values[:, chosen].reshape(n_frames, -1, 3))
    places: dict[int, Array] = {}  # of joints that have channels for it
    for j, axis in itertools.product(range(n_joints), range(3)):
        column = columns.get((j, f"{_AXES[axis]}position"))
        if column is not None:
            places.setdefault(j, np.tile(text.offsets[j], (n_frames, 1)))
            places[j][:, axis] = values[:, column]
    skeleton = Skeleton(
        text.names, text.parents, text.offsets, text.end_parents, text.end_offsets, orders
    )
    positions = places.pop(0, np.tile(text.offsets[0], (n_frames, 1)))
    motion = _folded(path, Motion(skeleton, positions, rotations, text.fps), places)
    return replace(motion, skeleton=_with_bones(path, motion.skeleton, places))


def _euler_order(path: Path, name: str, channels: list[str]) -> str:
    """Return the axes of a joint's rotations, in order, then those that it does not turn about."""
    order = "".join(channel[0] for channel in channels if channel.endswith("rotation"))
    if len(set(channels)) != len(channels):
        raise DataError(f"{path}: joint {name} names a channel twice ({order}): repair it")
    return order + "".join(axis for axis in "ZXY" if axis not in order)


def _folded(path: Path, motion: Motion, places: dict[int, Array]) -> Motion:
    """Return the motion without roots that only carry the joint that moves in them; shift
    ``places``."""
    skeleton = motion.skeleton
    lengths = np.linalg.norm(skeleton.offsets, axis=1)
    sizes = np.append(np.cumsum(lengths[::-1])[::-1], 0.0)[1:]  # of the bones past each joint
    positions, rotation = motion.positions, Rotation.from_quat(motion.rotations[:, 0])
    things, children = _things(motion, places), skeleton.children()
    root = joint = 0  # nothing from the root down to this joint turns
    share = _MOVES
    while True:
        carried = [j for j in children[joint] if j not in things]
        turns = rotation.as_quat() if joint == root else motion.rotations[:, joint]
        if len(carried) != 1 or np.ptp(turns, axis=0).max() > _CHANGES_PLACE:
            break
        if len(children[joint]) > 1:
            share = _CHANGES_PLACE  # more than rounding must tell that these are no bones
        joint = carried[0]
        if not _fault(skeleton.offsets[joint], places.get(joint), sizes[root], share):
            continue
        chain = [joint]  # its place is not fixed: all above it is folded
        while skeleton.parents[chain[0]] != root:
            chain.insert(0, skeleton.parents[chain[0]])
        for root in chain:
            positions = positions + rotation.apply(places.pop(root, skeleton.offsets[root]))
            rotation = rotation * Rotation.from_quat(motion.rotations[:, root])
    if root == 0:
        return motion
    return _below(path, replace(motion, positions=positions), root, rotation, places)


def _things(motion: Motion, places: dict[int, Array]) -> set[int]:
    """Return joints that hang from what stands still and never move, with all below them, as things
    that stand around; none if the root moves or turns."""
    parents = motion.skeleton.parents
    size = motion.skeleton.size
    still = np.ptp(motion.rotations, axis=0).max(axis=1) <= _CHANGES_PLACE
    for j, place in {0: motion.positions, **places}.items():
        still[j] &= np.ptp(place, axis=0).max() <= _MOVES * size
    if not still[0]:
        return set()
    for j in reversed(range(1, len(parents))):
        still[parents[j]] &= still[j]
    return {j for j in np.flatnonzero(still).tolist() if j}


@cache  # once, not for each of a thousand files
def _say(folder: Path, gone: str, root: str) -> None:
    rank_zero_info(
        f"{folder}: {gone} of BVH files there only carries {root} or stands still and is left out:"
        f" {root} is the root"
    )


def _below(
    path: Path, motion: Motion, root: int, rotation: Rotation, places: dict[int, Array]
) -> Motion:
    """Return the motion of a joint and of all below it; shift ``places``.

    Args:
        path: File to name in a message.
        motion: Positions are those of the joint.
        root: The joint.
        rotation: Its rotations in the world.
        places: Places of joints that have channels for them.
    """
    skeleton, index = motion.skeleton, {root: 0}
    for j, parent in enumerate(skeleton.parents):
        if parent in index:
            index[j] = len(index)
    inside = list(index)
    gone = [name for j, name in enumerate(skeleton.names) if j not in index]
    _say(path.parent, ", ".join(gone[:5]), skeleton.names[root])
    ends = [e for e, parent in enumerate(skeleton.end_parents) if parent in index]
    below = Skeleton(
        [skeleton.names[j] for j in inside],
        [-1, *(index[skeleton.parents[j]] for j in inside[1:])],
        np.concatenate([np.zeros((1, 3)), skeleton.offsets[inside[1:]]]),
        [index[skeleton.end_parents[e]] for e in ends],
        skeleton.end_offsets[ends],
        [skeleton.euler_orders[j] for j in inside],
    )
    rotations = motion.rotations[:, inside]
    rotations[:, 0] = rotation.as_quat()
    for j in sorted(places):
        place = places.pop(j)
        if j in index:
            places[index[j]] = place
    return Motion(below, motion.positions, rotations, motion.fps)


def _fault(offset: Array, place: Array | None, size: float, share: float) -> str | None:
    """Return why a joint is not at the end of a fixed bone; None if it is.

    Args:
        offset: The joint's offset as declared, ``(3,)``.
        place: The joint's places, ``(T, 3)``; None if it has no channels for them.
        size: Size of the skeleton.
        share: Share of the size that is no fault.
    """
    if place is None:
        return None
    mean = place.mean(axis=0)
    if np.ptp(place, axis=0).max() > share * (size or max(float(np.abs(place).max()), 1e-9)):
        return "moves away from its parent: export with fixed bones"
    if offset.any() and np.abs(mean - offset).max() > _CHANGES_PLACE * size:
        return (
            f"is at {_numbers(mean)} by its position channels, at {_numbers(offset)} by its"
            " OFFSET: make them equal, or export rotations only"
        )
    return None


def _with_bones(path: Path, skeleton: Skeleton, places: dict[int, Array]) -> Skeleton:
    """Return the skeleton with the offsets that position channels give, in place of those
    declared."""
    offsets, size = skeleton.offsets.copy(), skeleton.size
    for j, place in places.items():
        if fault := _fault(skeleton.offsets[j], place, size, _CHANGES_PLACE):
            raise DataError(f"{path}: joint {skeleton.names[j]} {fault}")
        offsets[j] = place.mean(axis=0)
    return replace(skeleton, offsets=offsets)


def write_bvh(path: str | Path, motion: Motion) -> None:
    """Write a motion as BVH: six channels for the root, three for every other joint.

    A path that ends in ``.gz`` is compressed, with no time stamp, so that equal motions make equal
    files.
    """
    skeleton, n_frames = motion.skeleton, len(motion.positions)
    lines, written = _hierarchy(skeleton)
    columns = [motion.positions]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")  # any split of the angle will do
        for j in written:
            rotation = Rotation.from_quat(motion.rotations[:, j])
            columns.append(rotation.as_euler(skeleton.euler_orders[j], degrees=True))
    lines += ["MOTION", f"Frames: {n_frames}", f"Frame Time: {1 / motion.fps:.9f}"]
    decimals = _decimals(skeleton) + 2
    lines += [_numbers(row, decimals) for row in np.concatenate(columns, axis=1)]
    content = ("\n".join(lines) + "\n").encode()
    with whole_file(path) as part:
        part.write_bytes(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def _hierarchy(skeleton: Skeleton) -> tuple[list[str], list[int]]:
    """Return the lines of the joints, and the joints in the order of the lines, branch after
    branch."""
    lines, written = ["HIERARCHY"], list[int]()
    fixed = partial(_numbers, decimals=_decimals(skeleton))
    joints = skeleton.children()
    ends: list[list[int]] = [[] for _ in skeleton.names]
    for end, parent in enumerate(skeleton.end_parents):
        ends[parent].append(end)
    waiting = [(0, 0, False)]  # joint, depth, whether all below it is written
    while waiting:
        joint, depth, done = waiting.pop()
        tab = "\t" * min(depth, _DEEPEST)
        if done:
            for end in ends[joint]:
                lines += [f"{tab}\tEnd Site", f"{tab}\t{{"]
                lines += [f"{tab}\t\tOFFSET {fixed(skeleton.end_offsets[end])}", f"{tab}\t}}"]
            lines.append(f"{tab}}}")
            continue
        channels = "3" if joint else "6 Xposition Yposition Zposition"
        channels += "".join(f" {axis}rotation" for axis in skeleton.euler_orders[joint])
        lines += [f"{tab}{'JOINT' if joint else 'ROOT'} {skeleton.names[joint]}", f"{tab}{{"]
        lines += [f"{tab}\tOFFSET {fixed(skeleton.offsets[joint])}"]
        lines += [f"{tab}\tCHANNELS {channels}"]
        written.append(joint)
        waiting.append((joint, depth, True))
        waiting += [(child, depth + 1, False) for child in reversed(joints[joint])]
    return lines, written


def _numbers(values: Array, decimals: int = 6) -> str:
    return " ".join(f"{value:.{decimals}f}" for value in values)


def _decimals(skeleton: Skeleton) -> int:
    """Return the decimals of lengths: 6, and more where the unit is so large that a body has few
    digits before them."""
    return max(6, 8 - math.ceil(math.log10(skeleton.size or 1.0)))

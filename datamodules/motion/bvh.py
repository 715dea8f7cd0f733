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
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from pytorch_lightning.utilities import rank_zero_info
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.motion.bvh_text import read_text
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton, from_euler

_AXES = "XYZ"
_CHANGES_PLACE = 1e-3  # of the skeleton's size; a joint that is not the root may not move more
_MOVES = 1e-6  # of that size; a joint below a root that stands still moves where it does so more


def read_bvh(path: str | Path) -> Motion:
    """Read a motion from a ``.bvh`` or ``.bvh.gz`` file.

    A root that stands still above one joint that moves, as programs put it above the hips, is
    folded into that joint, which then is the root.

    Raises:
        DataError: Not a BVH file, truncated, numbers missing or not finite, or a joint other than
            the root that moves away from its parent. Names the file, and the line where known.
    """
    path = Path(path)
    text = read_text(path)
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
    """Return the motion without roots that stand still above the joint that moves; shift
    ``places``."""
    while _carries(motion, places):
        skeleton, root = motion.skeleton, Rotation.from_quat(motion.rotations[:, 0])
        positions, rotations = motion.positions, motion.rotations[:, 1:].copy()
        positions = positions + root.apply(places.pop(1, skeleton.offsets[1]))
        rotations[:, 0] = (root * Rotation.from_quat(rotations[:, 0])).as_quat()
        rank_zero_info(
            f"{path}: root {skeleton.names[0]} stands still and is left out: {skeleton.names[1]},"
            " which moves in it, is the root"
        )
        ends = [e for e, parent in enumerate(skeleton.end_parents) if parent > 0]
        below = Skeleton(
            skeleton.names[1:],
            [parent - 1 for parent in skeleton.parents[1:]],
            np.concatenate([np.zeros((1, 3)), skeleton.offsets[2:]]),
            [skeleton.end_parents[e] - 1 for e in ends],
            skeleton.end_offsets[ends],
            skeleton.euler_orders[1:],
        )
        motion = Motion(below, positions, rotations, motion.fps)
        for j in sorted(places):
            places[j - 1] = places.pop(j)
    return motion


def _carries(motion: Motion, places: dict[int, Array]) -> bool:
    """Return whether the root, and every joint down to one whose place is not fixed, stands
    still."""
    skeleton, joint = motion.skeleton, 0
    if np.ptp(motion.positions, axis=0).max() > _CHANGES_PLACE * max(skeleton.size, 1e-9):
        return False
    while skeleton.parents.count(joint) == 1:
        if np.ptp(motion.rotations[:, joint], axis=0).max() > _CHANGES_PLACE:
            return False
        joint += 1  # the only child follows its parent
        if _fault(skeleton, places, joint, _MOVES):
            return True
    return False


def _fault(skeleton: Skeleton, places: dict[int, Array], j: int, share: float) -> str | None:
    """Return why a joint is not at the end of a fixed bone; None if it is.

    Args:
        skeleton: The skeleton, with the offsets declared.
        places: Places of joints that have channels for them.
        j: The joint.
        share: Largest difference that is no fault, as a share of the skeleton's size.
    """
    if j not in places:
        return None
    place, offset = places[j], skeleton.offsets[j]
    mean = place.mean(axis=0)
    smallest = share * (skeleton.size or max(float(np.abs(place).max()), 1e-9))
    if np.ptp(place, axis=0).max() > smallest:
        return "moves away from its parent: export with fixed bones"
    if offset.any() and np.abs(mean - offset).max() > _CHANGES_PLACE * skeleton.size:
        return (
            f"is at {_numbers(mean)} by its position channels, at {_numbers(offset)} by its"
            " OFFSET: make them equal, or export rotations only"
        )
    return None


def _with_bones(path: Path, skeleton: Skeleton, places: dict[int, Array]) -> Skeleton:
    """Return the skeleton with the offsets that position channels give, in place of those
    declared."""
    offsets = skeleton.offsets.copy()
    for j, place in places.items():
        if fault := _fault(skeleton, places, j, _CHANGES_PLACE):
            raise DataError(f"{path}: joint {skeleton.names[j]} {fault}")
        offsets[j] = place.mean(axis=0)
    return replace(skeleton, offsets=offsets)


def write_bvh(path: str | Path, motion: Motion) -> None:
    """Write a motion as BVH: six channels for the root, three for every other joint.

    A path that ends in ``.gz`` is compressed, with no time stamp, so that equal motions make equal
    files.
    """
    skeleton, n_frames = motion.skeleton, len(motion.positions)
    lines: list[str] = ["HIERARCHY"]
    written = _write_joint(lines, skeleton, 0, "")
    columns = [motion.positions]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")  # any split of the angle will do
        for j in written:
            rotation = Rotation.from_quat(motion.rotations[:, j])
            columns.append(rotation.as_euler(skeleton.euler_orders[j], degrees=True))
    lines += ["MOTION", f"Frames: {n_frames}", f"Frame Time: {1 / motion.fps:.9f}"]
    lines += [" ".join(f"{value:.8f}" for value in row) for row in np.concatenate(columns, axis=1)]
    content = ("\n".join(lines) + "\n").encode()
    with whole_file(path) as part:
        part.write_bytes(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def _write_joint(lines: list[str], skeleton: Skeleton, joint: int, tab: str) -> list[int]:
    """Append a joint and all that hangs from it; return the joints in the order written."""
    channels = "3" if joint else "6 Xposition Yposition Zposition"
    channels += "".join(f" {axis}rotation" for axis in skeleton.euler_orders[joint])
    lines += [f"{tab}{'JOINT' if joint else 'ROOT'} {skeleton.names[joint]}", f"{tab}{{"]
    lines += [f"{tab}\tOFFSET {_numbers(skeleton.offsets[joint])}", f"{tab}\tCHANNELS {channels}"]
    written = [joint]
    for child, parent in enumerate(skeleton.parents):
        if parent == joint:
            written += _write_joint(lines, skeleton, child, tab + "\t")
    for offset, parent in zip(skeleton.end_offsets, skeleton.end_parents, strict=True):
        if parent == joint:
            lines += [f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET {_numbers(offset)}"]
            lines.append(f"{tab}\t}}")
    lines.append(f"{tab}}}")
    return written


def _numbers(values: Array) -> str:
    return " ".join(f"{value:.6f}" for value in values)

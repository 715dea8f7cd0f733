"""Hold a skeleton and its motion, and compute where the motion puts every joint.

Conventions:
    Frames come first, joints second, coordinates last: positions ``(T, 3)``, rotations
    ``(T, J, 4)``.
    Quaternions are scalar last (x, y, z, w), as in SciPy. A joint's rotation is local: it turns
    what hangs from the joint, in the frame of its parent. Lengths are in the units of the file,
    ``fps`` is in frames per second. Joint 0 is the root, and a parent precedes its children.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array

SAME_RATIO = 2e-3
"""Share by which frame rates may differ from a whole ratio: 29.97 and 30 are one rate, and with few
digits 120 / 30 comes as 4.000016."""


@dataclass(frozen=True)
class Skeleton:
    """The joints, how they hang together, and how a BVH file turns them.

    Attributes:
        names: Name of each joint, the root first.
        parents: Index of each joint's parent; -1 for the root.
        offsets: Position of each joint in its parent's frame, ``(J, 3)``.
        end_parents: Joint that each end site (finger tip, crown of the head) hangs from.
        end_offsets: Position of each end site in that joint's frame, ``(E, 3)``.
        euler_orders: Order of each joint's Euler angles in a file, such as ``"ZYX"``.
    """

    names: list[str]
    parents: list[int]
    offsets: Array
    end_parents: list[int]
    end_offsets: Array
    euler_orders: list[str]

    @property
    def bones(self) -> list[tuple[int, int]]:
        """Return pairs of points, parent first, to be joined by a line (see `Motion.points`)."""
        ends = enumerate(self.end_parents, start=len(self.names))
        return [(p, j) for j, p in enumerate(self.parents) if p >= 0] + [(p, e) for e, p in ends]

    @property
    def size(self) -> float:
        """Return the summed length of all bones between joints, in file units. Ends, which carry no
        joint, are left out."""
        return float(np.linalg.norm(self.offsets[1:], axis=-1).sum())

    def children(self) -> list[list[int]]:
        """Return the joints that hang from each joint."""
        below: list[list[int]] = [[] for _ in self.names]
        for child, parent in enumerate(self.parents[1:], start=1):
            below[parent].append(child)
        return below

    def state(self) -> dict[str, Any]:
        """Return the skeleton in plain types, for a checkpoint."""
        return {
            "names": list(self.names),
            "parents": list(self.parents),
            "offsets": self.offsets.tolist(),
            "end_parents": list(self.end_parents),
            "end_offsets": self.end_offsets.tolist(),
            "euler_orders": list(self.euler_orders),
        }

    def scaled(self, factor: float) -> "Skeleton":
        """Return the skeleton with all lengths times a factor."""
        return replace(self, offsets=factor * self.offsets, end_offsets=factor * self.end_offsets)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Skeleton":
        """Return the skeleton of a `state`."""
        arrays = {key: np.reshape(state[key], (-1, 3)) for key in ("offsets", "end_offsets")}
        return cls(**{**state, **arrays})


@dataclass(frozen=True)
class Motion:
    """A skeleton that moves.

    Attributes:
        skeleton: The skeleton that moves.
        positions: World position of the root, ``(T, 3)``.
        rotations: Local rotation of each joint as quaternions, ``(T, J, 4)``.
        fps: Frames per second.
    """

    skeleton: Skeleton
    positions: Array
    rotations: Array
    fps: float

    def points(self) -> Array:
        """Return world positions of joints, then of end sites, ``(T, J + E, 3)`` (forward
        kinematics)."""
        skeleton, n_frames = self.skeleton, len(self.positions)
        local = Rotation.from_quat(self.rotations.reshape(-1, 4)).as_matrix()
        world = local.reshape(n_frames, -1, 3, 3)
        points = np.empty((n_frames, len(skeleton.names) + len(skeleton.end_parents), 3))
        points[:, 0] = self.positions
        for j, parent in enumerate(skeleton.parents[1:], start=1):
            points[:, j] = points[:, parent] + world[:, parent] @ skeleton.offsets[j]
            world[:, j] = world[:, parent] @ world[:, j]
        for e, parent in enumerate(skeleton.end_parents, start=len(skeleton.names)):
            offset = skeleton.end_offsets[e - len(skeleton.names)]
            points[:, e] = points[:, parent] + world[:, parent] @ offset
        return points

    def resampled(self, fps: float) -> "Motion":
        """Return the motion at another frame rate.

        A whole ratio keeps every n-th frame as it is. Otherwise positions are interpolated
        linearly, and rotations along the shortest arc between their two neighbours.
        """
        before, after, part = neighbours(len(self.positions), self.fps, fps)
        positions = between(self.positions, before, after, part)
        if not part.any():
            return replace(self, positions=positions, rotations=self.rotations[before], fps=fps)
        start = Rotation.from_quat(self.rotations[before].reshape(-1, 4))
        turn = start.inv() * Rotation.from_quat(self.rotations[after].reshape(-1, 4))
        shares = np.repeat(part, self.rotations.shape[1])[:, None]
        rotations = (start * Rotation.from_rotvec(shares * turn.as_rotvec())).as_quat()
        rotations = rotations.reshape(len(before), -1, 4)
        return replace(self, positions=positions, rotations=rotations, fps=fps)

    def scaled(self, factor: float) -> Self:
        """Return the motion with all lengths times a factor."""
        return replace(
            self, skeleton=self.skeleton.scaled(factor), positions=factor * self.positions
        )

    def renamed(self, names: dict[str, str]) -> Self:
        """Return the motion with other names for some joints."""
        skeleton = self.skeleton
        return replace(
            self, skeleton=replace(skeleton, names=[names.get(n, n) for n in skeleton.names])
        )


def from_euler(euler_order: str, angles: Array) -> Array:
    """Return quaternions ``(..., 4)`` of Euler angles ``(..., 3)`` in degrees.

    SciPy does the same, ten times slower (1.17), for what is most of the time of reading a file.

    Args:
        euler_order: Axes of the angles, such as ``"ZYX"`` for R = Rz Ry Rx on column vectors.
        angles: The angles, in the same order.
    """
    half = np.radians(np.moveaxis(angles, -1, 0)) / 2
    cosine, sine = np.cos(half), np.sin(half)
    x, w = [np.zeros_like(half[0]) for _ in range(3)], cosine[0]
    x["XYZ".index(euler_order[0])] = sine[0]
    for axis, c, s in zip(euler_order[1:], cosine[1:], sine[1:], strict=True):
        k = "XYZ".index(axis)  # times the quaternion (s e_k, c), e_i x e_j = e_k
        i, j = (k + 1) % 3, (k + 2) % 3
        x[i], x[j] = c * x[i] + s * x[j], c * x[j] - s * x[i]
        x[k], w = c * x[k] + s * w, c * w - s * x[k]
    return np.stack([*x, w], axis=-1)


def neighbours(n_frames: int, source: float, target: float) -> tuple[Any, Any, Array]:
    """Return, for each frame at another rate, the frames before and after it, and its share
    between.

    A whole ratio takes every n-th frame as it is.

    >>> neighbours(5, source=100, target=200)[2]
    array([0. , 0.5, 0. , 0.5, 0. , 0.5, 0. , 0.5, 1. ])
    """
    ratio = source / target
    step = round(ratio)
    if step >= 1 and abs(ratio - step) < SAME_RATIO * step:
        every = np.arange(0, n_frames, step)
        return every, every, np.zeros(len(every))
    last = n_frames - 1
    time = np.arange(int(last / ratio + 1e-9) + 1) * ratio  # in frames of the source
    before = np.minimum(time.astype(int), max(last - 1, 0))
    return before, np.minimum(before + 1, last), time - before


def between(values: Array, before: Any, after: Any, part: Array) -> Array:
    """Return values ``(T, ...)`` on the straight line between their neighbours; see
    `neighbours`."""
    shares = part.reshape(-1, *(1,) * (values.ndim - 1))
    return np.asarray(values[before] + shares * (values[after] - values[before]))

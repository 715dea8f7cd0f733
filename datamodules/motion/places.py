"""Read places of joints, such as those of HumanML3D: ``(T, J, 3)`` in ``.npy`` or ``.npz`` files.

Where 21 (KIT), 22, 24, 52 or 55 joints (HumanML3D, SMPL and its kin) are given, their names are
known and so is how they hang together. Joints of other numbers are called ``joint_0`` and so on,
unless an ``.npz`` file has an array ``names``, and one called ``parents``.

Bones keep their lengths, so such frames obey constraints and a density on them is unbounded: they
are read with declared noise only. How bones turn about themselves is not known.

Conventions:
    As in `skeleton`. The root's rotation is about the vertical alone: it turns the body, whose left
    is x and whose front is z, to where the hips say that it faces. Where no joints are called left
    and right hip, it is none.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.arrays import load_numpy, number, shapes_of, words
from rnade_lightning.datamodules.motion.amass import (
    RATES,
    body_tree,
    is_motion,
    one_rate,
    read_amass,
)
from rnade_lightning.datamodules.motion.representation import TO_Y_UP, about_vertical
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton, between, neighbours

_FEATURES = {263: 22, 251: 21}  # numbers of a frame of features, and joints of its set
_KIT = ["root", "spine1", "spine2", "neck", "head"]
_KIT += [f"{side}_{part}" for side in ("right", "left") for part in ("shoulder", "elbow", "wrist")]
_KIT += [
    f"{side}_{part}"
    for side in ("right", "left")
    for part in ("hip", "knee", "ankle", "heel", "foot")
]
_KIT_PARENTS = [-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19]
_STRETCH = 0.2  # share by which half of the bones may vary: more are no bones


@dataclass(frozen=True)
class Located(Motion):
    """A motion of which the places of the joints are known, and not how they turn.

    Attributes:
        places: World positions of the joints, ``(T, J, 3)``.
    """

    places: Array

    def points(self) -> Array:
        """Return the places of the joints, ``(T, J, 3)``."""
        return self.places.copy()

    def scaled(self, factor: float) -> "Located":
        """Return the motion with all lengths times a factor."""
        return replace(super().scaled(factor), places=factor * self.places)

    def resampled(self, fps: float) -> "Located":
        """Return the motion at another frame rate, joints on straight lines between frames."""
        before, after, part = neighbours(len(self.places), self.fps, fps)
        return replace(self, places=between(self.places, before, after, part), fps=fps).facing("y")

    def facing(self, up: str) -> "Located":
        """Return the motion with the root where its joint is, turned to where the hips face.

        Args:
            up: Vertical axis of the world, ``"y"`` or ``"z"``.
        """
        names, to_y_up = self.skeleton.names, TO_Y_UP[up]
        heading = np.zeros(len(self.places))
        if {"left_hip", "right_hip"} <= set(names):
            left, right = (names.index(f"{side}_hip") for side in ("left", "right"))
            across = (self.places[:, left] - self.places[:, right]) @ to_y_up.T
            heading = np.arctan2(-across[:, 2], across[:, 0])
        root = Rotation.from_matrix(to_y_up.T) * about_vertical(heading)
        rotations = np.zeros((*self.places.shape[:2], 4))
        rotations[..., 3] = 1
        rotations[:, 0] = root.as_quat()
        return replace(self, positions=self.places[:, 0], rotations=rotations)


def holds_motion(path: Path) -> bool:
    """Tell whether a NumPy file may hold a motion: not the shape of a body, nor means of features.

    A damaged file may: what is wrong with it is said where it is read.
    """
    if path.name.lower().endswith(".npz"):
        return is_motion(shapes_of(path))
    return path.suffix.lower() != ".npy" or len(shapes_of(path).get("", (0, 0))) != 1


def read_numpy(path: str | Path, fps: float, max_bytes: int | None = None) -> Motion:
    """Read places of joints, or a motion of AMASS, from a ``.npy`` or ``.npz`` file.

    Args:
        path: File to read.
        fps: Frames per second of places, where the file does not give it.
        max_bytes: What its arrays may take; see `Limit`.

    Raises:
        DataError: Not a whole file, or neither of the two.
    """
    path = Path(path)
    if not path.name.lower().endswith(".npz"):
        return _located(path, load_numpy(path, max_bytes), "", fps)
    shapes = shapes_of(path)
    cubes = [key for key, shape in shapes.items() if len(shape) == 3 and shape[2] == 3]
    if {"poses", "pose_body"} & set(shapes) or len(cubes) != 1:
        return read_amass(path, max_bytes)
    content = load_numpy(path, max_bytes, [*cubes, *RATES, "names", "parents"])
    rates = {key: number(path, content, key) for key in RATES if key in content}
    return _located(path, content, cubes[0], one_rate(path, rates) if rates else fps)


def _located(path: Path, content: dict[str, Any], key: str, fps: float) -> Located:
    value = content[key]
    if value.ndim == 2 and value.shape[1] in _FEATURES:
        n_joints = _FEATURES[value.shape[1]]
        raise DataError(
            f"{path}: features {value.shape} made of joints: give the joints (frames, {n_joints},"
            " 3), which lie beside them, or read numbers by ArrayDataModule"
        )
    if value.dtype.kind not in "fiu" or value.ndim != 3 or value.shape[2] != 3 or 0 in value.shape:
        raise DataError(
            f"{path}: an array of {value.dtype} {value.shape}, not places of joints (frames,"
            " joints, 3): frames of any other numbers are read by ArrayDataModule"
        )
    places = value.astype(np.float64)
    for t, j, _ in np.argwhere(~np.isfinite(places))[:1]:
        raise DataError(f"{path}: frame {t}, joint {j} is not finite: repair it")
    names, parents = _body(path, content, places.shape[1])
    lengths = np.zeros((1, places.shape[1]))
    if any(parent >= 0 for parent in parents):
        bones = places - places[:, [max(parent, 0) for parent in parents]]
        lengths = np.linalg.norm(bones, axis=2) * (np.array(parents) >= 0)
        size = lengths.mean(axis=0)
        varies = lengths.std(axis=0)[size > 0] / size[size > 0]
        if len(varies) and np.median(varies) > _STRETCH:
            raise DataError(
                f"{path}: bones vary by {np.median(varies):.0%} of their lengths, so that these are"
                f" no places of {len(names)} joints in the order {', '.join(names[:4])} ..: leave"
                " it out, or give names and parents in an .npz file"
            )
    offsets = np.zeros((len(names), 3))
    offsets[:, 1] = lengths.mean(axis=0)
    skeleton = Skeleton(names, parents, offsets, [], np.zeros((0, 3)), ["ZYX"] * len(names))
    turns = np.zeros((*places.shape[:2], 4))
    return Located(skeleton, places[:, 0], turns, fps, places).facing("y")


def _body(path: Path, content: dict[str, Any], n_joints: int) -> tuple[list[str], list[int]]:
    """Return names and parents of the joints; -1 for all parents where they are not known."""
    names, parents = [f"joint_{j}" for j in range(n_joints)], [-1] * n_joints
    if n_joints == len(_KIT):
        names, parents = list(_KIT), list(_KIT_PARENTS)
    if n_joints in (22, 24, 52, 55):
        names, parents = body_tree(n_joints)
    if "names" in content:
        names, parents = words(path, content, "names"), [-1] * n_joints
    if "parents" in content:
        if content["parents"].dtype.kind not in "iu":
            raise DataError(f"{path}: parents must be integers, not {content['parents'].dtype}")
        parents = [-1, *content["parents"].ravel()[1:].tolist()]
    if len(names) != n_joints or len(set(names)) != n_joints:
        raise DataError(f"{path}: {len(set(names))} names of {n_joints} joints: give each its own")
    if len(parents) != n_joints or any(not -1 <= p < j for j, p in enumerate(parents)):
        raise DataError(f"{path}: parents must be as many as joints, each before its children")
    return names, parents

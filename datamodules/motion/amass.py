"""Read and write AMASS motions (SMPL bodies), which are NumPy archives.

A file holds ``poses (T, 3 J)``, an exponential map for each joint of the body, ``trans (T, 3)`` and
the frame rate. Where there is no ``poses``, its parts are put together: ``root_orient``,
``pose_body``, ``pose_jaw``, ``pose_eye`` and ``pose_hand``. All else in a file, such as the markers
of SMPL-X, is passed over; files of a body's shape alone are no motion. Poses by the names of other
sources, such as ``body_pose``, are refused: nothing tells which way is up there. Where the joints
sit in the body follows from a body model that may not be passed on, so a skeleton read here has no
bones unless the file brings ``offsets (J, 3)``, the position of each joint in its parent (not part
of AMASS, but easily added by who has the model).

Conventions:
    As in `skeleton`; z is up, lengths are in metres, angles in radians. ``trans`` is the place of
    the root up to a constant that only the body model knows.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.arrays import load_numpy, number, shapes_of
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton

RATES = ("mocap_framerate", "mocap_frame_rate", "fps", "framerate", "frame_rate")
_PARTS = ("root_orient", "pose_body", "pose_jaw", "pose_eye", "pose_hand")
_KEYS = ("poses", "trans", "offsets", *RATES, *_PARTS)
_OTHERS = ("body_pose", "smpl_poses", "smplx_poses")  # of other sources
_TURNS = 1e4  # radians; more are damage
_BODY = ["pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2"]
_BODY += ["left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar"]
_BODY += ["right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow"]
_BODY += ["left_wrist", "right_wrist"]
_PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]
_FACE = ["jaw", "left_eye", "right_eye"]


def body_tree(n_joints: int) -> tuple[list[str], list[int]]:
    """Return names and parents of the bodies of 22, 24 (SMPL), 52 (SMPL+H) and 55 (SMPL-X)
    joints."""
    names, parents = list(_BODY), list(_PARENTS)
    if n_joints == 24:
        return [*names, "left_hand", "right_hand"], [*parents, 20, 21]
    if n_joints == 55:
        names, parents = names + _FACE, parents + [15] * 3
    if n_joints > 24:
        for side, wrist in (("left", 20), ("right", 21)):
            for finger in ("index", "middle", "pinky", "ring", "thumb"):
                for i in (1, 2, 3):
                    parents.append(wrist if i == 1 else len(names) - 1)
                    names.append(f"{side}_{finger}{i}")
    return names, parents


def is_motion(keys: Collection[str]) -> bool:
    """Tell whether arrays of these names are those of a motion, not of a body's shape alone."""
    poses = {"poses", "pose_body", *_OTHERS} & set(keys)
    return bool(poses) or not {"betas", "shape"} & set(keys)


def one_rate(path: Path, rates: dict[str, float]) -> float:
    """Return the frame rate that a file gives, once or by several names.

    Raises:
        DataError: It gives two that differ.
    """
    if len(set(rates.values())) > 1:
        said = ", ".join(f"{name} is {rate:g}" for name, rate in rates.items())
        raise DataError(f"{path}: {said}: leave the one that is right")
    return next(iter(rates.values()))


def read_amass(path: str | Path, max_bytes: int | None = None) -> Motion:
    """Read a motion from an AMASS ``.npz`` file.

    Args:
        path: File to read.
        max_bytes: What its arrays may take; see `Limit`.

    Raises:
        DataError: Not a whole archive, or not with poses, trans and a frame rate.
    """
    path = Path(path)
    content = load_numpy(path, max_bytes, _KEYS)
    rates = {key: number(path, content, key) for key in RATES if key in content}
    parts = [_numbers(path, content, key) for key in _PARTS if key in content]
    if "poses" not in content and "pose_body" in content and "root_orient" in content:
        if len({len(part) for part in parts}) != 1:
            raise DataError(f"{path}: {', '.join(_PARTS)} have different lengths: get it again")
        content["poses"] = np.concatenate(parts, axis=1)
    if not {"poses", "trans"} <= set(content) or not rates:
        keys = shapes_of(path)
        if not is_motion(keys):
            raise DataError(f"{path}: holds the shape of a body and no motion: leave it out")
        if other := next((key for key in _OTHERS if key in keys), None):
            raise DataError(
                f"{path}: has {other}, the name of poses that are not from AMASS, whose vertical"
                f" axis is not told: write poses, trans (z up) and {RATES[0]}"
            )
        raise DataError(
            f"{path}: no poses, trans and {RATES[0]}, so not AMASS: frames of any other numbers"
            " are read by ArrayDataModule"
        )
    fps = one_rate(path, rates)
    poses, trans = (_numbers(path, content, key) for key in ("poses", "trans"))
    n_joints = poses.shape[1] // 3
    if poses.shape[1] not in (66, 72, 156, 165) or trans.shape != (len(poses), 3):
        raise DataError(
            f"{path}: poses {poses.shape} and trans {trans.shape}, where a body has 22, 24, 52 or"
            " 55 joints of 3 numbers: leave it out"
        )
    for key, values in (("poses", poses), ("trans", trans)):
        for t, column in np.argwhere(~np.isfinite(values))[:1]:
            raise DataError(f"{path}: {key}, frame {t}, number {column} is not finite: repair it")
    for t, column in np.argwhere(np.abs(poses) > _TURNS)[:1]:
        raise DataError(
            f"{path}: poses, frame {t}, number {column} is {poses[t, column]:.3g}, no angle in"
            " radians: get the whole file again"
        )
    names, parents = body_tree(n_joints)
    offsets = np.zeros((n_joints, 3))
    if "offsets" in content:
        offsets = _numbers(path, content, "offsets")
        if offsets.shape != (n_joints, 3) or not np.isfinite(offsets).all():
            raise DataError(f"{path}: offsets {offsets.shape}, where {(n_joints, 3)} are needed")
    skeleton = Skeleton(names, parents, offsets, [], np.zeros((0, 3)), ["ZYX"] * n_joints)
    rotations = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat()
    return Motion(skeleton, trans, rotations.reshape(len(poses), n_joints, 4), fps)


def write_amass(path: Path, motion: Motion) -> None:
    """Write a motion as ``.npz``, which `read_amass` and players of AMASS read."""
    poses = Rotation.from_quat(motion.rotations.reshape(-1, 4)).as_rotvec()
    content: dict[str, Any] = {
        "poses": poses.reshape(len(motion.positions), -1),
        "trans": motion.positions,
        "mocap_framerate": np.array(motion.fps),
    }
    if motion.skeleton.size > 0:
        content["offsets"] = motion.skeleton.offsets
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **content)


def _numbers(path: Path, content: dict[str, Any], key: str) -> Array:
    value = content[key]
    if value.ndim == 3:  # (T, J, 3)
        value = value.reshape(len(value), -1)
    if value.dtype.kind not in "fiu" or value.ndim != 2 or 0 in value.shape:
        raise DataError(f"{path}: {key} is {value.dtype} {value.shape}, not numbers (T, n)")
    return np.asarray(value, dtype=np.float64)

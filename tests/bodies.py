"""Skeletons that tumble, to be encoded, written and read."""

from importlib.resources import files

import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.datamodules.motion.representation import (
    about_vertical,
    swing_twist,
)
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton

SAMPLES = MocapDataModule.shipped
EXPERIMENT = yaml.safe_load(files("rnade_lightning.configs").joinpath("motion.yaml").read_text())
PARTS: dict[str, list[str]] = EXPERIMENT["data"]["init_args"]["parts"]
"""Held-out takes of the shipped motion."""


BVH_TEXT = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Yposition Xposition Zposition Yrotation Xrotation Zrotation
  JOINT Left Leg
  {
    OFFSET 1 -2 0.5
    CHANNELS 3 Xrotation Zrotation Yrotation
    End Site
    {
      OFFSET 0 -3 0
    }
  }
  JOINT MOTION Head {
    OFFSET 0 2 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site { OFFSET 0 1 0 }
  }
}
MOTION
Frames: 2
Frame Time: 0.04
9 8 7 10 20 30 40 50 60 70 80 -90
9.5 8 7 11 20 30 40 50 60 70 80 -90
"""


def tumble(n_frames: int = 200, seed: int = 0) -> Motion:
    """Return three joints that turn at random, some far past half a turn, the root upright or
    so."""
    rng = np.random.default_rng(seed)
    skeleton = Skeleton(
        ["Hips", "Leg", "Head"],
        [-1, 0, 0],
        rng.normal(size=(3, 3)),
        [1],
        np.ones((1, 3)),
        ["ZYX"] * 3,
    )
    walk = np.cumsum(0.2 * rng.normal(size=(n_frames, 3, 3)), axis=0)
    walk[:, 0, ::2] *= 0.2
    rotations = Rotation.from_rotvec(walk.reshape(-1, 3)).as_quat().reshape(n_frames, 3, 4)
    return Motion(skeleton, np.cumsum(rng.normal(size=(n_frames, 3)), axis=0), rotations, 30.0)


def degrees_apart(a: np.ndarray, b: np.ndarray) -> float:
    """Return largest angle between two sets of rotations given as quaternions."""
    turn = Rotation.from_quat(a.reshape(-1, 4)).inv() * Rotation.from_quat(b.reshape(-1, 4))
    return float(np.degrees(turn.magnitude()).max())


def aligned(motion: Motion, start: int = 0) -> np.ndarray:
    """Return world points, moved so that frame ``start`` stands above the origin with heading
    zero."""
    heading, _ = swing_twist(Rotation.from_quat(motion.rotations[:, 0]))
    points = motion.points()[start:]
    points[..., ::2] -= motion.positions[start, ::2]
    flat = about_vertical(np.full(1, -heading[start])).apply(points.reshape(-1, 3))
    return np.asarray(flat.reshape(points.shape))

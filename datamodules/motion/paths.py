"""Turn a path on the ground into the changes of a root that follows it.

Conventions:
    As in `representation`: x to the left, z ahead, in file units; the heading is that of the path.
    A path is ``(T, 2)``, x and z of every frame.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.tables import read_csv
from rnade_lightning.datamodules.motion.representation import changes

SHAPES = ("circle", "line", "stop")
AXES = ("x", "z")
_STILL = 1e-6  # of the longest step: rounding, which has no direction
_TURNS = 8.0  # seconds that a circle takes


def shaped(shape: str, speed: float, n_frames: int, frame_rate: float) -> Array:
    """Return a path by its name: a circle that takes 8 s, a line, or a line that comes to rest half
    way.

    Args:
        shape: One of `SHAPES`.
        speed: In file units per second.
        n_frames: T.
        frame_rate: Frames per second.
    """
    t = np.arange(n_frames) / frame_rate
    if shape == "circle":
        radius, angle = speed * _TURNS / (2 * np.pi), 2 * np.pi * t / _TURNS
        return np.stack([radius * (1 - np.cos(angle)), radius * np.sin(angle)], axis=1)
    ahead = speed * t
    if shape == "stop":
        half = t[-1] / 2  # from there on slower and slower, for a second
        slow = np.clip(t - half, 0, 1)
        ahead = speed * (np.minimum(t, half) + slow - slow**2 / 2)
    return np.stack([0 * ahead, ahead], axis=1)


def read_path(path: Path, n_frames: int | None, frame_rate: float) -> Array:
    """Return the path of a CSV file with columns ``seconds``, ``x`` and ``z``: waypoints, with a
    smooth curve through them (a cubic Hermite curve that does not overshoot).

    Args:
        path: The file.
        n_frames: T; all of it if None. After its end the path stays where it is.
        frame_rate: Frames per second.

    Raises:
        DataError: It cannot be read, or is no such table.
    """
    from scipy.interpolate import PchipInterpolator

    values, names = read_csv(path)
    if names is None or not {"seconds", *AXES} <= set(names):
        raise DataError(f"{path}: a path has columns seconds, x and z, named in its first line")
    at = [names.index(name) for name in ("seconds", *AXES)]
    seconds, points = values[:, at[0]], values[:, at[1:]]
    if not np.isfinite(values).all() or len(seconds) < 2 or not (np.diff(seconds) > 0).all():
        raise DataError(f"{path}: give two waypoints or more, finite, with growing seconds")
    if n_frames is None:
        n_frames = int((seconds[-1] - seconds[0]) * frame_rate) + 1
    times = seconds[0] + np.arange(n_frames) / frame_rate
    return np.asarray(PchipInterpolator(seconds, points)(np.clip(times, None, seconds[-1])))


def along(path: Array) -> Array:
    """Return the changes ``(T, 3)`` of a root that follows a path ``(T, 2)`` and faces ahead: turn,
    left and ahead. The first frame has those of the second. Where the path stands still, the
    heading stays as it was."""
    if len(path) < 2:
        return np.zeros((len(path), 3))
    step = np.gradient(path, axis=0)
    way = np.linalg.norm(step, axis=1)
    moves = way > _STILL * way.max()
    heading = np.arctan2(step[:, 0], step[:, 1])
    last = np.maximum.accumulate(np.where(moves, np.arange(len(path)), 0))
    heading = np.unwrap(heading[last])
    places = np.stack([path[:, 0], 0 * path[:, 0], path[:, 1]], axis=1)
    found = changes(places, heading)
    return np.concatenate([found[:1], found])


def columns(found: Array, names: Sequence[str], means: Sequence[float]) -> Array:
    """Return controls ``(T, G)`` of these names, of changes of the root; others stay at their
    means."""
    of = {"root.turn": 0, "root.left": 1, "root.ahead": 2}
    if not set(of) & set(names):
        raise DataError(f"the controls {', '.join(names)} are none that a path tells")
    rest = np.tile(np.asarray(means, np.float64), (len(found), 1))
    for i, name in enumerate(names):
        if name in of:
            rest[:, i] = found[:, of[name]]
    return rest

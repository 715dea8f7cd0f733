"""Turn a path on the ground into the changes of a root that follows it.

Conventions:
    As in `representation`: x to the left, z ahead, in file units; the heading is that of the path.
    A path is ``(T, 2)``, x and z of every frame.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.beside import TIME, signals_at
from rnade_lightning.datamodules.motion.representation import changes

SHAPES = ("circle", "line", "stop")
AXES = ("x", "z")
CHANGES = ("root.turn", "root.left", "root.ahead")
"""Features that a path tells."""
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


def through(
    path: Path, values: Array, names: Sequence[str], n_frames: int | None, frame_rate: float
) -> Array:
    """Return a path through waypoints: a smooth curve (a cubic Hermite curve that does not
    overshoot).

    Args:
        path: The file, to name in an error.
        values: Its numbers, a line for a waypoint.
        names: Names of its columns, among them ``seconds``, ``x`` and ``z``.
        n_frames: T; all of it if None. After its end the path stays where it is.
        frame_rate: Frames per second.

    Raises:
        DataError: It holds no waypoints.
    """
    from scipy.interpolate import PchipInterpolator

    if TIME not in names:
        raise DataError(f"{path}: waypoints have columns {TIME}, x and z: add {TIME}")
    seconds, points = values[:, names.index(TIME)], values[:, [names.index(a) for a in AXES]]
    if not np.isfinite(values).all() or len(seconds) < 2 or not (np.diff(seconds) > 0).all():
        raise DataError(f"{path}: give two waypoints or more, finite, with growing {TIME}")
    if n_frames is None:
        n_frames = int((seconds[-1] - seconds[0]) * frame_rate) + 1
    times = seconds[0] + np.arange(n_frames) / frame_rate
    return np.asarray(PchipInterpolator(seconds, points)(np.clip(times, None, seconds[-1])))


def velocities(path: Path, values: Array, names: Sequence[str], frame_rate: float) -> Array:
    """Return the changes ``(T, 3)`` of a root with these velocities.

    Args:
        path: The file, to name in an error.
        values: Its numbers, a line for a time.
        names: Names of its columns: ``seconds``, and any of ``turn``, ``left`` and ``ahead``, in
            radians and file units a second. The others are 0.
        frame_rate: Frames per second.

    Raises:
        DataError: It holds no velocities.
    """
    if TIME not in names:
        raise DataError(f"{path}: velocities are those of times: add a column {TIME}")
    found, own = signals_at(path, values, list(names), None, frame_rate)
    changes, which = np.zeros((len(found), 3)), [name.removeprefix("root.") for name in CHANGES]
    for i, name in enumerate(which):
        if name in own:
            changes[:, i] = found[:, own.index(name)] / frame_rate
    return changes


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


def walked(
    changes: npt.ArrayLike, heading: npt.ArrayLike = 0.0, place: npt.ArrayLike = (0.0, 0.0)
) -> tuple[Array, Array]:
    """Return the headings ``(..., T)`` and the path ``(..., T, 2)`` of roots with these changes.

    Args:
        changes: Turn, left and ahead of every frame, ``(..., T, 3)``.
        heading: Heading of the frame before the first, ``(...)``, radians.
        place: Its place, x and z, ``(..., 2)``.
    """
    turn, left, ahead = np.moveaxis(np.asarray(changes, np.float64), -1, 0)
    after = np.asarray(heading)[..., None] + np.cumsum(turn, axis=-1)
    before = after - turn
    cos, sin = np.cos(before), np.sin(before)
    steps = np.stack([cos * left + sin * ahead, cos * ahead - sin * left], axis=-1)
    return after, np.asarray(place)[..., None, :] + np.cumsum(steps, axis=-2)


def columns(found: Array, names: Sequence[str], means: Sequence[float]) -> Array:
    """Return controls ``(T, G)`` of these names, of changes of the root; others stay at their
    means."""
    of = dict(zip(CHANGES, range(3), strict=True))
    if not set(of) & set(names):
        raise DataError(f"the controls {', '.join(names)} are none that a path tells")
    rest = np.tile(np.asarray(means, np.float64), (len(found), 1))
    for i, name in enumerate(names):
        if name in of:
            rest[:, i] = found[:, of[name]]
    return rest

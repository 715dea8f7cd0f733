"""Measure takes: the level of the ground, how tall what moves stands, and how long its legs are.

Conventions:
    Points are ``(T, P, 3)`` in the units and the world of a file.
"""

from typing import Any

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.motion.metrics import feet_of
from rnade_lightning.datamodules.motion.skeleton import Skeleton

_FRAMES = 200  # of a take that are looked at
_LOW, _HIGH = 5, 90  # percentiles over frames: a jump or a fall does not count

_UNITS = [(1.2, 2.3, "metres"), (48, 90, "inches"), (120, 230, "centimetres")]
_UNITS += [(1200, 2300, "millimetres")]


def some_of(n_frames: int) -> Any:
    """Return a slice that takes a few of so many frames, evenly spread."""
    return slice(None, None, max(n_frames // _FRAMES, 1))


def ground_of(points: Array, up: str) -> float:
    """Return the level of the ground: that of the lowest point, in the lower frames."""
    return float(np.percentile(points[..., "xyz".index(up)].min(axis=1), _LOW))


def tall_of(points: Array, up: str) -> float:
    """Return the height of what moves, from its lowest to its highest point."""
    heights = np.ptp(points[..., "xyz".index(up)], axis=1)
    return float(np.percentile(heights, _HIGH))


def leg_length(skeleton: Skeleton) -> float:
    """Return the summed length of the bones from the root to a foot, the mean over the legs; 0
    without any, or where bones are not known.

    A foot is the first joint on its way from the root that is called one; see `feet_of`. Of bodies
    of several sizes, steps over this length are alike (Hof, *Scaling gait data to body size*,
    1996).
    """
    feet, lengths = set(feet_of(skeleton)), np.linalg.norm(skeleton.offsets, axis=1)
    found = []
    for foot in sorted(feet & set(range(1, len(skeleton.names)))):
        way = [foot]
        while way[-1] > 0:
            way.append(skeleton.parents[way[-1]])
        if not feet & set(way[1:]):
            found.append(lengths[way[:-1]].sum())
    return float(np.mean(found)) if found else 0.0


def likely_unit(tall: float) -> str | None:
    """Return the unit of length in which a height is that of a person, if there is one.

    >>> likely_unit(1.74), likely_unit(174.0), likely_unit(9.0)
    ('metres', 'centimetres', None)
    """
    return next((unit for low, high, unit in _UNITS if low <= tall <= high), None)

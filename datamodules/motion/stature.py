"""Measure takes: the level of the ground, and how tall what moves stands.

Conventions:
    Points are ``(T, P, 3)`` in the units and the world of a file.
"""

from typing import Any

import numpy as np

from rnade_lightning.datamodules.core import Array

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


def likely_unit(tall: float) -> str | None:
    """Return the unit of length in which a height is that of a person, if there is one.

    >>> likely_unit(1.74), likely_unit(174.0), likely_unit(9.0)
    ('metres', 'centimetres', None)
    """
    return next((unit for low, high, unit in _UNITS if low <= tall <= high), None)

"""Many rotations at once: Euler angles to quaternions to exponential maps.

SciPy does the same, ten times slower (1.17); what is done once a file stays with it.

Conventions:
    Quaternions are ``(..., 4)``, scalar last (x, y, z, w), of length one. Exponential maps are
    ``(..., 3)``, radians.
"""

import numpy as np

from rnade_lightning.datamodules.core import Array


def from_euler(order: str, angles: Array) -> Array:
    """Quaternions ``(..., 4)`` of Euler angles ``(..., 3)`` in degrees.

    Args:
        order: Axes of the angles, such as ``"ZYX"`` for R = Rz Ry Rx on column vectors.
        angles: The angles, in the same order.
    """
    half = np.radians(np.moveaxis(angles, -1, 0)) / 2
    cosine, sine = np.cos(half), np.sin(half)
    x, w = [np.zeros_like(half[0]) for _ in range(3)], cosine[0]
    x["XYZ".index(order[0])] = sine[0]
    for axis, c, s in zip(order[1:], cosine[1:], sine[1:], strict=True):
        k = "XYZ".index(axis)  # times the quaternion (s e_k, c), e_i x e_j = e_k
        i, j = (k + 1) % 3, (k + 2) % 3
        x[i], x[j] = c * x[i] + s * x[j], c * x[j] - s * x[i]
        x[k], w = c * x[k] + s * w, c * w - s * x[k]
    return np.stack([*x, w], axis=-1)


def to_maps(quaternions: Array) -> Array:
    """Exponential maps ``(..., 3)``, none longer than half a turn."""
    x, y, z, w = np.moveaxis(quaternions, -1, 0)
    sine = np.sqrt(x * x + y * y + z * z)  # of half the angle
    with np.errstate(invalid="ignore"):
        angle_by_sine = np.where(sine > 0, 2 * np.arctan2(sine, np.abs(w)) / sine, 2.0)
    factor = np.where(w < 0, -angle_by_sine, angle_by_sine)
    return np.stack([factor * x, factor * y, factor * z], axis=-1)

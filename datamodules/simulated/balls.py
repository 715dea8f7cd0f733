"""Simulate bouncing balls: pictures of equal discs that collide with walls and with each other.

The standard task of recurrent models of pictures (Sutskever, Hinton and Taylor 2008, and those
after them): balls of radius 1.2 in a box of side 10 move without friction; directions and speeds
are random, and the velocities of all balls together have length 0.5 per frame.

Motion is exact. From collision to collision balls move on straight lines; the time of the next
collision solves a linear equation (wall) or a quadratic one (pair), and the earliest of all is
taken, in all sequences at once. Equal masses exchange their velocities along the line of centres,
which keeps energy and momentum.

Conventions:
    Positions and velocities are ``(B, N, 2)``: sequences, balls, and across, down. Lengths are in
    tenths of the side of the box, times in frames. Pictures are ``(.., res, res)``, row first, from
    0 (nothing) to 1 (ball); a frame is a picture row by row.
"""

from pathlib import Path
from typing import Any

import numpy as np

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.files import with_ending
from rnade_lightning.datamodules.core.pictures import write_pictures
from rnade_lightning.datamodules.simulated.process import SimulatedDataModule

SIDE = 10.0
RADIUS = 1.2
SPEED = 0.5
"""Length of the velocities of all balls of a sequence, taken as one vector."""


def bounce(positions: Array, velocities: Array, duration: float) -> tuple[Array, Array]:
    """Return positions and velocities after a time, ``(B, N, 2)`` each.

    Args:
        positions: Centres, inside the walls and apart from each other, ``(B, N, 2)``.
        velocities: Distance per unit of time, ``(B, N, 2)``.
        duration: Time to move for.
    """
    positions, velocities = positions.copy(), velocities.copy()
    first, second = np.triu_indices(positions.shape[1], k=1)
    rows = np.arange(len(positions))
    left = np.full(len(positions), duration)
    while len(rows):
        x, v = positions[rows], velocities[rows]
        walls = _until_wall(x, v).reshape(len(rows), -1)  # (b, 2 N)
        pairs = _until_contact(x[:, first] - x[:, second], v[:, first] - v[:, second])
        times = np.concatenate([walls, pairs], axis=1)
        which = times.argmin(axis=1)
        step = np.minimum(times[np.arange(len(rows)), which], left[rows])
        positions[rows] += v * step[:, None, None]
        collides = step < left[rows]
        left[rows] -= step
        rows, which = rows[collides], which[collides]
        wall, n_walls = which < walls.shape[1], walls.shape[1]
        ball, axis = np.divmod(which[wall], 2)
        velocities[rows[wall], ball, axis] *= -1
        pair, b = which[~wall] - n_walls, rows[~wall]
        one, other = first[pair], second[pair]
        normal = positions[b, one] - positions[b, other]
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        along = np.sum((velocities[b, one] - velocities[b, other]) * normal, axis=-1)
        velocities[b, one] -= along[:, None] * normal
        velocities[b, other] += along[:, None] * normal
    return positions, velocities


def _until_wall(x: Array, v: Array) -> Array:
    """Return the time until each ball meets the wall it moves to, across and down, ``(B, N,
    2)``."""
    distance = np.where(v > 0, SIDE - RADIUS - x, x - RADIUS)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(v == 0, np.inf, np.maximum(distance, 0) / np.abs(v))


def _until_contact(gap: Array, speed: Array) -> Array:
    """Return the time until pairs touch, ``(B, P)``: the first root of |gap + t speed| = 2 radii.

    Only pairs that come closer can touch, so the pair that has just collided is never taken twice.
    """
    closing = -np.sum(gap * speed, axis=-1)
    squared = np.maximum(np.sum(speed**2, axis=-1), 1e-300)
    excess = np.maximum(np.sum(gap**2, axis=-1) - (2 * RADIUS) ** 2, 0)  # below 0 by rounding only
    under_root = closing**2 - squared * excess
    meets = (closing > 0) & (under_root > 0)
    time = np.full(closing.shape, np.inf)
    time[meets] = excess[meets] / (closing[meets] + np.sqrt(under_root[meets]))
    return time


def start(n_sequences: int, n_balls: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return random positions, apart from each other, and velocities, ``(B, N, 2)`` each."""
    velocities = rng.standard_normal((n_sequences, n_balls, 2))
    velocities *= SPEED / np.linalg.norm(velocities, axis=(1, 2), keepdims=True)
    positions = np.empty_like(velocities)
    first, second = np.triu_indices(n_balls, k=1)
    rows = np.arange(n_sequences)
    while len(rows):  # draws anew where balls overlap
        positions[rows] = rng.uniform(RADIUS, SIDE - RADIUS, (len(rows), n_balls, 2))
        apart = np.linalg.norm(positions[rows][:, first] - positions[rows][:, second], axis=-1)
        rows = rows[(apart < 2 * RADIUS).any(axis=1)]
    return positions, velocities


def draw(positions: Array, resolution: int) -> Array:
    """Draw pictures of balls, ``(..., N, 2)`` to ``(..., res, res)``.

    A ball's intensity at distance d is exp(-(d / radius)^8), a disc with a soft edge; balls add up.
    """
    pixel = (np.arange(resolution) + 0.5) * SIDE / resolution
    across = (pixel - positions[..., 0, None]) ** 2  # (..., N, res)
    down = (pixel - positions[..., 1, None]) ** 2
    distance = down[..., :, None] + across[..., None, :]  # (..., N, res, res), squared
    return np.minimum(np.exp(-((distance / RADIUS**2) ** 4)).sum(axis=-3), 1.0)


class BallsDataModule(SimulatedDataModule):
    """Pictures of bouncing balls, drawn from a seed.

    Args:
        root: Saved frames (.npz) to use. Without it, sequences are simulated.
        n_train: Training sequences.
        n_val: Validation sequences.
        n_test: Test sequences.
        n_frames: Frames of each sequence.
        resolution: Pixels along a side; a frame has the square of that.
        n_balls: Balls in the box, at most 5.
        standardise: Scale pixels to mean 0 and deviation 1; by default they stay in [0, 1].
        **kwargs: See `FrameDataModule`; its options that split files do nothing where sequences are
            simulated.
    """

    fps = 30.0
    reader_version = 1

    def __init__(
        self,
        root: str | None = None,
        n_train: int = 500,
        n_val: int = 20,
        n_test: int = 100,
        n_frames: int = 128,
        resolution: int = 15,
        n_balls: int = 3,
        standardise: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, n_train, n_val, n_test, n_frames, standardise=standardise, **kwargs)
        self.resolution, self.n_balls = resolution, n_balls
        if not 4 <= resolution <= 256 or not 1 <= n_balls <= 5:
            raise DataError("resolution must be from 4 to 256 and n_balls from 1 to 5")

    @property
    def names(self) -> list[str]:
        """Return the names of the raw features."""
        side = range(self.resolution)
        return [f"pixel_{row}_{column}" for row in side for column in side]

    def simulate(self, n_sequences: int, rng: np.random.Generator) -> Array:
        """Draw sequences, ``(n_sequences, n_frames, res * res)``."""
        positions, velocities = start(n_sequences, self.n_balls, rng)
        frames = np.empty((n_sequences, self.n_frames, self.resolution**2))
        for t in range(self.n_frames):
            frames[:, t] = draw(positions, self.resolution).reshape(n_sequences, -1)
            positions, velocities = bounce(positions, velocities, 1.0)
        return frames

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Write ``.npz`` and a film (see `write_pictures`), intensities cut off at 0 and 1."""
        gif = with_ending(stem, "gif")
        pictures = raw.reshape(len(raw), self.resolution, self.resolution)
        return [*super().write(raw, stem), *write_pictures(gif, pictures, self.fps)]

"""Small simulated data."""

import numpy as np

from rnade_lightning.datamodules.simulated.balls import (
    BallsDataModule,
)
from rnade_lightning.datamodules.simulated.trajectory import (
    TrajectoryDataModule,
)


def gaps(positions: np.ndarray) -> np.ndarray:
    """Return distances of all pairs of balls, ``(B, P)``."""
    first, second = np.triu_indices(positions.shape[1], k=1)
    return np.asarray(np.linalg.norm(positions[:, first] - positions[:, second], axis=-1))


def small(kind: str, **more: object) -> TrajectoryDataModule | BallsDataModule:
    sizes = {"n_train": 3, "n_val": 2, "n_test": 2, "n_frames": 20, "window": 10}
    if kind == "balls":  # long enough for every pixel to vary
        sizes |= {"n_train": 10, "n_frames": 60, "resolution": 5}
        return BallsDataModule(**(sizes | more))  # type: ignore[arg-type]
    return TrajectoryDataModule(**(sizes | more))  # type: ignore[arg-type]

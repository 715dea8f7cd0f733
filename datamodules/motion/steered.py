"""Say where a root is to go: as controls of a body that is given its path, or as a path to follow.

A model that is given how the root moves (``--data.control root.*``) walks any path exactly. One
that models the root itself can only be drawn toward a path; a `Way` tells how far from it a motion
is.

Conventions:
    As in `paths`. A motion starts at the origin, with heading 0, and so does a path: straight
    ahead.
"""

from abc import ABC
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.given import Given
from rnade_lightning.datamodules.motion.measured import MeasuredDataModule
from rnade_lightning.datamodules.motion.paths import (
    AXES,
    CHANGES,
    SHAPES,
    along,
    columns,
    shaped,
    through,
    velocities,
    walked,
)
from rnade_lightning.datamodules.motion.skeleton import Skeleton

_ERROR = 0.03  # of the body's bones: about 10 cm, the standard error of a root beside its path
_OUTLOOK = (0.5, 1.0)  # seconds ahead at which a root that keeps its speed is compared with it


@dataclass(frozen=True)
class Way:
    """A path that roots which are modelled are to follow.

    Attributes:
        data: What the frames are of.
        path: The path, ``(T, 2)``, in file units.
        changes: Turn, left and ahead of a root on it, ``(T, 3)``.
    """

    data: "SteeredDataModule"
    path: Array
    changes: Array

    @property
    def n_frames(self) -> int:
        """Return T."""
        return len(self.path)

    def beyond(self) -> list[str]:
        """Return a line on each change of the root in which it goes beyond training frames."""
        return self.data.moves.beyond(self.changes[1:])

    def render(
        self,
        frames: torch.Tensor,
        stem: str | Path,
        given: Array | None = None,
        context: torch.Tensor | None = None,
    ) -> list[Path]:
        """Write frames as files, the path drawn where they begin to follow it; see
        `FrameDataModule.render`."""
        self.data.wanted = self.placed(frames)
        try:
            return self.data.render(frames, stem, given, context)
        finally:
            self.data.wanted = None

    def placed(self, frames: torch.Tensor) -> Array:
        """Return the path in the world of frames ``(T0 + T, D)`` of which the last T follow it."""
        changes = self.data.root_changes(frames)
        changes[0] = 0.0
        heading, places = walked(changes)
        first = len(frames) - self.n_frames
        cos, sin = np.cos(heading[first]), np.sin(heading[first])
        x, z = self.path.T
        return np.asarray(places[first] + np.stack([cos * x + sin * z, cos * z - sin * x], axis=1))

    def fit(
        self, frames: torch.Tensor, start: int, before: Array | None
    ) -> tuple[Array, Array, Array]:
        """Tell how well stretches of motion follow the path.

        Args:
            frames: Standardised, ``(N, n, D)``.
            start: Number of their first frame.
            before: Heading and place of the roots before it, ``(N, 3)``; None at the start.

        Returns:
            The log density of the path as an observation of the places of the roots with a normal
            error, up to a constant, its mean over the frames, ``(N,)``. The same of where they
            will be if they keep their speed, with an error that grows. Heading and place of the
            roots after these frames, ``(N, 3)``.
        """
        n, rate = frames.shape[1], self.data.frame_rate
        changes = self.data.root_changes(frames)
        if before is None:  # a first frame has no change
            changes[:, 0], before = 0.0, np.zeros((len(frames), 3))
        heading, places = walked(changes, before[:, 0], before[:, 1:])
        now = self._log_p(places, self.path[start : start + n], 1.0).mean(1)
        last, later = start + n - 1, np.zeros(len(frames))
        speed = (places[:, -1] - places[:, 0]) / max(n - 1, 1)
        for seconds in _OUTLOOK:
            then = min(last + round(seconds * rate), len(self.path) - 1)
            there = places[:, -1] + (then - last) * speed
            later += self._log_p(there, self.path[then], 1 + 2 * seconds) / len(_OUTLOOK)
        return now, later, np.concatenate([heading[:, -1:], places[:, -1]], axis=1)

    def _log_p(self, places: Array, path: Array, growth: float) -> Array:
        """Return log p of a path ``(..., 2)`` beside places ``(N, ..., 2)``, up to a constant."""
        miss = np.linalg.norm(places - path, axis=-1) / self.data.size
        return np.asarray(-0.5 * (miss / (growth * _ERROR)) ** 2)


class SteeredDataModule(MeasuredDataModule, ABC):
    """Frames of a body, which can be told where to go."""

    control_hint = (
        f"{', '.join(SHAPES)}, a file of motion, or a .csv with seconds, and x and z, or any of"
        " turn, left and ahead"
    )

    wanted: Array | None = None
    """Path that pictures draw beside a motion, ``(T, 2)``."""

    @property
    def size(self) -> float:
        """Return the summed length of the bones, in file units; 1 if there are none."""
        state = self.layout.get("skeleton") or self.layout.get("places")
        return (Skeleton.from_state(state).size if state else 0.0) or 1.0

    def root_changes(self, frames: torch.Tensor) -> Array:
        """Return turn, left and ahead ``(..., T, 3)``, in their units, of standardised frames
        ``(..., T, D)`` of which they are features."""
        raw = self._fitted()[0].backward(frames)
        return np.array(raw[..., self.moves.columns])

    def way(self, what: str, n_frames: int | None, default_frames: int) -> Way:
        """Return the path that something tells; see `controls`.

        Raises:
            DataError: The root is not modelled by its changes, or it tells no path.
        """
        return self.way_along(self._controls(self.moves, what, n_frames, default_frames))

    def way_along(self, changes: Array) -> Way:
        """Return the path of a root with these changes ``(T, 3)``; the first is not used."""
        return Way(self, walked(np.concatenate([0 * changes[:1], changes[1:]]))[1], changes)

    @property
    def moves(self) -> Given:
        """Return the changes of the root, which are modelled, as if they were given."""
        names, how = self.feature_names, self._fitted()[0]
        if missing := set(CHANGES) - set(names):
            raise DataError(
                f"the model has no {min(missing)}, and is given none: leave --control out"
            )
        every, reach = self._fitted()[1].feature_names, self.layout.get("reach", [])
        at = [every.index(name) for name in CHANGES]
        mean, std = ([float(x[i]) for i in at] for x in (how.mean, how.std))
        far = [reach[names.index(name)] if reach else np.inf for name in CHANGES]
        ends = [[m - f * s, m + f * s] for m, s, f in zip(mean, std, far, strict=True)]
        return Given(list(CHANGES), at, mean, std, {}, (0, 0), ends)

    def _controls(
        self, given: Given, what: str, n_frames: int | None, default_frames: int
    ) -> Array:
        """Return the controls that something tells; see `WithContext.controls`. A path may be named
        (`paths.SHAPES`), at the mean speed of the training data."""
        if what not in SHAPES:
            return super()._controls(given, what, n_frames, default_frames)
        rate = self.frame_rate
        speed = abs(dict(zip(given.names, given.mean, strict=True)).get("root.ahead", 0.0))
        path = shaped(what, speed * rate, n_frames or default_frames, rate)
        return columns(along(path), given.names, given.mean)

    def _controls_in(
        self, given: Given, path: Path, values: Array, names: list[str], n_frames: int | None
    ) -> Array | None:
        """Return the controls in a table: also of waypoints, with columns ``seconds``, ``x`` and
        ``z`` (left and ahead, in file units), or of velocities, ``seconds`` and any of ``turn``,
        ``left`` and ``ahead`` (radians and file units a second)."""
        if set(AXES) <= set(names):
            found = along(through(path, values, names, n_frames, self.frame_rate))
        elif {name.removeprefix("root.") for name in CHANGES} & set(names):
            found = velocities(path, values, names, self.frame_rate)
        else:
            return super()._controls_in(given, path, values, names, n_frames)
        return columns(found, given.names, given.mean)

"""Say where a root is to go: as controls of a body that is given its path, or as a path to follow.

A model that is given how the root moves (``--data.control root.*``) walks any path exactly. One
that models the root itself can only be drawn toward a path; a `Way` tells how far from it a motion
is.

Conventions:
    As in `paths`. A motion starts at the origin, with heading 0, and so does a path: straight
    ahead.
"""

from abc import ABC
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.given import Given
from rnade_lightning.datamodules.motion.measured import MeasuredDataModule
from rnade_lightning.datamodules.motion.outlook import Outlook
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

_ERROR = 0.01  # of the body's bones: about 3.5 cm, the standard error of a root beside its path
_STRETCH, _AHEAD = 0.25, 4  # seconds between weights; stretches that a prediction looks ahead
_LEARNT, _RUN_UP = 12, 8  # stretches drawn freely to learn from, and before a path begins
_START = 0.1  # seconds from whose course a path is followed back


@dataclass(frozen=True)
class Way:
    """A path that roots which are modelled are to follow.

    Attributes:
        data: What the frames are of.
        path: The path, ``(T, 2)``, in file units.
        changes: Turn, left and ahead of a root on it, ``(T, 3)``.
        n_before: Frames of a run-up, at the velocity with which the path begins. What follows it
            starts anew, on the path, wherever the run-up ended.
        outlook: Tells where roots will be; None for nothing.
    """

    data: "SteeredDataModule"
    path: Array
    changes: Array
    n_before: int = 0
    outlook: Outlook | None = None

    @property
    def n_frames(self) -> int:
        """Return T."""
        return len(self.path)

    @property
    def n_stretch(self) -> int:
        """Return the frames of a stretch."""
        return max(round(_STRETCH * self.data.frame_rate), 1)

    @property
    def n_learnt(self) -> int:
        """Return the frames, drawn freely, to learn from."""
        return _LEARNT * self.n_stretch

    @property
    def features(self) -> list[int]:
        """Return the features by which a root is steered."""
        return [self.data.feature_names.index(name) for name in CHANGES]

    def with_run_up(self) -> "Way":
        """Return this path, and two seconds before it."""
        return replace(self, n_before=_RUN_UP * self.n_stretch)

    def learnt(self, frames: torch.Tensor, noise: torch.Tensor) -> "Way":
        """Return this path, with an outlook by motion that was drawn freely.

        Args:
            frames: Standardised, ``(N, T, D)``.
            noise: Random numbers of `features`, ``(N, T, 3)``.
        """
        changes, drawn = self.data.root_changes(frames), np.asarray(noise, np.float64)
        return replace(self, outlook=Outlook.learnt(changes, drawn, self.n_stretch, _AHEAD))

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

    def begun(self, n: int) -> Array:
        """Return what is known of N roots before the first frame, ``(N, 6)``: heading, place, and
        mean turn, left and ahead of the last stretch. They face where the run-up leads."""
        place, heading = self.path[0], 0.0
        if self.n_before:
            place, after = self._at(np.array([-self.n_before - 1, -self.n_before]))
            heading = np.arctan2(*(after - place))
        return np.tile([heading, *place, *self.data.moves.mean], (n, 1))

    def fit(self, frames: torch.Tensor, start: int, before: Array) -> tuple[Array, Array, Array]:
        """Tell how well a stretch of motion follows the path.

        Args:
            frames: Standardised, ``(N, n, D)``.
            start: Number of their first frame; below 0 in the run-up.
            before: What is known of the roots before it, ``(N, 6)``; see `begun`.

        Returns:
            The log density of the path as an observation of the places of the roots with a normal
            error, up to a constant, its mean over the frames, ``(N,)``. The same of the path ahead,
            by the outlook. What is known of the roots after these frames, ``(N, 6)``.
        """
        n = frames.shape[1]
        changes = self.data.root_changes(frames)
        recent = changes[:, int(start == 0 and n > 1) :].mean(1)
        if start == 0:  # a first frame has no change
            changes[:, 0] = 0.0
        heading, places = walked(changes, before[:, 0], before[:, 1:3])
        miss = np.linalg.norm(places - self._at(np.arange(start, start + n)), axis=-1)
        now = -0.5 * np.square(miss / self._error).mean(1)
        known = np.concatenate([heading[:, -1:], places[:, -1], recent], axis=1)
        if start + n == 0:
            known[:, :3] = [0.0, *self.path[0]]
        later = np.zeros_like(now)
        if self.outlook is not None:
            ahead = self._ahead(known, start + n)
            later = self.outlook.log_p(recent, ahead, self._error)
        return now, later, known

    def slopes(self, start: int, before: Array) -> Array:
        """Return by how much random numbers of `features` lead to the path ahead: the gradient by
        them ``(N, 3)`` of what `fit` promises. ``start`` and ``before`` are those of `fit`."""
        assert self.outlook is not None
        return self.outlook.slopes(before[:, 3:], self._ahead(before, start), self._error)

    @property
    def _error(self) -> float:
        return _ERROR * self.data.size

    def _at(self, frames: npt.NDArray[np.int_]) -> Array:
        """Return the places of the path ``(n, 2)`` at frames; it is followed back before 0."""
        last = min(max(round(_START * self.data.frame_rate), 1), len(self.path) - 1)
        velocity = (self.path[last] - self.path[0]) / max(last, 1)
        before = np.minimum(frames, 0)[:, None] * velocity
        return np.asarray(self.path[np.maximum(frames, 0)] + before)

    def _ahead(self, known: Array, start: int) -> Array:
        """Return the path after each stretch from a frame on, as roots see it that are known before
        it, ``(N, h, 2)``."""
        at = start - 1 + self.n_stretch * np.arange(1, _AHEAD + 1)
        x, z = np.moveaxis(self._at(at[at < self.n_frames]) - known[:, None, 1:3], -1, 0)
        cos, sin = np.cos(known[:, :1]), np.sin(known[:, :1])
        return np.stack([cos * x - sin * z, sin * x + cos * z], axis=-1)


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

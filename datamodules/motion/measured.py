"""Measure frames of motion: metrics of one motion, figures of samples, and what leaves the data."""

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.sequences import Split
from rnade_lightning.datamodules.motion.metrics import (
    Limits,
    angles_of,
    feet_of,
    find_limits,
    motion_figures,
)
from rnade_lightning.datamodules.motion.representation import (
    TO_Y_UP,
    RootMotion,
    decode,
    encode,
    points_of,
)
from rnade_lightning.datamodules.motion.sample_figures import Body, Moving, SampleFigures
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton
from rnade_lightning.datamodules.motion.turning import TurningDataModule, unturned

_AWAY = 1.25  # times as far as any training frame
_LIMIT_FRAMES = 50_000  # training frames, at most, that limits of motion are found from


class MeasuredDataModule(TurningDataModule, ABC):
    """Frames of a body, which can be measured."""

    root_motion: RootMotion
    figures_note = (
        "Seconds with data: until the first bad second. Frechet and speed distances: 0 is that of"
        " the data. Spread, nearest, speed and jerk: over those of held-out data. Auc: of a"
        " classifier that tells 2 s of samples from data, 0.5 at best."
    )

    def __init__(self, root: str | None = None, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self._limits: Limits | None = None
        self._figures: dict[str, SampleFigures] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read all files; see `FrameDataModule`. Note how far training frames reach."""
        fresh = self._reference is None
        super().setup(stage)
        if fresh and self._reference is not None:
            most = [s.frames.abs().amax(0) for s in self.sequences("train") if len(s.frames)]
            reach = torch.stack(most).amax(0).clamp(min=1).tolist()
            layout = self._reference.layout | {"reach": reach}
            self._reference = self._reference._replace(layout=layout)

    def metrics(self, frames: torch.Tensor | npt.ArrayLike) -> dict[str, float]:
        """Return foot skate and joint limits of a motion, beside those of the test data.

        Args:
            frames: Standardised frames, ``(T, D)``.

        Returns:
            ``foot_skate`` and ``joint_limit`` (see `metrics`), and those of the test data, ending
            in ``_of_data``; empty for data without a skeleton.
        """
        state = self.layout.get("skeleton")
        if state is None or not np.any(state["offsets"]):
            return {}
        skeleton = Skeleton.from_state(state)
        feet, n = feet_of(skeleton), 0
        if self._limits is None:
            points, angles = [], []
            for sequence in self.sequences("train"):
                known = sequence.with_context()
                parts = self._points_and_angles(self.destandardise(known))
                points.append(parts[0])
                angles += [] if parts[1] is None else [parts[1]]
                n += len(known)
                if n >= _LIMIT_FRAMES:
                    break
            self._limits = find_limits(points, angles, feet)
        both = self._points_and_angles(self.destandardise(frames))
        found = motion_figures(*both, self.frame_rate, feet, self._limits)
        held_out = []
        for sequence in self.sequences("test"):
            known = sequence.with_context()
            parts = self._points_and_angles(self.destandardise(known))
            known_figures = motion_figures(*parts, self.frame_rate, feet, self._limits)
            held_out.append((len(known), known_figures))
        for key in list(found):
            pairs = [(n, f[key]) for n, f in held_out if np.isfinite(f[key])]
            mean = sum(n * f for n, f in pairs) / sum(n for n, _ in pairs) if pairs else np.nan
            found[f"{key}_of_data"] = float(mean)
        return found

    def places(self, frames: torch.Tensor | npt.ArrayLike) -> Array:
        """Return the places of joints and end sites of standardised frames, with y up, ``(T, P,
        3)``, for data with a skeleton. Where the root is modelled by its changes, the first frame
        stands at the origin."""
        return self._points(self.destandardise(frames))

    def leaves(self, frames: torch.Tensor) -> str | None:
        """Return the feature whose mean over the frames is furthest out of what training frames
        reach, if it is `_AWAY` times as far from their mean."""
        if (why := super().leaves(frames)) or "reach" not in self.layout:
            return why
        reach = torch.tensor(self.layout["reach"], dtype=frames.dtype, device=frames.device)
        ratio = frames[:, : len(reach)].mean(0).abs() / reach  # a context may stand behind them
        furthest = int(ratio.argmax())
        if ratio[furthest] <= _AWAY:
            return None
        return f"{self.feature_names[furthest]} is {ratio[furthest]:.2g} times as far out as ever"

    @property
    def measures_samples(self) -> bool:  # type: ignore[override]
        """Return whether `sample_figures` has any of these data."""
        return self._body() is not None

    def sample_figures(
        self,
        samples: Mapping[str, Sequence[torch.Tensor]],
        one_step: Iterable[torch.Tensor] = (),
        split: Split = "test",
        prefixes: Mapping[str, Sequence[torch.Tensor]] | None = None,
    ) -> dict[str, dict[str, float]]:
        """Return the figures of `sample_figures` of each set of samples, and of held-out data.
        Empty for data without a skeleton, and for channels of the file or a root with a place. A
        motion does not depend on what it continues."""
        body = self._body()
        if body is None:
            return {}
        if split not in self._figures:
            known, n = [], 0
            for sequence in self.sequences("train"):
                known.append(self._moving(body, sequence.with_context()))
                n += len(sequence.frames)
                if n >= _LIMIT_FRAMES:
                    break
            held_out = [self._moving(body, s.with_context()) for s in self.sequences(split)]
            self._figures[split] = SampleFigures(body, known, held_out)
        figures = self._figures[split]
        pairs = [self._moving(body, frames) for frames in one_step]
        found = {
            name: figures.of([self._moving(body, frames) for frames in some], pairs)
            for name, some in samples.items()
        }
        return found | {"held-out data": figures.of_held_out()}

    def _body(self) -> Body | None:
        """Return what moves, if its places can be told from frames."""
        layout = self.layout
        state = layout.get("skeleton") or layout.get("places")
        if state is None or self.root_motion != "velocity" or self.representation == "raw":
            return None
        skeleton = Skeleton.from_state(state)
        return Body(skeleton, self.frame_rate, feet_of(skeleton)) if skeleton.size else None

    def _moving(self, body: Body, frames: torch.Tensor) -> Moving:
        """Return the places and angles of standardised frames."""
        raw = self.destandardise(frames)
        if self.representation == "positions" or "places" in self.layout:
            return Moving(body, raw)
        motion = self._decoded(np.concatenate([raw[:1], raw]))  # encode leaves out the first frame
        places = encode(motion, self.layout.get("up", "y"), "positions", "velocity")
        return Moving(body, places, angles_of(motion)[1:])

    def _how(self) -> tuple[Any, ...]:
        """Return the arguments of `decode` and `points_of` beside the features."""
        layout = self.layout
        skeleton = Skeleton.from_state(layout["skeleton"])
        up = layout.get("up", "y")
        return skeleton, self.frame_rate, up, self.representation, self.root_motion

    def _decoded(self, raw: Array) -> Motion:
        return decode(unturned(raw, self.axes), *self._how())

    def _points(self, raw: Array, body: Skeleton | None = None) -> Array:
        skeleton, *how = self._how()
        return points_of(unturned(raw, self.axes), body or skeleton, *how)

    def _points_and_angles(self, raw: Array) -> tuple[Array, Array | None]:
        if self.representation == "positions":
            return self._points(raw), None
        motion = self._decoded(raw)
        return motion.points() @ TO_Y_UP[self.layout.get("up", "y")].T, angles_of(motion)

"""One take to frames: frame rate, vertical axis, names, gaps of markers.

Conventions:
    As in `representation`, `skeleton` and `c3d`. Rates are in frames per second.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pytorch_lightning.utilities import rank_zero_info

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.limits import Limit
from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.motion.generic import with_bones
from rnade_lightning.datamodules.motion.markers import (
    Markers,
    chosen,
    usable,
    whole_pieces,
    whole_spans,
)
from rnade_lightning.datamodules.motion.mat import Numbers
from rnade_lightning.datamodules.motion.places import Located
from rnade_lightning.datamodules.motion.representation import (
    Kind,
    RootMotion,
    encode,
    feature_names,
)
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton, between, neighbours
from rnade_lightning.datamodules.motion.sources import default_rate
from rnade_lightning.datamodules.motion.stature import ground_of, leg_length, some_of, tall_of
from rnade_lightning.datamodules.motion.upright import (
    axis_of_extent,
    axis_of_markers,
    standing_axis,
    up_axis,
)

_Moving = TypeVar("_Moving", bound=Motion)


@dataclass(frozen=True)
class TakeReader:
    """Turn takes into frames; see the arguments of `MocapDataModule`.

    Attributes:
        rate: Frames per second to resample to; None for what `default_rate` makes of a take's own.
    """

    rate: float | None
    skip_frames: int
    up: Literal["y", "z", "auto"]
    representation: Kind
    root_motion: RootMotion
    leg_length: float | None
    rename: Mapping[str, str]
    markers: Sequence[str] | None
    max_gap: int
    min_piece: int
    noise: float
    max_bytes: int | None

    def read(
        self, path: Path, content: Motion | Markers | Numbers, ending: str, usual: str
    ) -> Recording:
        """Return the frames of a take.

        Args:
            path: File to name in an error.
            content: What the file holds.
            ending: Ending of the file.
            usual: Vertical axis that is usual for it.

        Raises:
            DataError: It cannot be used.
        """
        if self.leg_length is not None and not isinstance(content, Motion):
            raise DataError(
                f"{path}: has no skeleton, so no legs, whose length leg_length sets: give a body"
                " with legs, or train without leg_length"
            )
        recorded: Any = {
            Motion: self._of_motion,
            Located: self._of_places,
            Markers: self._of_markers,
            Numbers: self._of_numbers,
        }[type(content)]
        return recorded(path, content, ending, usual)

    def _target(self, path: Path, source: float, n_frames: int, n_numbers: int) -> float:
        """The frame rate to read a file at; refuses one by which it would become enormous."""
        rate = self.rate or default_rate(source)
        n_bytes = int(n_frames * rate / source * n_numbers * 8)
        limit = Limit.of(path, self.max_bytes)
        limit.check(n_bytes, f"its frames at {rate:g} instead of {source:g} a second")
        return rate

    def _of_motion(self, path: Path, motion: Motion, ending: str, usual: str) -> Recording:
        motion = self._scaled(path, self._renamed(path, motion))
        skip, source = slice(self.skip_frames, None), motion.fps
        motion = replace(motion, positions=motion.positions[skip], rotations=motion.rotations[skip])
        n_frames, skeleton = len(motion.positions), motion.skeleton
        rate = self._target(path, source, n_frames, 4 * len(skeleton.names))
        up, up_by = str(self.up), "as given"
        if n_frames:
            if up == "auto" and skeleton.size > 0:
                some = some_of(n_frames)
                where = motion.positions[some], motion.rotations[some]
                part = replace(motion, positions=where[0], rotations=where[1])
                up, up_by = _upright(up_axis(motion), part.points(), ending, usual)
            elif up == "auto":
                up, up_by = usual, f"as in any {ending}"  # AMASS, without the body
            motion = motion.resampled(rate)
        if len(motion.positions) < 2:
            raise DataError(f"{path}: fewer than 2 frames to use: remove the file")
        if up != usual and self.up == "auto":
            rank_zero_info(f"{path}: {up} is up, {up_by}: set up if it is not")
        if self.representation == "positions" and skeleton.size == 0:
            raise DataError(f"{path}: does not say where joints are: use expmap or 6d")
        frames = encode(motion, up, self.representation, self.root_motion)
        names = feature_names(skeleton, self.representation, self.root_motion)
        heights = motion.positions[:, "xyz".index(up)]
        layout: dict[str, Any] = {
            "skeleton": skeleton.state(),
            "up": up,
            "format": ending,
            "up_by": up_by,
        }
        layout |= {"source_rate": source, "height": [float(f(heights)) for f in (np.min, np.max)]}
        layout |= _stature_of(motion, up)
        return Recording({"": frames}, names, rate, layout)

    def _of_places(self, path: Path, found: Located, ending: str, usual: str) -> Recording:
        if not self.noise > 0:
            raise DataError(
                f"{path}: holds places of joints, which obey bone lengths, so that a density on"
                " them is unbounded: set --data.noise above 0 (such as 0.01)"
            )
        found = self._scaled(path, self._renamed(path, found))
        source, n_joints = found.fps, len(found.skeleton.names)
        found = replace(found, places=found.places[self.skip_frames :])
        rate = self._target(path, source, len(found.places), 3 * n_joints)
        if len(found.places) < 3:
            raise DataError(f"{path}: fewer than 3 frames to use: remove the file")
        up, up_by = str(self.up), "as given"
        if up == "auto":
            stands = standing_axis(found.skeleton, found.places)
            up, up_by = _upright(stands, found.places, ending, usual)
        found = found.resampled(rate).facing(up)
        frames = encode(found, up, "positions", self.root_motion)
        names = feature_names(found.skeleton, "positions", self.root_motion)
        heights = found.positions[:, "xyz".index(up)]
        layout: dict[str, Any] = {
            "places": found.skeleton.state(),
            "up": up,
            "up_by": up_by,
            "source_rate": source,
            "height": [float(f(heights)) for f in (np.min, np.max)],
            **_stature_of(found, up),
        }
        return Recording({"": frames}, names, rate, layout)

    def _renamed(self, path: Path, motion: _Moving) -> _Moving:
        motion = motion.renamed(dict(self.rename))
        if len(set(motion.skeleton.names)) != len(motion.skeleton.names):
            raise DataError(f"{path}: two joints share a name once renamed: correct rename")
        return motion

    def _scaled(self, path: Path, motion: _Moving) -> _Moving:
        if self.leg_length is None:
            return motion
        own = leg_length(motion.skeleton)
        if own > 0:
            return motion.scaled(self.leg_length / own)
        why = "no joint is called foot, toe, ball or heel: rename it"
        if motion.skeleton.size == 0:
            why = "the file does not say where joints are: leave leg_length out"
        raise DataError(f"{path}: no leg to scale to leg_length: {why}")

    def _of_markers(self, path: Path, found: Markers, ending: str, usual: str) -> Recording:
        names = [self.rename.get(name, name) for name in found.names]
        if len(set(names)) != len(names):
            raise DataError(f"{path}: two markers share a name once renamed: correct rename")
        kept = chosen(path, names, self.markers)
        points = found.points[self.skip_frames :, kept]
        rate = self._target(path, found.fps, len(points), 3 * len(kept))
        frames: dict[str, Array] = {}
        left_out, n_filled = len(points), 0
        spans = whole_spans(points, self.max_gap)
        for span, piece in zip(spans, whole_pieces(points, self.max_gap), strict=True):
            shortest = self.min_piece if len(piece) < len(points) else 2
            piece = between(piece, *neighbours(len(piece), found.fps, rate))
            if len(piece) >= shortest:
                frames[f":{len(frames)}"] = piece.reshape(len(piece), -1)
                left_out -= round(len(piece) * found.fps / rate)
                n_filled += int(np.isnan(points[span]).any(axis=-1).sum())
        if not frames:
            raise self._too_many_gaps(path, points, [names[m] for m in kept], found.fps, rate)
        if len(frames) == 1:
            frames = {"": frames[":0"]}
        if left_out > 0.01 * len(points):
            share = left_out / max(len(points), 1)
            rank_zero_info(f"{path}: {share:.0%} of the frames left out, where markers are missing")
        used = [names[m] for m in kept]
        features = [f"{name}.{axis}" for name in used for axis in "xyz"]
        up, up_by = str(self.up), "as given"
        if up == "auto":
            stands = axis_of_markers(names, found.points)
            up, up_by = _upright(stands, points, ending, usual)
            if found.up and not stands:
                up, up_by = found.up, "by the file"
        seen = np.concatenate(list(frames.values())).reshape(-1, len(used), 3)
        layout: dict[str, Any] = {"markers": used, "up": up, "up_by": up_by, "unit": found.unit}
        layout |= {"source_rate": found.fps, "ground": ground_of(seen, up)}
        layout["filled"] = [n_filled, (len(points) - left_out) * len(used)]
        return Recording(frames, features, rate, layout | {"tall": tall_of(seen, up)})

    def _too_many_gaps(
        self, path: Path, points: Array, names: list[str], fps: float, rate: float
    ) -> DataError:
        """Return why no piece of a take is long enough, and which markers could be used.

        Args:
            path: File to name.
            points: Places of the markers, ``(T, M, 3)``.
            names: Their names.
            fps: Their frames per second.
            rate: Those that they are read at.
        """
        gone = np.isnan(points).any(axis=-1).mean(axis=0)
        worst = [m for m in np.argsort(-gone)[:5] if gone[m]]
        if not worst:
            return DataError(f"{path}: fewer than 2 frames to use: remove the file")
        said = ", ".join(f"{names[m]} {gone[m]:.0%}" for m in worst)
        shortest = math.ceil((self.min_piece - 1) * fps / rate) + 1
        seen, n_frames = usable(points, self.max_gap, shortest)
        remedy = ""
        if seen:
            rest = [f"-{name}" for m, name in enumerate(names) if m not in seen]
            keep = min([names[m] for m in seen], [*(self.markers or []), *rest], key=len)
            remedy = (
                f"--data.markers='{json.dumps(keep)}' leaves {len(seen)} of {len(names)} markers in"
                f" {n_frames} frames; or "
            )
        return DataError(
            f"{path}: no {self.min_piece} frames in a row at {rate:g} a second, of {len(points)} at"
            f" {fps:g}, have all markers (missing: {said}): {remedy}raise max_gap or lower"
            " min_piece"
        )

    def _of_numbers(self, path: Path, found: Numbers, ending: str, usual: str) -> Recording:
        if self.rate not in (None, found.fps):
            raise DataError(
                f"{path}: this set has {found.fps:g} frames per second: leave fps at that"
            )
        return Recording(found.sequences, found.names, found.fps, {})


def _upright(stands: str | None, points: Array, ending: str, usual: str) -> tuple[str, str]:
    """Return the vertical axis and what tells it: feet and head, else the extent of the body, else
    the format."""
    if stands:
        return stands, "by feet and head"
    found = axis_of_extent(points)
    return (found, "by the extent of the body") if found else (usual, f"usual for {ending}")


def _stature_of(motion: Motion, up: str) -> dict[str, float]:
    """Return the level of the ground and, where bones are known, the height of the body; for a
    layout."""
    body: Skeleton | None = motion.skeleton
    if body is not None and body.size == 0 and not isinstance(motion, Located):
        body = with_bones(body)
    if body is None:
        return {}
    some = some_of(len(motion.positions))
    part = replace(
        motion, skeleton=body, positions=motion.positions[some], rotations=motion.rotations[some]
    )
    points = part.points()[some if isinstance(motion, Located) else slice(None)]
    found = {"ground": ground_of(points, up)}
    return found | ({"tall": tall_of(points, up)} if body is motion.skeleton else {})

"""Motion capture: skeletons that move (BVH, ASF/AMC, AMASS), markers (C3D), and the paper's set.

    read                      becomes                     written
    .bvh, .bvh.gz, .amc       features of representation  .bvh, .gif, .html
    .npz (AMASS)              features of representation  .npz (AMASS); the same as well with
                                                          offsets in the file
    .c3d                      coordinates of markers      .npz, .gif, .html
    .mat (the paper's)        its features                .npz, .png

Where the extra ``mp4`` is installed, every ``.gif`` has an ``.mp4`` of the same pictures beside it.
Positions of joints do not determine a BVH file: they are written as ``.npz`` in its place.

Conventions:
    As in `representation`, `skeleton` and `c3d`. Features of the MATLAB set are in the units of
    ``batchdata``.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning.utilities import rank_zero_info

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.arrays import write_frames, write_numbers
from rnade_lightning.datamodules.core.frames import Recording, with_ending
from rnade_lightning.datamodules.core.standardise import Standardiser
from rnade_lightning.datamodules.motion.amass import read_amass, write_amass
from rnade_lightning.datamodules.motion.animation import (
    Lines,
    bones_of,
    dots_of,
    write_gif,
    write_html,
)
from rnade_lightning.datamodules.motion.asfamc import read_amc
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh
from rnade_lightning.datamodules.motion.c3d import Markers, read_c3d, unlabelled, whole_pieces
from rnade_lightning.datamodules.motion.mat import Numbers, read_paper_set
from rnade_lightning.datamodules.motion.metrics import (
    Limits,
    angles_of,
    feet_of,
    find_limits,
    motion_figures,
)
from rnade_lightning.datamodules.motion.noise import Noisy
from rnade_lightning.datamodules.motion.representation import (
    TO_Y_UP,
    decode,
    encode,
    feature_names,
    points_of,
    rounding_of,
)
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton, between, neighbours
from rnade_lightning.datamodules.motion.turning import TurningDataModule, unturned

_LIMIT_FRAMES = 50_000  # training frames, at most, that limits of motion are found from


class Format(NamedTuple):
    """A format of files; to add one takes a reader in a file of its own and a line in `FORMATS`.

    Attributes:
        read: Reads a file; it is told the frame rate that files of the format do not say.
        up: Vertical axis that is usual for it.
    """

    read: Callable[[Path, float], Motion | Markers | Numbers]
    up: Literal["y", "z"] = "y"


FORMATS = {
    ".bvh": Format(lambda path, fps: read_bvh(path)),
    ".bvh.gz": Format(lambda path, fps: read_bvh(path)),
    ".amc": Format(read_amc),
    ".npz": Format(lambda path, fps: read_amass(path), up="z"),
    ".c3d": Format(lambda path, fps: read_c3d(path), up="z"),
    ".mat": Format(lambda path, fps: read_paper_set(path)),
}
"""Formats by the ending of their files."""
_WRITERS: dict[str, Callable[[Path, Motion], None]] = {".npz": write_amass}
"""What writes a motion in the format that it was read in, beside BVH."""


class MocapDataModule(TurningDataModule):
    """Motion capture from .bvh, .bvh.gz, .amc (with .asf), .npz (AMASS), .c3d and .mat files.

    Args:
        root: Folder, file or glob to read. Nothing means the motion shipped with the package.
        fps: Frames per second to resample to; rotations are resampled as rotations.
        skip_frames: Frames of the file to leave out at the start of every take; 1 for the CMU takes
            in BVH, which begin with an added T-pose.
        up: Vertical axis of the files; that usual for the format if not given.
        representation: What a frame of a skeleton holds: exponential maps, 6-D rotations, positions
            of joints, or channels of the file. Nats of one are never compared with another's.
        root_motion: The root's changes in its facing frame, or its place in the world. Channels of
            the file have the place.
        noise: Standard deviation of the Gaussian noise that standardised frames are given, in their
            units (deviations of a feature, unless standardise is no). Must be above 0 for 6d and
            positions, which obey constraints.
        rename: New names of joints or markers by those of the file.
        markers: Names of the markers to use, after renaming; all that have a label if not given.
        max_gap: Longest gap of a marker, in frames of the file, that is filled in; where one is
            longer the take is cut.
        min_piece: Shortest piece of a cut take that is used, in frames; one not cut is whole.
        amc_fps: Frames per second of .amc files, which do not say.
        **kwargs: See `FrameDataModule`.
    """

    extensions = tuple(FORMATS)
    beside = (".asf",)
    shipped = Path(__file__).parent / "samples"
    reader_version = 3  # grows with any change of frames or layout that a file gives

    def __init__(
        self,
        root: str | None = None,
        fps: float = 30.0,
        skip_frames: int = 0,
        up: Literal["y", "z"] | None = None,
        representation: Literal["expmap", "6d", "positions", "raw"] = "expmap",
        root_motion: Literal["velocity", "position"] = "velocity",
        noise: float = 0.0,
        rename: dict[str, str] | None = None,
        markers: list[str] | None = None,
        max_gap: int = 10,
        min_piece: int = 100,
        amc_fps: float = 120.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.fps, self.skip_frames, self.up, self.amc_fps = fps, skip_frames, up, amc_fps
        self.representation, self.root_motion, self.noise = representation, root_motion, noise
        self.rename, self.markers = rename or {}, markers
        self.max_gap, self.min_piece = max_gap, min_piece
        self._limits: Limits | None = None
        if not min(fps, amc_fps) > 0 or skip_frames < 0 or up not in (None, *TO_Y_UP):
            raise DataError("fps must be above 0, skip_frames 0 or more, and up y or z")
        if max_gap < 0 or min_piece < 2 or not noise >= 0:
            raise DataError("max_gap and noise must be 0 or more, min_piece 2 or more")
        if representation in ("6d", "positions") and not noise > 0:
            raise DataError(
                f"{representation} features obey constraints, so that a density on them is"
                " unbounded: declare noise above 0 (such as 0.01), or use expmap"
            )

    def read(self, path: Path) -> Recording:
        """Read a file of any of the formats."""
        ending = next(e for e in FORMATS if path.name.lower().endswith(e))
        form = FORMATS[ending]
        content = form.read(path, self.amc_fps)
        recorded: Any = {
            Motion: self._of_motion, Markers: self._of_markers, Numbers: self._of_numbers
        }[type(content)]  # fmt: skip
        return recorded(path, content, ending, self.up or form.up)

    def mismatch(self, recording: Recording, reference: Recording) -> str | None:
        """Joints must be the same and hang together alike; bones may differ in length."""
        ours, theirs = (r.layout.get("skeleton") for r in (recording, reference))
        if (ours is None) != (theirs is None):
            return "one is motion of a skeleton and the other a MATLAB set or markers"
        if ours is not None and theirs is not None:
            extra = sorted(set(ours["names"]) - set(theirs["names"]))[:3] or "none"
            missing = sorted(set(theirs["names"]) - set(ours["names"]))[:3] or "none"
            if ours["names"] != theirs["names"] or ours["parents"] != theirs["parents"]:
                return (
                    f"its skeleton is another (joints in excess {extra}, missing {missing};"
                    " rename maps names)"
                )
            ratio, reference_size = (Skeleton.from_state(s).size for s in (ours, theirs))
            if reference_size > 0 and not 0.5 < ratio / reference_size < 2:
                ratio /= reference_size
                return f"its skeleton is {ratio:.3g} times the size, as in other units of length"
        for what in ("up", "unit"):
            if recording.layout.get(what) != reference.layout.get(what):
                return f"its {what} is {recording.layout.get(what)}, not {reference.layout[what]}"
        return super().mismatch(recording, reference)

    def rounding(self, reference: Recording) -> float | list[float]:
        """Return the rounding of the numbers in files, as features have it."""
        if "skeleton" not in reference.layout:
            return 0.0
        size = Skeleton.from_state(reference.layout["skeleton"]).size
        return rounding_of(reference.feature_names, self.representation, size)

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Write raw frames as files of the formats in the table above."""
        writers = {"markers": self._write_markers, "skeleton": self._write_skeleton}
        for content, write in writers.items():
            if content in self.layout:
                return write(raw, stem)
        return write_numbers(stem, raw, self.frame_rate, self._names())

    def _names(self) -> list[str]:
        return self._fitted()[1].feature_names

    def _write_markers(self, raw: Array, stem: Path) -> list[Path]:
        npz, layout = with_ending(stem, "npz"), self.layout
        write_frames(npz, raw, self.frame_rate, self._names())
        points = raw.reshape(len(raw), -1, 3) @ TO_Y_UP[layout["up"]].T
        return [npz, *self._play(stem, points, dots_of(layout["markers"]))]

    def _write_skeleton(self, raw: Array, stem: Path) -> list[Path]:
        skeleton = Skeleton.from_state(self.layout["skeleton"])
        written: list[Path] = []
        if self.representation == "positions":
            written.append(with_ending(stem, "npz"))
            write_frames(written[0], raw, self.frame_rate, self._names())
        else:
            motion, own = self._decoded(raw), self.layout.get("format", "")
            writers: dict[str, Callable[[Path, Motion], None]] = {}
            if skeleton.size > 0:
                writers[".bvh"] = write_bvh
            if own in _WRITERS:
                writers = {own: _WRITERS[own]} | writers
            for ending, write in writers.items():
                written.append(with_ending(stem, ending[1:]))
                write(written[-1], motion)
        if skeleton.size == 0:
            rank_zero_info(
                f"{stem}: the data say how joints turn but not where they are: no pictures"
            )
            return written
        return written + self._play(stem, self._points(raw), bones_of(skeleton))

    def metrics(self, frames: torch.Tensor | npt.ArrayLike) -> dict[str, float]:
        """Foot skate and joint limits of a motion, beside those of the test data.

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
            for _, known in self.sequences("train"):
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
        for _, known in self.sequences("test"):
            parts = self._points_and_angles(self.destandardise(known))
            known_figures = motion_figures(*parts, self.frame_rate, feet, self._limits)
            held_out.append((len(known), known_figures))
        for key in list(found):
            pairs = [(n, f[key]) for n, f in held_out if np.isfinite(f[key])]
            mean = sum(n * f for n, f in pairs) / sum(n for n, _ in pairs) if pairs else np.nan
            found[f"{key}_of_data"] = float(mean)
        return found

    def _fitted(self) -> tuple[Standardiser, Recording]:
        standardiser, reference = super()._fitted()
        if self.noise > 0:
            standardiser = Noisy(**vars(standardiser), noise=self.noise, seed=self.seed)
        return standardiser, reference

    def _of_motion(self, path: Path, motion: Motion, ending: str, up: str) -> Recording:
        motion = self._renamed(path, motion)
        skip = slice(self.skip_frames, None)
        motion = replace(motion, positions=motion.positions[skip], rotations=motion.rotations[skip])
        if len(motion.positions):
            _check_size(path, len(motion.positions), motion.fps, self.fps)
            motion = motion.resampled(self.fps)
        if len(motion.positions) < 2:
            raise DataError(f"{path}: fewer than 2 frames to use: remove the file")
        skeleton = motion.skeleton
        if self.representation == "positions" and skeleton.size == 0:
            raise DataError(f"{path}: does not say where joints are: use expmap or 6d")
        frames = encode(motion, up, self.representation, self.root_motion)
        names = feature_names(skeleton, self.representation, self.root_motion)
        layout = {"skeleton": skeleton.state(), "up": up, "format": ending}
        return Recording({"": frames}, names, self.fps, layout)

    def _renamed(self, path: Path, motion: Motion) -> Motion:
        motion = motion.renamed(self.rename)
        if len(set(motion.skeleton.names)) != len(motion.skeleton.names):
            raise DataError(f"{path}: two joints share a name once renamed: correct rename")
        return motion

    def _of_markers(self, path: Path, found: Markers, ending: str, up: str) -> Recording:
        names = [self.rename.get(name, name) for name in found.names]
        if len(set(names)) != len(names):
            raise DataError(f"{path}: two markers share a name once renamed: correct rename")
        missing = sorted(set(self.markers or []) - set(names))
        if missing:
            raise DataError(f"{path}: has no marker {missing[:3]}, only {names[:60]}")
        labelled = [name for name in names if not unlabelled(name)] or names
        chosen = [names.index(name) for name in self.markers or labelled]
        points = found.points[self.skip_frames :, chosen]
        frames: dict[str, Array] = {}
        left_out = len(points)
        for piece in whole_pieces(points, self.max_gap):
            shortest = self.min_piece if len(piece) < len(points) else 2
            _check_size(path, len(piece), found.fps, self.fps)
            piece = between(piece, *neighbours(len(piece), found.fps, self.fps))
            if len(piece) >= shortest:
                frames[f":{len(frames)}"] = piece.reshape(len(piece), -1)
                left_out -= round(len(piece) * found.fps / self.fps)
        if not frames:
            gone = np.isnan(points).any(axis=-1).mean(axis=0)
            worst = [m for m in np.argsort(-gone)[:5] if gone[m]]
            if not worst:
                raise DataError(f"{path}: fewer than 2 frames to use: remove the file")
            said = ", ".join(f"{names[chosen[m]]} {gone[m]:.0%}" for m in worst)
            raise DataError(
                f"{path}: no {self.min_piece} frames in a row, of {len(points)}, have all markers"
                f" (missing: {said}): choose markers, raise max_gap or lower min_piece"
            )
        if len(frames) == 1:
            frames = {"": frames[":0"]}
        if left_out > 0.01 * len(points):
            share = left_out / max(len(points), 1)
            rank_zero_info(f"{path}: {share:.0%} of the frames left out, where markers are missing")
        kept = [names[m] for m in chosen]
        features = [f"{name}.{axis}" for name in kept for axis in "xyz"]
        layout = {"markers": kept, "up": up, "unit": found.unit}
        return Recording(frames, features, self.fps, layout)

    def _of_numbers(self, path: Path, found: Numbers, ending: str, up: str) -> Recording:
        if self.fps != found.fps:
            raise DataError(
                f"{path}: this set has {found.fps:g} frames per second: leave fps at that"
            )
        return Recording(found.sequences, found.names, found.fps, {})

    def _how(self) -> tuple[Any, ...]:
        """What `decode` and `points_of` need beside the features."""
        layout = self.layout
        skeleton = Skeleton.from_state(layout["skeleton"])
        up = layout.get("up", "y")
        return skeleton, self.frame_rate, up, self.representation, self.root_motion

    def _decoded(self, raw: Array) -> Motion:
        return decode(unturned(raw, self.axes), *self._how())

    def _points(self, raw: Array) -> Array:
        return points_of(unturned(raw, self.axes), *self._how())

    def _points_and_angles(self, raw: Array) -> tuple[Array, Array | None]:
        if self.representation == "positions":
            return self._points(raw), None
        motion = self._decoded(raw)
        return motion.points() @ TO_Y_UP[self.layout.get("up", "y")].T, angles_of(motion)

    def _play(self, stem: Path, points: Array, lines: Lines) -> list[Path]:
        gif, html = (with_ending(stem, kind) for kind in ("gif", "html"))
        _, *film = write_gif(gif, points, lines, self.frame_rate)
        write_html(html, points, lines, self.frame_rate)
        return [gif, html, *film]


def _check_size(path: Path, n_frames: int, source: float, target: float) -> None:
    """Refuses a frame rate by which resampling would make a file enormous, as a damaged one may."""
    if target > 50 * source and n_frames * target / source > 1e6:
        raise DataError(f"{path}: has {source:g} frames per second: resampled it would be too long")

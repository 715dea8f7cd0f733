"""Motion capture: skeletons that move (BVH, ASF/AMC, AMASS), markers (C3D, TRC), the paper's set.

    read                      becomes                     written
    .bvh, .bvh.gz, .amc       features of representation  .bvh, .gif, .html
    .npz (AMASS)              features of representation  .npz (AMASS), and the same
    .npy, .npz of places      features of positions       .npz, .gif, .html
    .c3d, .trc                coordinates of markers      .npz, .gif, .html
    .mat (the paper's)        its features                .npz, .png

Where the extra ``ffmpeg`` is installed, every ``.gif`` has an ``.mp4`` of the same pictures.
Positions of joints do not determine a BVH file: they are written as ``.npz`` in its place.

Conventions:
    As in `representation`, `skeleton` and `c3d`. Features of the MATLAB set are in the units of
    ``batchdata``.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.arrays import write_frames, write_numbers
from rnade_lightning.datamodules.core.files import with_ending
from rnade_lightning.datamodules.core.frames import Recording
from rnade_lightning.datamodules.core.standardise import Standardiser
from rnade_lightning.datamodules.core.store import FrameStore, Kept
from rnade_lightning.datamodules.motion.animation import (
    Lines,
    bones_of,
    dots_of,
    write_gif,
    write_html,
)
from rnade_lightning.datamodules.motion.bvh import write_bvh
from rnade_lightning.datamodules.motion.formats import FORMATS, WRITERS
from rnade_lightning.datamodules.motion.generic import with_bones
from rnade_lightning.datamodules.motion.noise import Noisy
from rnade_lightning.datamodules.motion.places import holds_motion
from rnade_lightning.datamodules.motion.representation import (
    TO_Y_UP,
    points_of,
    rounding_of,
)
from rnade_lightning.datamodules.motion.skeleton import Skeleton
from rnade_lightning.datamodules.motion.sources import Sources
from rnade_lightning.datamodules.motion.steered import SteeredDataModule
from rnade_lightning.datamodules.motion.takes import TakeReader

_FILM_SECONDS = 60.0  # of a motion, at most, in a picture; a page plays all of it


class MocapDataModule(SteeredDataModule):
    """Motion capture from .bvh, .amc (with .asf), .npz (AMASS), .c3d, .trc, .mat and .npy files.

    Args:
        root: Folder, file or glob to read. Without it, the motion shipped with the package.
        fps: Frames per second to resample to, rotations as rotations. Without it, the lowest rate
            among the files, and every n-th frame of one that has more than 30.
        skip_frames: Frames to leave out at the start of every take; 1 for the CMU takes in BVH,
            which begin with an added T-pose.
        up: Vertical axis of the files. "auto" finds it from the places of feet and head, or from
            where the body extends most, or takes the format's usual one; the card says which.
        representation: Features of a frame of a skeleton: exponential maps, 6-D rotations,
            positions of joints, or channels of the file. Nats of two of them do not compare.
        root_motion: Motion of the root: its changes in its facing frame (velocity), or its place in
            the world (position), which channels of the file always have.
        leg_length: Length of legs, such as 0.9 (metres), to scale all bodies and their motion to,
            so that feet stand still on any body. Without it, lengths are as in the files.
        noise: Standard deviation of Gaussian noise to add to standardised frames, in their units;
            above 0 for 6d, positions and files of places, whose features obey constraints.
        rename: New names of joints or markers, by their names in the file.
        markers: Markers to use, by their names after renaming or by patterns ("L*"); "-LTOE" leaves
            one out. Without it, all that have a label.
        max_gap: Longest gap of a marker to fill in, in frames; longer ones cut a take.
        min_piece: Least frames of a piece of a cut take.
        amc_fps: Frames per second of .amc files.
        npy_fps: Frames per second of .npy files (20 in HumanML3D).
        **kwargs: See `FrameDataModule`.
    """

    extensions = tuple(FORMATS)
    beside = (".asf",)
    shipped = Path(__file__).parent / "samples"
    least_seconds, settle_seconds = 10.0, 5.0
    reader_version = 6  # grows with any change of frames or layout that a file gives

    def __init__(
        self,
        root: str | None = None,
        fps: float | None = None,
        skip_frames: int = 0,
        up: Literal["y", "z", "auto"] = "auto",
        representation: Literal["expmap", "6d", "positions", "raw"] = "expmap",
        root_motion: Literal["velocity", "position"] = "velocity",
        leg_length: float | None = None,
        noise: float = 0.0,
        rename: dict[str, str] | None = None,
        markers: list[str] | None = None,
        max_gap: int = 10,
        min_piece: int = 100,
        amc_fps: float = 120.0,
        npy_fps: float = 20.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.fps, self.amc_fps, self.npy_fps = fps, amc_fps, npy_fps
        self.skip_frames = skip_frames
        self.up = up or "auto"
        self.representation, self.root_motion, self.noise = representation, root_motion, noise
        self.leg_length, self.rename, self.markers = leg_length, rename or {}, markers
        self.max_gap, self.min_piece = max_gap, min_piece
        self._rate, self._sources = fps, Sources()
        if not min(fps or 1.0, amc_fps, npy_fps) > 0 or fps == 0 or skip_frames < 0:
            raise DataError("fps, amc_fps and npy_fps must be above 0, and skip_frames 0 or more")
        if self.up not in ("auto", *TO_Y_UP):
            raise DataError("up must be y, z or auto")
        if leg_length is not None and not 0 < leg_length < math.inf:
            raise DataError("leg_length must be above 0 and finite, or left out")
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
        content = form.read(path, getattr(self, form.rate), self.max_bytes)
        reader = TakeReader(
            rate=self._rate,
            skip_frames=self.skip_frames,
            up=self.up,
            representation=self.representation,
            root_motion=self.root_motion,
            leg_length=self.leg_length,
            rename=self.rename,
            markers=self.markers,
            max_gap=self.max_gap,
            min_piece=self.min_piece,
            noise=self.noise,
            max_bytes=self.max_bytes,
        )
        return reader.read(path, content, ending, form.up)

    def holding(self, files: list[Path]) -> list[Path]:
        """Return the files of motion: AMASS keeps shapes of bodies, HumanML3D means beside it."""
        files = super().holding(files)
        found = [path for path in files if holds_motion(path)]
        if found and len(found) < len(files):
            gone = sorted({path.name for path in files} - {path.name for path in found})
            rank_zero_info(
                f"{self._root()}: {len(files) - len(found)} files hold no motion and are left out:"
                f" {', '.join(gone[:5])}"
            )
        return found or files

    def mismatch(self, recording: Recording, reference: Recording) -> str | None:
        """Return how a recording differs: joints must be the same and hang together alike; bones
        may differ in length."""
        ours, theirs = (
            r.layout.get("skeleton") or r.layout.get("places") for r in (recording, reference)
        )
        if (ours is None) != (theirs is None):
            return "one is motion of a skeleton and the other a MATLAB set or markers"
        if ours is not None and theirs is not None:
            extra = sorted(set(ours["names"]) - set(theirs["names"]))[:3] or "none"
            missing = sorted(set(theirs["names"]) - set(ours["names"]))[:3] or "none"
            if ours["names"] != theirs["names"] and extra == missing == "none":
                return "its joints are in another order: export all files in one way"
            if ours["names"] != theirs["names"] or ours["parents"] != theirs["parents"]:
                return (
                    f"it has another skeleton (joints in excess {extra}, missing {missing};"
                    " rename maps names)"
                )
            ratio, reference_size = (Skeleton.from_state(s).size for s in (ours, theirs))
            if reference_size > 0 and not 0.5 < ratio / reference_size < 2:
                ratio /= reference_size
                return f"its skeleton is {ratio:.3g} times the size, maybe in other units of length"
        orders = [r.layout.get("markers", []) for r in (recording, reference)]
        if orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]):
            return (
                "its markers are in another order (set markers to the names of all, in one order)"
            )
        for what, remedy in (("up", " (set up if they are alike)"), ("unit", "")):
            own, known = recording.layout.get(what), reference.layout.get(what)
            if own != known:
                return f"its {what} is {own}, not {known}{remedy}"
        return super().mismatch(recording, reference)

    def rounding(self, reference: Recording) -> float | list[float]:
        """Return the rounding of the numbers in files, as features have it."""
        if "skeleton" not in reference.layout:
            return 0.0
        size = Skeleton.from_state(reference.layout["skeleton"]).size
        return rounding_of(reference.feature_names, self.representation, size)

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Write raw frames as files of the formats in the table above."""
        writers = {
            "markers": self._write_markers,
            "skeleton": self._write_skeleton,
            "places": self._write_places,
        }
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

    def _write_places(self, raw: Array, stem: Path) -> list[Path]:
        npz, layout = with_ending(stem, "npz"), self.layout
        write_frames(npz, raw, self.frame_rate, self._names())
        skeleton = Skeleton.from_state(layout["places"])
        up, root_motion = layout["up"], self.root_motion
        points = points_of(raw, skeleton, self.frame_rate, up, "positions", root_motion)
        return [npz, *self._play(stem, points, bones_of(skeleton) or dots_of(skeleton.names))]

    def _write_skeleton(self, raw: Array, stem: Path) -> list[Path]:
        body: Skeleton | None = Skeleton.from_state(self.layout["skeleton"])
        if body is not None and body.size == 0:
            body = with_bones(body)
        written: list[Path] = []
        if self.representation == "positions":
            written.append(with_ending(stem, "npz"))
            write_frames(written[0], raw, self.frame_rate, self._names())
        else:
            motion, own = self._decoded(raw), self.layout.get("format", "")
            if own in WRITERS:
                written.append(with_ending(stem, own[1:]))
                WRITERS[own](written[-1], motion)
            if body is not None:
                written.append(with_ending(stem, "bvh"))
                write_bvh(written[-1], replace(motion, skeleton=body))
        if body is None:
            rank_zero_info(
                f"{stem}: the data say how joints turn but not where they are: no pictures"
            )
            return written
        return written + self._play(stem, self._points(raw, body), bones_of(body))

    def _fitted(self) -> tuple[Standardiser, Recording]:
        standardiser, reference = super()._fitted()
        if self.noise > 0:
            standardiser = Noisy(**vars(standardiser), noise=self.noise, seed=self.seed)
        return standardiser, reference

    def settings(self) -> dict[str, Any] | None:
        known = super().settings()
        return known and known | {"rate": self._rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._rate = self.fps or state_dict["frame_rate"]

    def setup(self, stage: str | None = None) -> None:
        """Read all files, at one frame rate; see `FrameDataModule`."""
        done, fresh = bool(self._raw), self._reference is None
        super().setup(stage)
        if fresh and self._reference is not None and self._sources.ground is not None:
            layout = self._reference.layout | {"ground": self._sources.ground}
            self._reference = self._reference._replace(layout=layout)
        if done:
            return
        for caveat in self._sources.interpolated():
            remedy = ": leave fps out, or set it to a rate that divides theirs" if self.fps else ""
            rank_zero_warn(f"{self._root()}: {caveat}{remedy}")
        for caveat in self._sources.gaps():
            rank_zero_warn(f"{self._root()}: {caveat}")
        if up := self._sources.usual_up:
            rank_zero_warn(
                f"{self._root()}: neither names nor places tell which axis is up: it is taken to be"
                f" {up}: set up to y or z"
            )

    def _opened(self, files: list[Path]) -> tuple[list[Kept | DataError], FrameStore]:
        self._rate, self._sources = self.fps, Sources()
        kept, store = super()._opened(files)
        rates = {i: x.about.frame_rate for i, x in enumerate(kept) if isinstance(x, Kept)}
        if self.fps is not None or not rates:
            return kept, store
        lowest = min(rates, key=lambda i: rates[i])
        self._rate = self._reference.frame_rate if self._reference else rates[lowest]
        again = [i for i, rate in rates.items() if rate != self._rate]
        if again:
            why = f"the lowest rate among the files ({files[lowest]}): set fps for another"
            if self._reference:
                why = "the rate of the checkpoint"
            rank_zero_info(
                f"{self._root()}: {len(again)} of {len(files)} files are resampled to"
                f" {self._rate:g} frames per second, {why}"
            )
            for i, x in zip(again, super()._opened([files[i] for i in again])[0], strict=True):
                kept[i] = x
        return kept, store

    def note(self, recording: Recording) -> None:
        self._sources.add(recording)

    def _read(self, path: Path, reference: Recording, origin: str) -> Recording:
        recording, found = super()._read(path, reference, origin), Sources()
        found.add(recording)
        for caveat in found.caveats():
            rank_zero_warn(f"{path}: {caveat}")
        return recording

    @property
    def caveats(self) -> list[str]:
        return self._sources.caveats() + super().caveats

    def describe(self) -> dict[str, Any]:
        """A card of the data; see `FrameDataModule`. Beside it: vertical axis, frame rates of the
        files and what was resampled, number and summed length of the bones, height of the body,
        unit of length, the length of the legs if bodies were scaled to it, lowest and highest place
        of the root."""
        card = super().describe()
        card |= self._sources.card(self.layout)
        scaled = {"leg_length": self.leg_length, "unit": "that of leg_length"}
        return card | (scaled if self.leg_length else {})

    def _play(self, stem: Path, points: Array, lines: Lines) -> list[Path]:
        gif, html = (with_ending(stem, kind) for kind in ("gif", "html"))
        ground = self.layout.get("ground")
        first = points[: round(_FILM_SECONDS * self.frame_rate)]
        steered = self.given is not None and "root.ahead" in self.given.names
        way = points[:, 0, ::2] if steered else self.wanted  # a root moves as it is told
        _, *film = write_gif(gif, first, lines, self.frame_rate, ground, way)
        write_html(html, points, lines, self.frame_rate, ground, way)
        return [gif, html, *film]

"""Motion capture: BVH takes, and the paper's MATLAB set.

BVH takes become the features of `expmap` and are written back as BVH, as an animated GIF, and as a
page with a skeleton that turns under the mouse. The MATLAB set ("batchdata", "seqlengths") holds
features that are ready to use but no skeleton, so its frames are written as numbers and a plot.

Conventions:
    As in `expmap` and `skeleton`. Features of the MATLAB set are in the units of ``batchdata``.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.io import loadmat

from datamodules.animation import write_gif, write_html, write_plot
from datamodules.bvh import read_bvh, write_bvh
from datamodules.expmap import TO_Y_UP, decode, encode, feature_names
from datamodules.files import DataError, whole_file
from datamodules.frames import FrameDataModule, Recording
from datamodules.skeleton import Skeleton
from datamodules.standardise import Array

_MAT_FPS = 30.0  # of the published set; the file does not say


class MocapDataModule(FrameDataModule):
    """Motion capture from .bvh, .bvh.gz and .mat files.

    Args:
        root: Folder, file or glob to read. Nothing means the motion shipped with the package.
        fps: Frames per second to resample to.
        skip_frames: Frames of the file to leave out at the start of every take; 1 for the CMU takes
            in BVH, which begin with an added T-pose.
        up: Vertical axis of the files.
        **kwargs: See `FrameDataModule`.
    """

    extensions = (".bvh", ".bvh.gz", ".mat")
    shipped = Path(__file__).parent / "samples"

    def __init__(
        self,
        root: str | None = None,
        fps: float = 30.0,
        skip_frames: int = 0,
        up: Literal["y", "z"] = "y",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.fps, self.skip_frames, self.up = fps, skip_frames, up
        if not fps > 0 or skip_frames < 0 or up not in TO_Y_UP:
            raise DataError("fps must be above 0, skip_frames 0 or more, and up y or z")

    def read(self, path: Path) -> Recording:
        """Reads a BVH take, or all sequences of a MATLAB set."""
        return self._read_mat(path) if path.name.lower().endswith(".mat") else self._read_bvh(path)

    def mismatch(self, recording: Recording, reference: Recording) -> str | None:
        """Joints must be the same and hang together alike; bones may differ in length."""
        ours, theirs = (r.layout.get("skeleton") for r in (recording, reference))
        if (ours is None) != (theirs is None):
            return "one is motion of a skeleton and the other a MATLAB set"
        if ours is not None and theirs is not None:
            extra = sorted(set(ours["names"]) - set(theirs["names"]))[:3] or "none"
            missing = sorted(set(theirs["names"]) - set(ours["names"]))[:3] or "none"
            if ours["names"] != theirs["names"] or ours["parents"] != theirs["parents"]:
                return f"its skeleton is another (joints in excess {extra}, missing {missing})"
            ratio = Skeleton.from_state(ours).size / max(Skeleton.from_state(theirs).size, 1e-9)
            if not 0.5 < ratio < 2:
                return f"its skeleton is {ratio:.3g} times the size, as in other units of length"
        return super().mismatch(recording, reference)

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Writes ``.bvh``, ``.gif`` and ``.html``; for the MATLAB set ``.npz`` and ``.png``."""
        # The last suffix is added, not replaced: a stem such as "epoch.3" keeps its dot.
        bvh, gif, html, npz, png = (
            stem.with_name(f"{stem.name}.{kind}") for kind in ("bvh", "gif", "html", "npz", "png")
        )
        state = self.layout.get("skeleton")
        if state is None:
            with whole_file(npz) as part, part.open("wb") as file:
                np.savez_compressed(file, frames=raw, fps=self.frame_rate)
            write_plot(png, raw, self.frame_rate)
            return [npz, png]
        motion = decode(raw, Skeleton.from_state(state), self.frame_rate, self.up)
        points = motion.points() @ TO_Y_UP[self.up].T
        write_bvh(bvh, motion)
        write_gif(gif, points, motion.skeleton, motion.fps)
        write_html(html, points, motion.skeleton, motion.fps)
        return [bvh, gif, html]

    def _read_bvh(self, path: Path) -> Recording:
        motion = read_bvh(path)
        motion = replace(
            motion,
            positions=motion.positions[self.skip_frames :],
            rotations=motion.rotations[self.skip_frames :],
        )
        if len(motion.positions):
            motion = motion.resampled(self.fps)
        if len(motion.positions) < 2:
            raise DataError(f"{path}: fewer than 2 frames to use: remove the file")
        skeleton = motion.skeleton
        frames = {"": encode(motion, self.up)}
        return Recording(frames, feature_names(skeleton), self.fps, {"skeleton": skeleton.state()})

    def _read_mat(self, path: Path) -> Recording:
        try:
            content = loadmat(str(path))
        except Exception as error:  # SciPy raises errors of many kinds for a damaged file
            raise DataError(f"{path}: not a whole MATLAB 5 file ({error}): get it again") from error
        try:
            data = np.asarray(content["batchdata"], dtype=np.float64)
            lengths = np.asarray(content["seqlengths"], dtype=np.int64).ravel()
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path}: no numbers called batchdata and seqlengths") from error
        if data.ndim != 2 or min(lengths, default=0) < 1 or lengths.sum() != len(data):
            raise DataError(
                f"{path}: seqlengths sums to {lengths.sum()} where batchdata is {data.shape}"
            )
        if self.fps != _MAT_FPS:
            raise DataError(
                f"{path}: this set has {_MAT_FPS:g} frames per second: leave fps at that"
            )
        parts = np.split(data, np.cumsum(lengths)[:-1])
        names = [f"feature_{i}" for i in range(data.shape[1])]
        return Recording({f":{i}": x for i, x in enumerate(parts)}, names, _MAT_FPS, {})

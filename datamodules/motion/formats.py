"""Formats of motion by the ending of their files: what reads them, and what writes them.

Conventions:
    As in `skeleton`, `markers` and `places`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from rnade_lightning.datamodules.motion.amass import write_amass
from rnade_lightning.datamodules.motion.asfamc import read_amc
from rnade_lightning.datamodules.motion.bvh import read_bvh
from rnade_lightning.datamodules.motion.c3d import read_c3d
from rnade_lightning.datamodules.motion.markers import Markers
from rnade_lightning.datamodules.motion.mat import Numbers, read_paper_set
from rnade_lightning.datamodules.motion.places import read_numpy
from rnade_lightning.datamodules.motion.skeleton import Motion
from rnade_lightning.datamodules.motion.trc import read_trc


class Format(NamedTuple):
    """A format of files. A new one takes a reader in a file of its own and a line in `FORMATS`.

    Attributes:
        read: Reads a file. It is given the frame rate for formats whose files do not give it, and
            what the file may take (see `Limit`).
        up: Usual vertical axis of the format.
        rate: Argument of `MocapDataModule` that is this frame rate.
    """

    read: Callable[[Path, float, int | None], Motion | Markers | Numbers]
    up: Literal["y", "z"] = "y"
    rate: str = "amc_fps"


FORMATS = {
    ".bvh": Format(lambda path, fps, limit: read_bvh(path, limit)),
    ".bvh.gz": Format(lambda path, fps, limit: read_bvh(path, limit)),
    ".amc": Format(read_amc),
    ".npz": Format(read_numpy, up="z", rate="npy_fps"),
    ".npy": Format(read_numpy, rate="npy_fps"),
    ".c3d": Format(lambda path, fps, limit: read_c3d(path), up="z"),
    ".trc": Format(lambda path, fps, limit: read_trc(path, limit)),
    ".mat": Format(lambda path, fps, limit: read_paper_set(path, limit)),
}
"""Formats by the ending of their files."""
WRITERS: dict[str, Callable[[Path, Motion], None]] = {".npz": write_amass}
"""What writes a motion in the format that it was read in, beside BVH."""

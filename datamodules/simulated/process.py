"""Simulate sequences from a seed, with no files: the part that `balls` and `trajectory` share.

Training, validation and test sequences are drawn independently, each part from a random stream of
its own, so that the test part does not depend on how much is trained on. Frames saved before (see
`arrays`) can be read back, scored and continued like those of any other data.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.arrays import read_arrays, write_frames
from rnade_lightning.datamodules.core.files import with_ending
from rnade_lightning.datamodules.core.frames import FrameDataModule, Recording
from rnade_lightning.datamodules.core.moments import moments
from rnade_lightning.datamodules.core.splits import scores
from rnade_lightning.datamodules.core.standardise import Standardiser

_PARTS = ("train", "val", "test")


class SimulatedDataModule(FrameDataModule):
    """Sequences of equal length drawn from a process that is known.

    Args:
        root: Saved frames (.npz) to use. Without it, sequences are simulated.
        n_train: Training sequences.
        n_val: Validation sequences.
        n_test: Test sequences.
        n_frames: Frames of each sequence.
        **kwargs: See `FrameDataModule`; its options that split files do nothing where sequences are
            simulated.
    """

    extensions = (".npz",)
    fps: ClassVar[float]
    """Frames per second at which the frames are played."""

    def __init__(
        self,
        root: str | None = None,
        n_train: int = 100,
        n_val: int = 20,
        n_test: int = 100,
        n_frames: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.n_frames, self._n_sequences = (
            n_frames,
            dict(zip(_PARTS, (n_train, n_val, n_test), strict=True)),
        )
        if min(self._n_sequences.values()) < 1:
            raise DataError("n_train, n_val and n_test must be 1 or more")
        if root is None and not scores(n_frames, self.warmup):
            raise DataError(f"n_frames {n_frames} must be more than warmup {self.warmup}")

    @abstractmethod
    def simulate(self, n_sequences: int, rng: np.random.Generator) -> Array:
        """Draw sequences, ``(n_sequences, n_frames, D_raw)``."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the raw features."""

    def read(self, path: Path) -> Recording:
        """Read frames that `write` wrote."""
        arrays, _, _ = read_arrays(path, self.max_bytes)
        for frames in arrays.values():
            if frames.shape[1] != len(self.names):
                raise DataError(
                    f"{path}: frames have {frames.shape[1]} numbers, not {len(self.names)}:"
                    " set the sizes it was made with"
                )
        return Recording(arrays, self.names, self.fps, {})

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Write ``.npz`` and a picture."""
        path = with_ending(stem, "npz")
        write_frames(path, raw, self.fps)
        return [path]

    def setup(self, stage: str | None = None) -> None:
        """Simulate all parts, and fit statistics unless a checkpoint gave them."""
        if self.root is not None:
            return super().setup(stage)
        if self._raw:
            return None
        if self._beside.anything or self.ignore or self.only:
            raise DataError(
                "simulated data take no labels, control, ignore or only: leave them out"
            )
        for i, (part, n) in enumerate(self._n_sequences.items()):
            drawn = self.simulate(n, np.random.default_rng([self.seed, i]))
            self._raw[part] = [(f"{part}_{k}", frames) for k, frames in enumerate(drawn)]
        if self._standardiser is None:
            training = [frames for _, frames in self._raw["train"]]
            known = [frames for part in ("train", "val") for _, frames in self._raw[part]]
            self._standardiser = Standardiser.of(
                moments(training), self.names, self.rank_tolerance, self.rescale, known
            )
        self._reference = Recording({}, self.names, self.fps, {})
        return None

    def _root(self) -> str | Path:
        return self.root if self.root is not None else f"simulated from seed {self.seed}"

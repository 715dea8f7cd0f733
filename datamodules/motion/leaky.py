"""Split data as the 2014 paper did, leaks and all, to measure what it measured and nothing else.

Training windows come from the first 80 % of every sequence. A test window is drawn from a sequence
chosen in proportion to its length. It starts in the last 20 %, or as late as a whole window allows.
Where that part is shorter than a window, test windows begin among the training frames. So it is in
two of the three sequences of MOCAP.mat.
"""

from pathlib import Path
from typing import Any

import numpy as np

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.recording import Frames
from rnade_lightning.datamodules.motion.mocap import MocapDataModule

_TEST = 0.2


class LeakyMocapDataModule(MocapDataModule):
    """Motion split as in the 2014 paper. There is no validation part.

    Args:
        root: As in `MocapDataModule`.
        n_windows: Test windows, of as many frames as training windows.
        **kwargs: See `MocapDataModule`; its fractions are not used.
    """

    reader_version = MocapDataModule.reader_version
    reads_without = ("n_windows",)

    def __init__(self, root: str | None = None, n_windows: int = 100, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.val_fraction, self.test_fraction = 0.0, _TEST
        self.n_windows = n_windows
        if n_windows < 1:
            raise DataError("n_windows must be 1 or more")

    def _divided(
        self, path: Path, sequences: dict[str, Array | Frames], label: str | None
    ) -> list[tuple[str, str, Array | Frames]]:
        name = self._name(path)
        pieces = []
        for suffix, frames in sequences.items():
            if (left := self._start(frames)) < self.window:
                raise DataError(
                    f"{path}: {len(frames)} frames leave only {left} to train: set window to"
                    f" {left} or less"
                )
            pieces.append(("train", name + suffix, frames[: self._start(frames)]))
        rng, suffixes = np.random.default_rng(self.seed), list(sequences)
        lengths = np.array([len(frames) for frames in sequences.values()])
        for i in rng.choice(len(suffixes), self.n_windows, p=lengths / lengths.sum()):
            frames = sequences[suffixes[i]]
            last = len(frames) - self.window
            start = int(rng.integers(min(self._start(frames), last), last + 1))
            window = frames[start : start + self.window]
            pieces.append(("test", f"{name}{suffixes[i]}_{start}", window))
        return pieces

    @staticmethod
    def _start(frames: Array | Frames) -> int:
        """Return the first frame of the part from which test windows should come."""
        return len(frames) - round(_TEST * len(frames))

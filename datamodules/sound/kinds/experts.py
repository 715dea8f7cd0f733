"""Frames of integer samples as innovations, with all that experts say of each; see `front_end`.

An innovation is a sample less its prediction, over a scale, and its side information tells where
the cell of the integer lies. So the mass of a cell, which is log p of such frames, is exact: no
noise is added, and bits per sample are those of the integers.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.sound import panel
from rnade_lightning.datamodules.sound.kinds import SampleFrames


class Experts(SampleFrames):
    """``frame_length`` integer samples in a row, each less its prediction, over a scale."""

    reader_version = 1
    of_integers = True
    from_start = True

    @property
    def feature_names(self) -> list[str]:
        return [f"innovation_{i}" for i in range(self.frame_length)]

    @property
    def side_names(self) -> list[str]:
        return panel.side_names()

    def pieces(self, samples: Iterable[Array], rate: int) -> Iterator[Array]:
        from rnade_lightning.datamodules.sound import front_end

        state, n_done = front_end.start(), 0
        for piece in self.whole_frames(samples):
            z, side, again = front_end.analyse(state, piece, np.zeros(0))
            for at in np.flatnonzero(again != piece)[:1]:
                where = f"sample {n_done + at} ({(n_done + at) / rate:.3f} s)"
                raise DataError(
                    f"{where} is {piece[at]:.0f} steps, so far from its prediction that its"
                    " innovation in 32 bits would be that of another integer: set bit_depth to 16,"
                    " or leave the file out"
                )
            n_done += len(piece)
            of_frame = z.reshape(-1, self.frame_length)
            yield np.hstack([of_frame, side.reshape(len(of_frame), -1)])

    def to_samples(self, frames: Array, rate: int) -> Array:
        from rnade_lightning.datamodules.sound import front_end

        return front_end.synthesise(front_end.start(), self.numbers(frames))

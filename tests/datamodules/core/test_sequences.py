"""Sequences are read when they are asked for, and no more of them than asked for."""

from typing import Any

import numpy as np
import torch

from rnade_lightning.datamodules.core.sequences import FrameSequence, Sequences
from rnade_lightning.datamodules.core.standardise import Standardiser


class Counted:
    """Frames that count how many of them are read."""

    def __init__(self, frames: np.ndarray, read: list[int]) -> None:
        self.frames, self.read = frames, read

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, span: slice) -> "Counted":
        return Counted(self.frames[span], self.read)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self.read.append(len(self.frames))
        return self.frames.astype(dtype or float)


def made(lengths: list[int]) -> tuple[Sequences, list[int], list[np.ndarray], Standardiser]:
    rng, read = np.random.default_rng(0), list[int]()
    raw = [np.column_stack([rng.normal(size=(n, 2)), np.full(n, 7.0)]) for n in lengths]
    standardiser = Standardiser.fit(raw, ["a", "b", "still"])
    pairs = [(f"take{i}", Counted(x, read)) for i, x in enumerate(raw)]
    return Sequences(pairs, standardiser), read, raw, standardiser  # type: ignore[arg-type]


def test_lengths_and_selections_read_nothing() -> None:
    sequences, read, _, _ = made([5, 9, 3])
    assert sequences.lengths == [5, 9, 3]
    assert sequences.longer_than(4).lengths == [5, 9]
    assert sequences[1:].lengths == [9, 3]
    assert not read


def test_a_stretch_reads_its_frames_and_equals_that_of_the_whole() -> None:
    sequences, read, raw, _ = made([50])
    part = sequences.stretch(0, 10, 14)
    assert read == [4]
    whole = sequences[0].stretch(10, 14)
    assert torch.equal(part.frames, whole.frames)
    np.testing.assert_array_equal(part.raw, raw[0][10:14])


def test_a_stretch_keeps_which_frames_break_a_relation() -> None:
    _, _, raw, standardiser = made([50])
    raw[0][20:30, 2] = 8.0
    whole = FrameSequence.of("take", raw[0], standardiser)
    assert whole.breaks == dict.fromkeys(range(20, 30), "still")
    part = whole.stretch(25, 35)
    assert part.breaks == dict.fromkeys(range(5), "still")
    assert part.log_jacobian.isneginf().tolist() == [True] * 5 + [False] * 5


def test_the_first_frame_that_breaks_a_relation_is_named() -> None:
    sequences, _, raw, standardiser = made([50, 40])
    assert sequences.first_break() == "a frame"
    raw[1][20:30, 2] = 8.0
    named = [(str(i), x) for i, x in enumerate(raw)]
    assert Sequences(named, standardiser).first_break() == "1: still of frame 20"

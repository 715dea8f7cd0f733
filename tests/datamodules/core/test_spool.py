"""Frames in pieces: the same, in memory and in a file."""

import gc

import numpy as np
import pytest

from rnade_lightning.datamodules.core.spool import ROWS, Spooled, gathered, pieces_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frames_in_a_file_are_those_that_were_given(dtype: type) -> None:
    frames = np.random.default_rng(0).normal(size=(2 * ROWS + 7, 3)).astype(dtype)
    pieces = np.split(frames, [1, 50, 50, 3000, ROWS])
    whole, spooled = gathered(pieces), gathered(pieces, most=1000)
    assert isinstance(whole, np.ndarray)
    assert isinstance(spooled, Spooled)
    for found in (whole, spooled):
        assert (found.shape, found.dtype, len(found)) == (frames.shape, dtype, len(frames))
        np.testing.assert_array_equal(np.asarray(found), frames)
        np.testing.assert_array_equal(np.asarray(found[5:9]), frames[5:9])
        np.testing.assert_array_equal(np.concatenate(list(pieces_of(found))), frames)
    assert np.asarray(spooled[7:7]).shape == (0, 3)
    assert np.asarray(spooled[3:4], np.float64).dtype == np.float64


@pytest.mark.slow
def test_a_slice_keeps_the_file() -> None:
    part = gathered([np.arange(40.0).reshape(20, 2)], most=1)[15:]
    gc.collect()
    np.testing.assert_array_equal(np.asarray(part)[:, 0], np.arange(30.0, 40, 2))


def test_a_file_that_was_cut_is_seen() -> None:
    spooled = gathered([np.zeros((20, 2))], most=1)
    assert isinstance(spooled, Spooled)
    spooled.file.truncate(100)
    with pytest.raises(OSError, match="was cut"):
        np.asarray(spooled)

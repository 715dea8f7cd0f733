"""The paper's split, leaks and all."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from rnade_lightning.datamodules import DataError, LeakyMocapDataModule


@pytest.fixture
def counting_mat(tmp_path: Path) -> Path:
    """Return frames that say which they are: the first feature counts through."""
    lengths, rng = [438, 260, 1302], np.random.default_rng(0)
    frames = np.column_stack([np.arange(2000), rng.standard_normal((2000, 48))])
    savemat(tmp_path / "MOCAP.mat", {"batchdata": frames, "seqlengths": [lengths]})
    return tmp_path / "MOCAP.mat"


def test_the_papers_windows_leak_as_they_did(counting_mat: Path) -> None:
    data = LeakyMocapDataModule(str(counting_mat), window=100, n_windows=400, standardise=False)
    known = set(torch.cat([s.frames[:, 0] for s in data.sequences("train")]).tolist())
    assert len(known) == 350 + 208 + 1042
    windows = [s.frames[:, 0].tolist() for s in data.sequences("test")]
    assert all(len(w) == 100 and w[-1] - w[0] == 99 for w in windows)
    leaking = [w[0] in known for w in windows]
    assert np.mean(leaking) == pytest.approx(698 / 2000, abs=0.07)  # the two short sequences
    starts = {w[0] for w in windows if w[0] < 698}
    assert starts == {338.0, 438.0 + 160.0}
    assert min(w[0] for w in windows if w[0] >= 698) >= 698 + 1042
    again = LeakyMocapDataModule(str(counting_mat), window=100, n_windows=400, standardise=False)
    assert [s.name for s in again.sequences("test")] == [s.name for s in data.sequences("test")]


def test_a_sequence_too_short_for_a_window_is_named(counting_mat: Path) -> None:
    with pytest.raises(DataError, match=r"MOCAP\.mat: 260 frames leave only 208"):
        LeakyMocapDataModule(str(counting_mat), window=220, standardise=False).setup()

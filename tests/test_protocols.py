"""Who is trained on what: listed files, the paper's windows, the process behind simulated data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from toy import ToyDataModule, write_toy_data

from rnade_lightning.datamodules import DataError, LeakyMocapDataModule, TrajectoryDataModule
from rnade_lightning.datamodules.simulated.trajectory import STD_RATIO, STD_X


def test_listed_files_are_where_the_list_puts_them(tmp_path: Path) -> None:
    root = write_toy_data(tmp_path, (40, 50, 60, 70))
    data = ToyDataModule(str(root), window=16, parts={"val": ["take2"], "test": ["take0"]})
    found = {part: [s.name for s in data.sequences(part)] for part in ("train", "val", "test")}  # type: ignore[arg-type]
    assert found == {"train": ["take1", "take3"], "val": ["take2"], "test": ["take0"]}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"val": ["take9"], "test": ["take0"]}, "the first is take9"),
        ({"val": ["take1"], "test": ["take1"]}, "take1 is listed twice"),
        ({"train": ["take1"]}, "'train' is none of val, test"),
        ({"val": ["take1"]}, "no file that can be used is left for test"),
    ],
)
def test_a_wrong_list_is_refused(parts: dict[str, list[str]], message: str, tmp_path: Path) -> None:
    root = write_toy_data(tmp_path)
    with pytest.raises(DataError, match=message):
        ToyDataModule(str(root), window=16, parts=parts).setup()


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    """Frames that say which they are: the first feature counts through."""
    lengths, rng = [438, 260, 1302], np.random.default_rng(0)
    frames = np.column_stack([np.arange(2000), rng.standard_normal((2000, 48))])
    savemat(tmp_path / "MOCAP.mat", {"batchdata": frames, "seqlengths": [lengths]})
    return tmp_path / "MOCAP.mat"


def test_the_papers_windows_leak_as_they_did(mat: Path) -> None:
    data = LeakyMocapDataModule(str(mat), window=100, n_windows=400, standardise=False)
    known = set(torch.cat([s.frames[:, 0] for s in data.sequences("train")]).tolist())
    assert len(known) == 350 + 208 + 1042
    windows = [s.frames[:, 0].tolist() for s in data.sequences("test")]
    assert all(len(w) == 100 and w[-1] - w[0] == 99 for w in windows)
    leaking = [w[0] in known for w in windows]
    assert np.mean(leaking) == pytest.approx(698 / 2000, abs=0.07)  # the two short sequences
    starts = {w[0] for w in windows if w[0] < 698}
    assert starts == {338.0, 438.0 + 160.0}
    assert min(w[0] for w in windows if w[0] >= 698) >= 698 + 1042
    again = LeakyMocapDataModule(str(mat), window=100, n_windows=400, standardise=False)
    assert [s.name for s in again.sequences("test")] == [s.name for s in data.sequences("test")]


def test_a_sequence_too_short_for_a_window_is_named(mat: Path) -> None:
    with pytest.raises(DataError, match=r"MOCAP\.mat: 260 frames leave only 208"):
        LeakyMocapDataModule(str(mat), window=220, standardise=False).setup()


def test_the_process_says_what_its_frames_do() -> None:
    data = TrajectoryDataModule(n_test=2000, n_frames=30, window=30)
    sequences = data.sequences("test")
    log_p, mean, variance = data.process(sequences[0].frames)
    frames = torch.stack([s.frames for s in sequences]).double()
    torch.testing.assert_close(frames.mean(0), mean.double(), rtol=0, atol=0.1)
    seen = (frames - mean).square().mean((0, 1))
    torch.testing.assert_close(seen, variance.mean(0), rtol=0.05, atol=0)
    z = (data.destandardise(frames[0])[:, 0] - np.sin(np.arange(30)) - 1) / STD_X
    ratio = data.destandardise(frames[0]).T
    r = (ratio[1] / ratio[0] - np.sin(np.arange(30)) - 0.5) / STD_RATIO
    raw = -0.5 * (z**2 + r**2) - np.log(2 * np.pi * STD_X * STD_RATIO) - np.log(np.abs(ratio[0]))
    np.testing.assert_allclose(log_p, raw + data.log_scale, atol=1e-4)

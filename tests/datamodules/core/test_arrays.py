"""Frames of plain numbers go in and out."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from fuzz import outcome

from rnade_lightning import RNNRNADE
from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.arrays import ArrayDataModule
from rnade_lightning.lightning_module import RNNRNADEModule


@pytest.mark.parametrize("kind", ["npy", "npz", "csv"])
def test_plain_frames_go_in_and_out(kind: str, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal(size=(200, 3))
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, frames.astype(np.float32))
    elif kind == "npz":
        np.savez(path, one=frames[:120], two=frames[120:], fps=50)
    else:
        np.savetxt(path, frames, delimiter=";", header="left; right;up", comments="")
    data = ArrayDataModule(str(path), window=16, fps=50, standardise=False)
    names = ["a:one", "a:two"] if kind == "npz" else ["a"]
    assert [s.name for s in data.sequences("train")] == names
    assert data.feature_names[0] == ("left" if kind == "csv" else "feature_0")
    first = data.sequences("train")[0].frames.numpy()
    np.testing.assert_allclose(first, frames[: len(first)], atol=1e-6)
    npz, png = data.render(first[:20], tmp_path / "out")
    assert png.stat().st_size > 0
    np.testing.assert_allclose(data.score_input(npz).frames.numpy(), first[:20], atol=1e-6)
    if kind == "npz":
        with pytest.raises(DataError, match=r"a\.npz: has 50 frames per second: set fps"):
            ArrayDataModule(str(path), fps=30).setup()


WALKS = [np.random.default_rng(i).normal(size=(90 + i, 3)).cumsum(0) for i in range(4)]


class Table:
    """As little of a table as is asked of one; tables of other libraries have more."""

    def __init__(self, frames: Any, columns: list[str]) -> None:
        self.frames, self.columns = frames, columns

    def to_numpy(self) -> Any:
        return self.frames


def as_pandas(frames: Any) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(frames, columns=["x", "y", "z"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "held",
    [
        lambda: WALKS,
        lambda: [torch.from_numpy(x) for x in WALKS],
        lambda: [Table(x, ["x", "y", "z"]) for x in WALKS],
        lambda: [as_pandas(x) for x in WALKS],
    ],
    ids=["arrays", "tensors", "tables", "pandas"],
)
@pytest.mark.parametrize("split", ["tail", "file"])
def test_frames_in_memory_are_split_and_scaled_as_those_of_files(
    held: Any, split: Any, tmp_path: Path
) -> None:
    for i, frames in enumerate(WALKS):
        np.save(tmp_path / f"sequence_{i}.npy", frames)
    of_files = ArrayDataModule(str(tmp_path), window=16, split=split, test_fraction=0.3)
    data = ArrayDataModule(held(), window=16, split=split, test_fraction=0.3)
    for part in ("train", "val", "test"):
        ours, theirs = data.sequences(part), of_files.sequences(part)
        if split == "tail":
            assert [s.name for s in ours] == [s.name for s in theirs]
            assert all(torch.equal(a.frames, b.frames) for a, b in zip(ours, theirs, strict=True))
        assert len(ours) == len(theirs) > 0
    named = not isinstance(held()[0], np.ndarray | torch.Tensor)
    assert data.feature_names == (list("xyz") if named else of_files.feature_names)


def test_one_array_or_one_of_arrays_is_enough() -> None:
    for held in (WALKS[0], torch.from_numpy(WALKS[0]), Table(WALKS[0], list("xyz"))):
        assert len(ArrayDataModule(held, window=16).sequences("train")) == 1
    assert (
        len(ArrayDataModule(np.stack([x[:90] for x in WALKS]), window=16).sequences("train")) == 4
    )


@pytest.mark.slow
def test_frames_in_memory_are_not_kept_and_what_they_tell_is(tmp_path: Path) -> None:
    long = np.random.default_rng(9).normal(size=(40_000, 3))
    held = [Table(x.copy(), ["left", "right", "up"]) for x in (*WALKS, long)]
    data = ArrayDataModule(held, fps=50, window=16)
    held[0].frames[:] = 0  # the copy does not change
    assert "in memory" in data.describe()["root"]
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(RNNRNADEModule(3, n_hidden=4), data)
    path = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    checkpoint = load_checkpoint(path)
    assert checkpoint["datamodule_hyper_parameters"]["root"] is None
    assert Path(path).stat().st_size < long.nbytes
    again = load_data(checkpoint)
    assert again.feature_names == ["left", "right", "up"]
    np.savez(tmp_path / "a.npz", frames=WALKS[1], feature_names=["left", "right", "up"], fps=50)
    frames = again.score_input(tmp_path / "a.npz").frames
    assert torch.equal(frames, data.standardise(WALKS[1]))
    model = load_model(checkpoint)
    assert isinstance(model, RNNRNADE)
    assert model.log_prob(frames[None]).isfinite().all()
    assert [p.suffix for p in again.render(frames[:5], tmp_path / "b")] == [".npz", ".png"]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([], "an empty list"),
        ([WALKS[0], WALKS[1][:, :2]], "sequence_1.*other features"),
        ([WALKS[0][:, 0]], r"sequence_0: ndarray of float64 \(90,\), not numbers"),
        ([WALKS[0].astype(complex)], "complex128"),
        (Table(np.array([["a"] * 3] * 40, object), list("xyz")), "object"),
        (Table(WALKS[0], ["x", "x", "z"]), "two columns have one name"),
        (np.where(WALKS[0] > 0, WALKS[0], np.nan), "sequence_0: frame .* is nan"),
    ],
)
def test_what_are_no_frames_is_refused(held: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        ArrayDataModule(held, window=16).setup()


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((60, 4)))
    path.write_bytes(path.read_bytes().replace(b"(60, 4), ", b"(10**9,4)"))
    assert outcome(path, ArrayDataModule().read) == "refused"
    np.save(path, np.zeros((60, 4)))
    path.write_bytes(path.read_bytes().replace(b"(60, 4),   ", b"(60000000, 4),")[:-5])
    assert outcome(path, ArrayDataModule().read) == "refused"


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_objects_in_arrays_are_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    objects = np.array([[Payload(mark)]], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", one=objects)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match=r"a\.np[yz]: not a whole NumPy file"):
            ArrayDataModule().read(tmp_path / name)
    assert not mark.exists()
    np.load(tmp_path / "a.npy", allow_pickle=True)  # the payload does work
    assert mark.exists()


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    names = np.array([0xFFFFFFFF, 97], dtype="<u4").view("<U1")
    np.savez(tmp_path / "a.npz", x=np.zeros((9, 2)), feature_names=names)
    with pytest.raises(DataError, match=r"a\.npz: feature_names holds what is no text"):
        ArrayDataModule().read(tmp_path / "a.npz")

"""A data module with labels, controls and second files: what is given, in batches and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from rnade_lightning.callbacks import LinearStart
from rnade_lightning.datamodules import ArrayDataModule, DataError
from rnade_lightning.lightning_module import RNNRNADEModule

LABELS = r"/(?P<kind>[ab])\d"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write eight files of three features, of two kinds, each with a second file."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    (folder / "data").mkdir()
    for i in range(8):
        name, frames = f"{'ab'[i % 2]}{i}", rng.normal(size=(60, 3)).cumsum(0)
        head = {"comments": "", "delimiter": ","}
        np.savetxt(folder / "data" / f"{name}.csv", frames, "%.6f", header="x,y,turn", **head)
        force = np.column_stack([np.arange(70) / 10, rng.normal(size=70)])
        np.savetxt(folder / f"{name}_force.csv", force, "%.6f", header="seconds,force", **head)
    return folder


def data_of(files: Path, **options: Any) -> ArrayDataModule:
    how = {"fps": 10.0, "window": 16, "split": "file", "val_fraction": 0.2}
    return ArrayDataModule(str(files / "data"), **(how | options))


def everything(files: Path, **options: Any) -> ArrayDataModule:
    own = {"labels": LABELS, "control": ["turn"], "control_files": "../{name}_force.csv"}
    return data_of(files, **(own | options))


def test_what_is_given_is_not_modelled(files: Path) -> None:
    data, plain = everything(files, control_window=[1, 2]), data_of(files)
    assert data.feature_names == ["x", "y"]
    assert data.n_context == [8, 2]
    assert (plain.n_features, plain.n_context) == (3, 0)
    assert data.log_scale == pytest.approx(float(np.log(plain._standardiser.std[:2]).sum()))
    for ours, theirs in zip(data.sequences("train"), plain.sequences("train"), strict=True):
        assert torch.equal(ours.frames, theirs.frames[:, :2])
        own = data.given.control_of(ours.context)
        force = np.loadtxt(files / f"{ours.name}_force.csv", delimiter=",", skiprows=1)[:60, 1]
        np.testing.assert_allclose(own[:, 1], force, atol=1e-5)
        np.testing.assert_allclose(own[:, 0], np.asarray(theirs.raw)[:, 2], atol=1e-5)
        assert ours.labels == {"kind": ours.name[0]}
        assert ours.context[0, 8:].tolist() == [float(ours.name[0] == k) for k in "ab"]
    assert data.describe()["given"] == {
        "control": ["turn", "force"],
        "labels": {"kind": ["a", "b"]},
    }


@pytest.mark.parametrize("stateful", [False, True])
def test_batches_carry_the_context_of_their_frames(files: Path, stateful: bool) -> None:
    data = everything(files, stateful=stateful, control_window=[1, 2])
    whole = {tuple(x.tolist()): c for s in data.sequences("train")
             for x, c in zip(s.frames, s.context, strict=True)}  # fmt: skip
    n = 0
    for batch in data.train_dataloader():
        frames, context = batch["frames"][batch["mask"]], batch["context"][batch["mask"]]
        for x, c in zip(frames, context, strict=True):
            torch.testing.assert_close(c, whole[tuple(x.tolist())])
        n += len(frames)
    assert n >= len(whole)


def test_frames_are_written_with_what_was_given(files: Path, tmp_path: Path) -> None:
    data = everything(files)
    sequence = data.sequences("test")[0]
    raw = data.destandardise(sequence.frames, sequence.context)
    np.testing.assert_allclose(raw, np.asarray(sequence.raw)[:, :3], atol=1e-4)
    np.testing.assert_allclose(data.destandardise(sequence.with_context()), raw)
    npz = data.render(sequence.frames, tmp_path / "a1", context=sequence.context)[0]
    np.testing.assert_allclose(np.load(npz)["sequence"] if "sequence" in np.load(npz) else
                               next(iter(np.load(npz).values())), raw, atol=1e-4)  # fmt: skip
    with pytest.raises(DataError, match="give their context as well"):
        data.destandardise(sequence.frames)


def test_a_function_of_what_is_given_is_left_out() -> None:
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(2, 200, 1))
    frames = np.hstack([x, x - 2 * c, c, 0 * c + 1])
    data = ArrayDataModule([frames], window=16, control=["feature_2", "feature_3"])
    assert data.feature_names == ["feature_0"]
    assert "feature_1" in data.dropped
    s = data.sequences("test")[0]
    np.testing.assert_allclose(data.destandardise(s.frames, s.context), s.raw, atol=1e-5)


def test_a_checkpoint_keeps_it_and_other_files_are_read_with_theirs(files: Path) -> None:
    data = everything(files)
    data.setup()
    other = everything(files)
    other.load_state_dict(torch.load(_saved(data.state_dict(), files), weights_only=True))
    theirs = other.score_input(files / "data" / "a0.csv")
    own = next(s for part in ("train", "val", "test") for s in data.sequences(part)
               if s.name == "a0")  # fmt: skip
    assert torch.equal(theirs.context, own.context)
    assert other.n_context == data.n_context == [2, 2]


def _saved(state: Any, folder: Path) -> Path:
    torch.save(state, folder / "state.pt")
    return folder / "state.pt"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": r"/(?P<kind>[ab]\d)"}, "is that of no training file"),
        ({"labels": r"/(?P<kind>zzz)"}, "'kind' is told of no training file"),
        ({"control": ["turm"]}, "control 'turm' names no feature of x, y, turn"),
        ({"control": ["*"]}, "nothing to model"),
        ({"control_files": "../{name}_sound.csv"}, "a0_sound.csv, which controls it, is not there"),
        ({"control_files": "../force.csv"}, "has no {name}"),
        ({"control_window": [0]}, "two numbers of frames"),
    ],
)
def test_what_does_not_fit_is_refused(files: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        data_of(files, **options).setup()


def test_files_without_a_label_are_told_and_train_without(files: Path) -> None:
    data = data_of(files, labels=r"/(?P<kind>a)\d")
    with pytest.warns(UserWarning, match="training sequences have no kind"):
        data.setup()
    absent = [s.context.isnan().all() for s in data.sequences("train") if s.name[0] == "b"]
    assert absent
    assert all(absent)


def test_only_the_files_that_are_wanted_are_read(files: Path) -> None:
    data = data_of(files, only="/a", parts={"val": ["a[02]"], "test": ["a4"]})
    names = {part: [s.name for s in data.sequences(part)] for part in ("train", "val", "test")}
    assert names == {"train": ["a6"], "val": ["a0", "a2"], "test": ["a4"]}
    with pytest.raises(DataError, match="only '/c' finds none of 8 files"):
        data_of(files, only="/c").setup()
    with pytest.raises(DataError, match="a4 is in val and test"):
        data_of(files, parts={"val": ["a*"], "test": ["a4"]}).setup()


def test_what_is_ignored_is_written_at_its_mean_and_never_breaks_a_frame(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal([0, 5, 0], size=(200, 3))
    data = ArrayDataModule([frames], window=16, ignore=["feature_[12]"])
    assert data.feature_names == ["feature_0"]
    assert data.dropped == {"feature_1": "ignored", "feature_2": "ignored"}
    mean = frames[:140].mean(0)  # of the training part
    raw = data.destandardise(data.sequences("test")[0].frames)
    np.testing.assert_allclose(raw[:, 1:], np.tile(mean[1:], (len(raw), 1)))
    np.save(tmp_path / "far.npy", frames * [1, 1e6, -1e6])
    other = ArrayDataModule(window=16)
    state = data.state_dict()
    numbers = [t for t in state["standardiser"].values() if torch.is_tensor(t)]
    assert all(t.isfinite().all() for t in numbers)  # as checkpoints must be
    other.load_state_dict(state)
    scored = other.score_input(tmp_path / "far.npy")
    assert not scored.breaks
    assert not scored.log_jacobian.isinf().any()
    with pytest.raises(DataError, match="ignore 'x' names no feature"):
        ArrayDataModule([frames], window=16, ignore=["x"]).setup()


@pytest.mark.slow
def test_a_model_given_a_second_stream_reaches_its_exact_density(tmp_path: Path) -> None:
    """x_t = 0.5 x_{t-1} + B f_t + 0.3 e_t, where f is the second stream."""
    rng, B, held_out = np.random.default_rng(0), np.array([[1.0, -0.5], [0.3, 0.8]]), []
    for i in range(6):
        f, e = rng.normal(size=(2, 400, 2))
        x = np.zeros((400, 2))
        for t in range(1, 400):
            x[t] = 0.5 * x[t - 1] + B @ f[t] + 0.3 * e[t]
        np.save(tmp_path / f"{i}.npy", x)
        head = {"comments": "", "delimiter": ","}
        np.savetxt(tmp_path / f"{i}_f.csv.txt", f, "%.8f", header="p,q", **head)
        held_out.append(-0.5 * (e[3:] ** 2).sum(1) - 2 * np.log(0.3 * np.sqrt(2 * np.pi)))
    data = ArrayDataModule(
        str(tmp_path), control_files="{name}_f.csv.txt", parts={"val": ["4"], "test": ["5"]},
        standardise=False,
    )  # fmt: skip
    module = RNNRNADEModule(
        data.n_features, 0, 4, 1, n_context=data.n_context, component="gaussian", floor=0.0
    )
    trainer = pl.Trainer(
        max_epochs=2, callbacks=[LinearStart(1e-3, context_ridge=1e-3)], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu",
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    (found,) = trainer.test(module, datamodule=data, verbose=False)
    assert -found["test/nll"] == pytest.approx(held_out[5].mean(), abs=0.1)


def test_files_of_one_name_keep_what_is_beside_each(tmp_path: Path) -> None:
    """Also where a glob finds them: folders are part of their names."""
    for folder, offset in (("walk", 0.0), ("run", 100.0)):
        (tmp_path / folder).mkdir()
        for i in range(6):
            rng = np.random.default_rng(i)
            np.save(tmp_path / folder / f"{i}.npy", rng.normal(size=(40, 2)).cumsum(0))
            head = {"comments": "", "delimiter": ",", "header": "force"}
            own = offset + rng.normal(size=(40, 1))
            np.savetxt(tmp_path / folder / f"{i}.force.csv", own, **head)
    how: dict[str, Any] = {"window": 16, "split": "file", "fps": 10.0, "val_fraction": 0.2}
    for root in ("*/*.npy", "**/*.npy", ""):
        data = ArrayDataModule(
            str(tmp_path / root), labels="parent", control_files="{name}.force.csv",
            only=r"\.npy$", **how
        )  # fmt: skip
        assert data.given.classes == {"folder": ["run", "walk"]}
        for part in ("train", "val", "test"):
            for sequence in data.sequences(part):
                force = data.given.control_of(sequence.context).mean()
                walks = sequence.name.startswith("walk/")
                assert (force < 50) == walks
                assert sequence.context[0, -1] == walks

"""Splits, windows, statistics, batches and state, on a data module made for the purpose."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from rnade_lightning.checkpoints import load_data
from rnade_lightning.class_paths import public_path
from rnade_lightning.datamodules import DataError, FrameDataModule
from rnade_lightning.datamodules.core.batches import cut
from rnade_lightning.datamodules.core.frames import Recording
from rnade_lightning.datamodules.core.standardise import Standardiser

NAMES = ["a", "still", "b", "sum", "c"]


class TableDataModule(FrameDataModule):
    """Text tables of five features: ``still`` never changes, ``sum`` is a - 2 b + 3."""

    extensions = (".txt",)

    def read(self, path: Path) -> Recording:
        return Recording({"": np.loadtxt(path)}, NAMES, 10.0, {"title": "table"})

    def write(self, raw: np.ndarray, stem: Path) -> list[Path]:
        np.savetxt(stem.with_suffix(".txt"), raw, fmt="%.17g")
        return [stem.with_suffix(".txt")]


def table(n_frames: int, seed: int) -> np.ndarray:
    a, b, c = np.random.default_rng(seed).normal(2.0, 3.0, size=(3, n_frames))
    return np.stack([a, np.full(n_frames, 7.0), b, a - 2 * b + 3, c], axis=-1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tables"
    root.mkdir()
    for i, n_frames in enumerate((50, 73, 41, 60, 38)):
        np.savetxt(root / f"{i}.txt", table(n_frames, i), fmt="%.17g")
    return root


def module(root: Path, world_size: int = 1, rank: int = 0, **kwargs: Any) -> TableDataModule:
    data = TableDataModule(str(root), **{"window": 8, "batch_size": 4, **kwargs})
    data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank)  # type: ignore[assignment]
    return data


def frames_of(loader: Any, which: str = "mask") -> list[tuple[float, ...]]:
    """Every frame a loader delivers where ``which`` is true."""
    return [tuple(x) for batch in loader for x in batch["frames"][batch[which]].tolist()]


@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 15, 16, 17, 100])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_windows_lose_no_frame(n_frames: int, stride: int) -> None:
    spans = cut(n_frames, window=8, stride=stride)
    assert set().union(*(range(*span) for span in spans)) == set(range(n_frames))
    assert all(0 < stop - start <= 8 for start, stop in spans)
    assert sum(stop == n_frames for _, stop in spans) == 1


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_frame_once_on_any_number_of_ranks(folder: Path, split: str, world_size: int) -> None:
    delivered: list[tuple[float, ...]] = []
    lengths = set()
    for rank in range(world_size):
        data = module(folder, world_size, rank, stride=8)
        loader = getattr(data, f"{split}_dataloader")()
        batches = list(loader)
        lengths.add(tuple(len(batch["mask"]) for batch in batches))
        delivered += frames_of(batches)
        for batch in batches:
            assert (batch["frames"][~batch["mask"]] == 0).all()
            assert not (batch["mask"][:, 1:] & ~batch["mask"][:, :-1]).any()  # right padding only
    expected = [tuple(x) for s in data.sequences(split) for x in s.frames.tolist()]  # type: ignore[arg-type]
    assert sorted(delivered) == sorted(expected)
    assert len(lengths) == 1  # equal work for every rank


def test_ranks_share_the_windows_of_one_process(folder: Path) -> None:
    def batches(world_size: int, batch_size: int) -> list[list[tuple[float, ...]]]:
        ranks = [
            module(folder, world_size, rank, batch_size=batch_size).train_dataloader()
            for rank in range(world_size)
        ]
        return [sorted(frames_of(together)) for together in zip(*ranks, strict=True)]

    assert batches(1, 6) == batches(2, 3) == batches(3, 2)


def test_order_is_a_function_of_seed_and_epoch(folder: Path) -> None:
    def order(epoch: int, seed: int = 0) -> list[tuple[float, ...]]:
        loader = module(folder, seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return frames_of(loader)

    loader = module(folder).train_dataloader()
    first = frames_of(loader)
    loader.sampler.set_epoch(1)  # type: ignore[attr-defined]
    torch.randn(5)
    assert frames_of(loader) == order(1)
    assert first == order(0) != order(1)
    assert order(0) != order(0, seed=1)
    assert sorted(order(0)) == sorted(order(1)) == sorted(order(0, seed=1))


def test_loading_leaves_the_global_random_state_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    frames_of(module(folder).train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_deliver_the_same_batches(folder: Path) -> None:
    alone, helped = (frames_of(module(folder, num_workers=n).train_dataloader()) for n in (0, 1))
    assert alone == helped


def test_warmup_is_not_scored_in_evaluation_and_is_in_training(folder: Path) -> None:
    data = module(folder, warmup=3)
    for batch in data.train_dataloader():
        assert torch.equal(batch["scored"], batch["mask"])
    for batch in data.test_dataloader():
        assert torch.equal(batch["scored"][:, 3:], batch["mask"][:, 3:])
        assert not batch["scored"][:, :3].any()


def test_predict_gives_whole_test_sequences_in_order(folder: Path) -> None:
    data = module(folder)
    for batch, sequence in zip(data.predict_dataloader(), data.sequences("test"), strict=True):
        assert torch.equal(batch["frames"][0], sequence.frames)


def test_tail_split_is_in_time_order_and_does_not_overlap(folder: Path) -> None:
    data = module(folder)
    for i, n_frames in enumerate((50, 73, 41, 60, 38)):
        raw = [data.destandardise(data.sequences(s)[i].frames) for s in ("train", "val", "test")]  # type: ignore[arg-type]
        np.testing.assert_allclose(np.concatenate(raw), table(n_frames, i), atol=1e-5)
        assert len(raw[2]) == n_frames - round(0.8 * n_frames)


def test_file_split_keeps_files_whole(folder: Path) -> None:
    data = module(folder, split="file", test_fraction=0.4, seed=3)
    names = [s.name for split in ("train", "val", "test") for s in data.sequences(split)]  # type: ignore[arg-type]
    assert sorted(names) == ["0", "1", "2", "3", "4"]
    assert [len(data.sequences(s)) for s in ("train", "val", "test")] == [2, 1, 2]  # type: ignore[arg-type]


def test_statistics_come_from_training_frames_only(folder: Path) -> None:
    data = module(folder)
    train = torch.cat([sequence.frames for sequence in data.sequences("train")]).double()
    torch.testing.assert_close(train.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(train.std(0, False), torch.ones(3).double(), atol=1e-6, rtol=0)
    assert torch.cat([s.frames for s in data.sequences("test")]).mean(0).abs().min() > 1e-3


def test_dependent_and_constant_features_are_found_named_and_put_back(folder: Path) -> None:
    data = module(folder)
    assert data.feature_names == ["a", "b", "c"]
    assert data.dropped == {"still": "constant", "sum": "linear in b, a"}
    raw = table(20, seed=9)
    np.testing.assert_allclose(data.destandardise(data.standardise(raw)), raw, atol=1e-5)


@pytest.mark.parametrize(("noise", "found"), [(1e-6, True), (1e-2, False)])
def test_rank_tolerance_separates_rounding_from_signal(noise: float, found: bool) -> None:
    raw = table(500, seed=1)
    raw[:, 3] += noise * np.random.default_rng(2).normal(size=500)
    assert ("sum" in Standardiser.fit([raw], NAMES).dropped) is found


def test_log_scale_changes_the_units_of_a_density(folder: Path) -> None:
    data = module(folder)
    raw = np.concatenate([data.destandardise(s.frames) for s in data.sequences("train")])
    assert data.log_scale == pytest.approx(np.log(raw[:, [0, 2, 4]].std(axis=0)).sum(), abs=1e-6)
    assert module(folder, standardise=False).log_scale == 0


def test_unscaled_features_keep_their_units_and_still_come_back(folder: Path) -> None:
    data = module(folder, standardise=False)
    raw = table(20, seed=9)
    np.testing.assert_allclose(data.standardise(raw), raw[:, [0, 2, 4]], atol=1e-5)
    np.testing.assert_allclose(data.destandardise(data.standardise(raw)), raw, atol=1e-4)


def saved(data: FrameDataModule, path: Path) -> dict[str, Any]:
    """What a checkpoint holds of a data module, after a trip over the disk."""
    checkpoint = {
        "datamodule_hyper_parameters": {**data.hparams, "_class_path": "ignored"},
        type(data).__qualname__: data.state_dict(),
        "data_class": public_path(type(data)),
    }
    torch.save(checkpoint, path / "data.ckpt")
    return dict(torch.load(path / "data.ckpt", weights_only=True))


def test_state_round_trip_needs_no_files(folder: Path, tmp_path: Path) -> None:
    data = module(folder, window=16)
    checkpoint, raw = saved(data, tmp_path), table(20, seed=9)
    sequence = data.score_input(folder / "1.txt")
    (folder / "1.txt").rename(tmp_path / "kept.txt")
    for file in folder.iterdir():
        file.unlink()
    again = load_data(checkpoint)
    assert isinstance(again, TableDataModule)
    assert (again.n_features, again.window, again.frame_rate) == (3, 16, 10.0)
    assert torch.equal(again.standardise(raw), data.standardise(raw))
    assert torch.equal(again.score_input(tmp_path / "kept.txt").frames, sequence.frames)
    (written,) = again.render(sequence.frames, tmp_path / "written")
    np.testing.assert_allclose(np.loadtxt(written), table(73, 1), atol=1e-5)


@pytest.mark.parametrize("setup_first", [True, False])
def test_statistics_of_a_checkpoint_win(folder: Path, tmp_path: Path, setup_first: bool) -> None:
    checkpoint = saved(module(folder), tmp_path)
    for i, file in enumerate(sorted(folder.iterdir())):
        np.savetxt(file, 5 * table(60, seed=20 + i), fmt="%.17g")
    data = module(folder)
    if setup_first:
        data.setup()
        data.sequences("train")
    data.load_state_dict(checkpoint["TableDataModule"])
    data.setup()
    assert torch.cat([s.frames for s in data.sequences("train")]).std() > 3
    assert data.state_dict()["standardiser"]["std"].tolist() == pytest.approx(
        checkpoint["TableDataModule"]["standardiser"]["std"].tolist()
    )


def test_a_checkpoint_of_other_features_is_refused(folder: Path, tmp_path: Path) -> None:
    state = module(folder).state_dict()
    state["standardiser"]["names"] = ["a", "still", "other", "sum", "c"]
    data = module(folder)
    data.setup()
    with pytest.raises(
        DataError, match=r"checkpoint does not fit these data.*excess.*'b'.*'other'"
    ):
        data.load_state_dict(state)
    data = module(folder)
    data.load_state_dict(state)
    with pytest.raises(DataError, match=r"0\.txt: does not fit the checkpoint"):
        data.setup()


class Recorder(pl.LightningModule):
    """Learns nothing and notes the frames it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[float] = []

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        self.seen.append(batch["frames"].double().abs().sum().item())
        return self.weight.sum()

    def predict_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        return batch["frames"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **kwargs: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        accelerator="cpu", use_distributed_sampler=False, default_root_dir=folder, **quiet, **kwargs
    )


@pytest.mark.parametrize("stop", [3, 11, 14, 22])
def test_a_run_taken_up_inside_an_epoch_sees_the_same_windows(
    folder: Path, tmp_path: Path, stop: int
) -> None:
    def fit(recorder: Recorder, callbacks: list[pl.Callback], path: Path | None = None) -> None:
        data = TableDataModule(str(folder), window=8, batch_size=4)
        runner = trainer(tmp_path, max_epochs=3, callbacks=callbacks)
        runner.fit(recorder, datamodule=data, ckpt_path=path, weights_only=True)

    whole, rest = Recorder(), Recorder()
    keep = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(whole, [keep])
    fit(rest, [], tmp_path / f"step={stop}.ckpt")
    assert rest.seen == whole.seen[stop:]


def test_predict_through_the_trainer_keeps_order(folder: Path, tmp_path: Path) -> None:
    data = TableDataModule(str(folder), window=8)
    outputs = trainer(tmp_path).predict(Recorder(), datamodule=data)
    assert outputs is not None
    for frames, sequence in zip(outputs, data.sequences("test"), strict=True):
        assert torch.equal(frames[0], sequence.frames)  # type: ignore[call-overload]


def test_description_is_plain_and_counts_every_frame(folder: Path) -> None:
    card = module(folder).describe()
    assert sum(card["frames"].values()) == 50 + 73 + 41 + 60 + 38
    assert (card["n_files"], card["n_features"], card["features"]) == (5, 3, ["a", "b", "c"])
    torch.save(card, folder / "card")
    torch.load(folder / "card", weights_only=True)

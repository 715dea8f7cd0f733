"""Splits, windows and batches."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from counted_reads import Drawing, counted, stateful
from tables import Recorder, TableDataModule, frames_of, module, table, trainer

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.batches import cut
from rnade_lightning.rnn_rnade import RNNRNADE


@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 15, 16, 17, 100])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_windows_lose_no_frame(n_frames: int, stride: int) -> None:
    spans = cut(n_frames, window=8, stride=stride)
    assert set().union(*(range(*span) for span in spans)) == set(range(n_frames))
    assert all(0 < stop - start <= 8 for start, stop in spans)
    assert sum(stop == n_frames for _, stop in spans) == 1


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_frame_once_on_any_number_of_ranks(
    tables_at: Path, split: str, world_size: int
) -> None:
    delivered: list[tuple[float, ...]] = []
    lengths = set()
    for rank in range(world_size):
        data = module(tables_at, world_size, rank, stride=8)
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


def test_ranks_share_the_windows_of_one_process(tables_at: Path) -> None:
    def batches(world_size: int, batch_size: int) -> list[list[tuple[float, ...]]]:
        ranks = [
            module(tables_at, world_size, rank, batch_size=batch_size).train_dataloader()
            for rank in range(world_size)
        ]
        return [sorted(frames_of(together)) for together in zip(*ranks, strict=True)]

    assert batches(1, 6) == batches(2, 3) == batches(3, 2)


def test_order_is_a_function_of_seed_and_epoch(tables_at: Path) -> None:
    def order(epoch: int, seed: int = 0) -> list[tuple[float, ...]]:
        loader = module(tables_at, seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return frames_of(loader)

    loader = module(tables_at).train_dataloader()
    first = frames_of(loader)
    loader.sampler.set_epoch(1)  # type: ignore[attr-defined]
    torch.randn(5)
    assert frames_of(loader) == order(1)
    assert first == order(0) != order(1)
    assert order(0) != order(0, seed=1)
    assert sorted(order(0)) == sorted(order(1)) == sorted(order(0, seed=1))


def test_loading_leaves_the_global_random_state_alone(tables_at: Path) -> None:
    before = torch.get_rng_state()
    frames_of(module(tables_at).train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_deliver_the_same_batches(tables_at: Path) -> None:
    alone, helped = (frames_of(module(tables_at, num_workers=n).train_dataloader()) for n in (0, 1))
    assert alone == helped


def test_warmup_is_not_scored_in_evaluation_and_is_in_training(tables_at: Path) -> None:
    data = module(tables_at, warmup=3)
    for batch in data.train_dataloader():
        assert torch.equal(batch["scored"], batch["mask"])
    for batch in data.test_dataloader():
        assert torch.equal(batch["scored"][:, 3:], batch["mask"][:, 3:])
        assert not batch["scored"][:, :3].any()


def test_predict_gives_whole_test_sequences_in_order(tables_at: Path) -> None:
    data = module(tables_at)
    for batch, sequence in zip(data.predict_dataloader(), data.sequences("test"), strict=True):
        assert torch.equal(batch["frames"][0], sequence.frames)


def test_tail_split_is_in_time_order_and_does_not_overlap(tables_at: Path) -> None:
    data = module(tables_at)
    for i, n_frames in enumerate((50, 73, 41, 60, 38)):
        raw = [data.destandardise(data.sequences(s)[i].frames) for s in ("train", "val", "test")]  # type: ignore[arg-type]
        np.testing.assert_allclose(np.concatenate(raw), table(n_frames, i), atol=1e-5)
        assert len(raw[2]) == n_frames - round(0.8 * n_frames)


def test_file_split_keeps_files_whole(tables_at: Path) -> None:
    data = module(tables_at, split="file", test_fraction=0.4, seed=3)
    names = [s.name for split in ("train", "val", "test") for s in data.sequences(split)]  # type: ignore[arg-type]
    assert sorted(names) == ["0", "1", "2", "3", "4"]
    assert [len(data.sequences(s)) for s in ("train", "val", "test")] == [2, 1, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("stop", [3, 11, 14, 22])
@pytest.mark.slow
def test_a_run_taken_up_inside_an_epoch_sees_the_same_windows(
    tables_at: Path, tmp_path: Path, stop: int
) -> None:
    def fit(recorder: Recorder, callbacks: list[pl.Callback], path: Path | None = None) -> None:
        data = TableDataModule(str(tables_at), window=8, batch_size=4)
        runner = trainer(tmp_path, max_epochs=3, callbacks=callbacks)
        runner.fit(recorder, datamodule=data, ckpt_path=path, weights_only=True)

    whole, rest = Recorder(), Recorder()
    keep = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(whole, [keep])
    fit(rest, [], tmp_path / f"step={stop}.ckpt")
    assert rest.seen == whole.seen[stop:]


@pytest.mark.parametrize("cell", ["sigmoid", "gru", "lstm"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_carried_states_give_the_likelihood_of_whole_sequences(
    corpus: Path, cell: Any, split: Any
) -> None:
    torch.manual_seed(0)
    data = stateful(corpus, val_fraction=0.1, test_fraction=0.4)
    model = RNNRNADE(data.n_features, 4, 5, 2, cell=cell).double()
    torch.nn.init.normal_(model.u_0)
    loader = getattr(data, f"{split}_dataloader")()
    u, total, scored, n_batches = model.initial_state(loader.batch_size), 0.0, 0.0, 0
    for batch in loader:
        u = torch.where(batch["continues"][:, None], u, model.initial_state(len(u)))
        log_p, u = model.log_prob_and_state(batch["frames"].double(), batch["mask"], u.detach())
        total, n_batches = total + log_p.sum().item(), n_batches + 1
        scored += log_p[batch["scored"]].sum().item()
    whole = [model.log_prob(s.frames[None].double())[0] for s in data.sequences(split)]
    assert total == pytest.approx(torch.cat(whole).sum().item(), rel=1e-12)
    skip = 0 if split == "train" else 3
    assert scored == pytest.approx(sum(x[skip:].sum().item() for x in whole), rel=1e-12)
    assert n_batches == len(loader) > 2


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("split", ["train", "test"])
def test_rows_go_on_and_every_rank_count_sees_the_same_windows(
    corpus: Path, split: Any, world_size: int
) -> None:
    seen: Counter[bytes] = Counter()
    n_batches = set()
    for rank in range(world_size):
        data = stateful(corpus, world_size, rank)
        loader = getattr(data, f"{split}_dataloader")()
        whole = [s.frames.numpy() for s in data.sequences(split)]
        batches = list(loader)
        n_batches.add(len(batches))
        assert {len(batch["mask"]) for batch in batches} == {loader.batch_size}
        rows: dict[int, list[np.ndarray]] = {}
        for batch in batches:
            for i, (frames, mask) in enumerate(zip(batch["frames"], batch["mask"], strict=True)):
                if not batch["continues"][i] and i in rows:
                    seen[np.concatenate(rows.pop(i)).tobytes()] += 1
                if mask.any():
                    rows.setdefault(i, []).append(frames[mask].numpy())
        for row in rows.values():
            seen[np.concatenate(row).tobytes()] += 1
    assert seen == Counter(frames.tobytes() for frames in whole)
    assert len(n_batches) == 1


def test_epochs_of_lanes_are_of_one_length_and_in_another_order(corpus: Path) -> None:
    loader = stateful(corpus, batch_size=3).train_dataloader()
    epochs = []
    for epoch in (0, 1, 2, 0):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        epochs.append([index for index in loader.sampler])
    assert len({len(epoch) for epoch in epochs}) == 1
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
    assert epochs[0] == epochs[3] != epochs[1] != epochs[2]


def test_lanes_are_taken_up_inside_an_epoch(corpus: Path) -> None:
    whole, rest = (stateful(corpus).train_dataloader() for _ in range(2))
    batches = list(whole)
    rest.load_state_dict({"n_done": 5})
    for ours, theirs in zip(rest, batches[5:], strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_stateful_windows_that_overlap_are_refused(corpus: Path) -> None:
    with pytest.raises(DataError, match="do not overlap"):
        stateful(corpus, stride=4)


def test_evaluation_batches_hold_sequences_of_like_length(corpus: Path) -> None:
    data = counted(corpus, test_fraction=0.4, batch_size=3)
    lengths = [batch["mask"].sum(1).tolist() for batch in data.test_dataloader()]
    together = [n for batch in lengths for n in batch]
    assert together == sorted((len(s.frames) for s in data.sequences("test")), reverse=True)
    assert lengths == [batch["mask"].sum(1).tolist() for batch in data.test_dataloader()]


@pytest.mark.slow
def test_workers_draw_by_seed_epoch_and_rank(corpus: Path) -> None:
    def drawn(seed: int, epoch: int, rank: int) -> float:
        data = counted(corpus, 2, rank, num_workers=1, seed=seed)
        loader = data.train_dataloader()
        loader.dataset.standardise = Drawing(data)  # type: ignore[attr-defined]
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return sum(batch["frames"].sum().item() for batch in loader)

    cases = [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    values = [drawn(*case) for case in cases]
    assert values[0] == values[1]
    assert len(set(values)) == 4

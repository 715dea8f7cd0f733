"""The frame store reads what it must, once, whatever happens; statistics, states, splits."""

import itertools
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from rnade_lightning.datamodules import DataError, FrameDataModule
from rnade_lightning.datamodules.core import store
from rnade_lightning.datamodules.core.corpus import find_files, name_of
from rnade_lightning.datamodules.core.frames import Recording
from rnade_lightning.datamodules.core.standardise import Moments, Standardiser, moments
from rnade_lightning.datamodules.core.store import Frames
from rnade_lightning.rnn_rnade import RNNRNADE

LENGTHS = (100, 146, 82, 120, 76, 194)


class CountingDataModule(FrameDataModule):
    """Tables of numbers; notes which files it reads, in a file, since it may be in any process."""

    extensions = (".txt",)
    beside = (".scale",)
    reader_version = 1

    def __init__(self, root: str | None = None, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.factor = factor

    def read(self, path: Path) -> Recording:
        if log := os.environ.get("READS"):
            with open(log, "a") as file:
                file.write(path.name + "\n")
        time.sleep(float(os.environ.get("READ_SECONDS", "0")))
        try:
            frames = self.factor * np.loadtxt(path, ndmin=2)
        except ValueError:
            raise DataError(f"{path}: not a table: repair it") from None
        for scale in sorted(path.parent.glob("*.scale")):
            frames = frames * float(scale.read_text())
        half = len(frames) // 2
        names = [f"x{d}" for d in range(frames.shape[1])]
        return Recording({":a": frames[:half], ":b": frames[half:]}, names, 10.0, {"of": [1, "x"]})

    def write(self, raw: np.ndarray, stem: Path) -> list[Path]:
        raise NotImplementedError


def table(n_frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(2.0, 3.0, size=(n_frames, 3))


def old(path: Path) -> None:
    """Dates a file back, so that its times alone tell that it has not changed."""
    os.utime(path, ns=(10**18, 10**18))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "tables"
    root.mkdir()
    for i, n_frames in enumerate(LENGTHS):
        np.savetxt(root / f"{i}.txt", table(n_frames, i), fmt="%.17g")
        old(root / f"{i}.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("READS", str(tmp_path / "reads"))
    return root


def module(root: Any, world_size: int = 1, rank: int = 0, **kwargs: Any) -> CountingDataModule:
    data = CountingDataModule(str(root), **{"window": 8, "batch_size": 4, **kwargs})
    data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank)  # type: ignore[assignment]
    return data


def reads(folder: Path) -> list[str]:
    """The files read since the last call, in order of name."""
    log = folder.parent / "reads"
    names = sorted(log.read_text().split()) if log.exists() else []
    log.unlink(missing_ok=True)
    return names


ALL = [f"{i}.txt" for i in range(len(LENGTHS))]


# What is read, and when


def test_frames_come_back_as_they_were_read_and_lie_on_disk(folder: Path) -> None:
    data = module(folder, val_fraction=0.0, test_fraction=0.0)
    for k in range(2):  # from the file, then from the store
        data = module(folder, val_fraction=0.0, test_fraction=0.0)
        data.setup()
        raw = data._raw["train"]
        assert all(isinstance(frames, Frames) for _, frames in raw)
        for i, n_frames in enumerate(LENGTHS):
            halves = np.concatenate([raw[2 * i][1], raw[2 * i + 1][1]])
            assert np.array_equal(halves, table(n_frames, i))
        assert [name for name, _ in raw[:3]] == ["0:a", "0:b", "1:a"]
        assert data.layout == {"of": [1, "x"]}
        assert reads(folder) == (ALL if k == 0 else [])


def test_frames_slice_like_arrays(folder: Path) -> None:
    data = module(folder, val_fraction=0.0, test_fraction=0.0)
    data.setup()
    frames, whole = data._raw["train"][-1][1], table(194, 5)[97:]
    for a, b in itertools.product((0, 3, 48, 60, -5, None), repeat=2):
        assert np.array_equal(np.asarray(frames[a:b]), whole[a:b])
        assert np.array_equal(np.asarray(frames[2:40][a:b]), whole[2:40][a:b])
        assert len(frames[2:40][a:b]) == len(whole[2:40][a:b])


def test_a_changed_file_is_read_again_and_no_other(folder: Path) -> None:
    module(folder).setup()
    reads(folder)
    np.savetxt(folder / "2.txt", table(82, 77), fmt="%.17g")
    (folder / "0.txt").touch()  # other times, same content
    np.savetxt(folder / "6.txt", table(100, 6), fmt="%.17g")
    (folder / "4.txt").unlink()
    data = module(folder)
    data.setup()
    assert reads(folder) == ["2.txt", "6.txt"]
    changed = data.destandardise(next(s for s in data.sequences("train") if s.name == "2:a").frames)
    np.testing.assert_allclose(changed, table(82, 77)[: len(changed)], atol=1e-5)


def test_a_change_that_leaves_size_and_time_is_seen_in_a_fresh_file(folder: Path) -> None:
    path = folder / "0.txt"
    text = path.read_text()
    path.write_text(text)
    module(folder).setup()
    reads(folder)
    status = path.stat()
    path.write_text(text.replace("1", "2"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    module(folder).setup()
    assert reads(folder) == ["0.txt"]


def test_settings_that_matter_read_anew_and_others_do_not(folder: Path) -> None:
    module(folder).setup()
    assert reads(folder) == ALL
    module(folder, window=10, batch_size=7, split="file", seed=3, warmup=0).setup()
    assert reads(folder) == []
    data = module(folder, factor=2.0)
    data.setup()
    assert reads(folder) == ALL
    assert np.asarray(data._raw["train"][0][1])[0] == pytest.approx(2 * table(100, 0)[0])
    module(folder).setup()
    assert reads(folder) == []


def test_a_file_beside_is_part_of_the_key(folder: Path) -> None:
    module(folder).setup()
    reads(folder)
    (folder / "all.scale").write_text("3")
    module(folder).setup()
    assert reads(folder) == ALL


class Doubled(CountingDataModule):
    """Reads otherwise, and does not say so: no version of its own."""

    scale = 1

    def read(self, path: Path) -> Recording:
        recording = super().read(path)
        return recording._replace(frames={"": self.scale * recording.frames[":a"]})


class Versioned(Doubled):
    reader_version = 1


def first_frame(data: FrameDataModule) -> np.ndarray:
    return np.asarray(data._raw["train"][0][1])[0]


def test_a_class_without_a_version_is_read_anew_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for scale in (1, 1, 2):
        monkeypatch.setattr(Doubled, "scale", scale)
        data = Doubled(str(folder), window=8)
        with caplog.at_level("INFO"):
            data.setup()
        assert reads(folder) == ALL
        assert first_frame(data) == pytest.approx(scale * table(100, 0)[0])
        assert "Doubled declares no reader_version" in caplog.text
        caplog.clear()


def test_a_new_version_reads_anew_and_an_old_one_does_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scale, version, expected in ((1, 1, ALL), (1, 1, []), (2, 2, ALL), (1, 1, [])):
        monkeypatch.setattr(Versioned, "scale", scale)
        monkeypatch.setattr(Versioned, "reader_version", version)
        data = Versioned(str(folder), window=8)
        data.setup()
        assert reads(folder) == expected
        assert first_frame(data) == pytest.approx(scale * table(100, 0)[0])


def test_frames_of_a_class_without_a_version_go_with_the_process(folder: Path) -> None:
    code = (
        "from test_store import Doubled\n"
        f"data = Doubled({str(folder)!r}, window=8, cache_dir={str(folder / 'own')!r})\n"
        "data.setup()\n"
        "assert len(list(data.cache_dir and __import__('pathlib').Path(data.cache_dir)"
        ".glob('frames/*fresh*'))) == 1\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    assert not list((folder / "own" / "frames").glob("*fresh*"))


def prepare(
    folder: Path, monkeypatch: pytest.MonkeyPatch, parallel: int, seconds: float
) -> BaseProcess:
    monkeypatch.setattr(store, "_PARALLEL", parallel)
    monkeypatch.setenv("READ_SECONDS", str(seconds))
    process = multiprocessing.get_context("fork").Process(target=module(folder).prepare_data)
    process.start()
    monkeypatch.setenv("READ_SECONDS", "0")
    return process


@pytest.mark.parametrize("parallel", [0, 1 << 40], ids=["processes", "alone"])
def test_killed_while_it_prepares_it_goes_on_where_it_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    process = prepare(folder, monkeypatch, parallel, 0.2)

    def done() -> dict[Path, int]:
        entries = (folder.parent / "cache").glob("**/*.json")
        whole = [p for p in entries if p.name[0] != "." and p.name != "settings.json"]
        return {path: path.stat().st_mtime_ns for path in whole}

    deadline = time.monotonic() + 60
    while len(done()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    time.sleep(1.0)  # processes that read files notice
    before = done()
    assert 2 <= len(before) < len(LENGTHS)
    reads(folder)
    data = module(folder)
    data.setup()
    assert len(reads(folder)) == len(LENGTHS) - len(before)
    assert before.items() <= done().items()
    assert sum(data.describe()["frames"].values()) == sum(LENGTHS)


def test_a_half_written_entry_is_made_again(folder: Path) -> None:
    module(folder).setup()
    reads(folder)
    entries = sorted((folder.parent / "cache").glob("**/*.npy"))
    entries[0].write_bytes(entries[0].read_bytes()[:-100])
    entries[1].unlink()
    metadata = entries[2].with_suffix(".json")
    metadata.write_text(metadata.read_text()[:-9])
    data = module(folder)
    data.setup()
    assert len(reads(folder)) == 3
    assert sum(data.describe()["frames"].values()) == sum(LENGTHS)


def test_two_processes_at_once_read_each_file_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [prepare(folder, monkeypatch, parallel, 0.05) for parallel in (0, 1 << 40)]
    for process in both:
        process.join(timeout=60)
    assert [process.exitcode for process in both] == [0, 0]
    assert reads(folder) == ALL
    data = module(folder)
    data.setup()
    assert reads(folder) == []
    left = [path.name for path in (folder.parent / "cache").glob("**/*") if path.is_file()]
    assert not [name for name in left if name.startswith(".") or name.endswith(".lock")]


def test_a_cache_that_cannot_be_written_is_told_once_and_does_without(folder: Path) -> None:
    (folder.parent / "file").write_text("in the way")
    data = module(folder, cache_dir=str(folder.parent / "file"))
    with pytest.warns(UserWarning, match="cannot be written.*set cache_dir") as caught:
        data.setup()
    assert len([w for w in caught if "cache_dir" in str(w.message)]) == 1
    usual = module(folder)
    for part in ("train", "val", "test"):
        for ours, theirs in zip(data.sequences(part), usual.sequences(part), strict=True):  # type: ignore[arg-type]
            assert ours.name == theirs.name
            assert torch.equal(ours.frames, theirs.frames)
    assert data.layout == usual.layout


# Object storage


def test_object_storage_reads_like_a_folder_and_fetches_once(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    for file in folder.iterdir():
        memory.pipe_file(f"/corpus/walks/{file.name}", file.read_bytes())
    memory.pipe_file("/corpus/walks/notes.md", b"no table")
    try:
        here, there = module(folder), module("memory://corpus")
        names = [s.name for s in there.sequences("test")]
        assert names == [f"walks/{s.name}" for s in here.sequences("test")]
        for ours, theirs in zip(here.sequences("train"), there.sequences("train"), strict=True):
            assert torch.equal(ours.frames, theirs.frames)
        copies = sorted((folder.parent / "cache").glob("**/fetched/**/*.txt"))
        assert len(copies) == len(LENGTHS)
        before = {path.name: path.stat().st_mtime_ns for path in copies}
        time.sleep(0.01)
        memory.pipe_file("/corpus/walks/3.txt", (folder / "1.txt").read_bytes())
        memory.rm("/corpus/walks/5.txt")
        files = find_files("memory://corpus/walks/*.txt", (".txt",))
        assert [path.name for path in files] == ALL[:5]
        files = find_files("memory://corpus", (".txt",))
        after = {path.name: path.stat().st_mtime_ns for path in files}
        assert [name for name in after if after[name] != before[name]] == ["3.txt"]
        assert name_of(files[0], "memory://corpus", (".txt",)) == "walks/0"
        with pytest.raises(DataError, match=r"memory://corpus: holds no \.bvh file"):
            find_files("memory://corpus", (".bvh",))
    finally:
        memory.rm("/corpus", recursive=True)


def test_local_addresses_are_read_in_place(folder: Path) -> None:
    assert find_files(f"file://{folder}", (".txt",)) == find_files(folder, (".txt",))
    assert module(f"file://{folder}").sequences("test")[0].name == "0:a"


def test_storage_that_cannot_be_reached_is_one_line(folder: Path) -> None:
    with pytest.raises(DataError, match=r"nosuch://bucket: cannot be fetched .*nosuch") as caught:
        find_files("nosuch://bucket", (".txt",))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="memory://nowhere: holds no"):
        find_files("memory://nowhere", (".txt",))


# Statistics


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_running_statistics_equal_those_of_all_frames(offset: float) -> None:
    parts = [offset + 10 * i + table(n, i) for i, n in enumerate((1, 2, 400, 37, 5))]
    whole = np.concatenate(parts)
    for n_rows in (1, 7, 4096):
        running = moments(parts, n_rows)
        assert running.n == len(whole)
        np.testing.assert_allclose(running.mean, whole.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(running.std, whole.std(axis=0), rtol=1e-12 + 1e-15 * offset)
        covariance = running.centred.T @ running.centred
        np.testing.assert_allclose(covariance, np.cov(whole.T, bias=True), rtol=1e-9, atol=1e-9)


def test_statistics_may_be_added_in_any_order() -> None:
    pieces = [Moments.of(5.0 * i + table(n, i)) for i, n in enumerate((9, 1, 200, 30))]
    sums = []
    for order in itertools.permutations(pieces):
        total = order[0] + (order[1] + order[2]) + order[3]
        sums.append(np.concatenate([total.mean, total.std, np.abs(np.diag(total.centred))]))
    np.testing.assert_allclose(sums, np.broadcast_to(sums[0], np.shape(sums)), rtol=1e-12)


@pytest.mark.parametrize(("left", "found"), [(1.2e-5, True), (9e-5, True), (1.1e-3, False)])
def test_a_dependent_feature_is_found_among_many_in_one_pass(left: float, found: bool) -> None:
    """With features of very different size, far from zero, and nearly collinear before it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 30))
    X[:, 7] = X[:, :7].sum(axis=1) + 1e-3 * X[:, 7]  # is kept: it leaves 4e-4 of its deviation
    X[:, 20] = X[:, 3] - 2 * X[:, 12] + left * np.sqrt(5) * X[:, 20]
    X = 1e4 + X * np.logspace(-2, 4, 30)
    names = [f"x{d}" for d in range(30)]
    standardiser = Standardiser.fit(np.split(X, 40), names)
    assert standardiser.dropped == ({"x20": "linear in x12, x3"} if found else {})
    np.testing.assert_allclose(
        standardiser.backward(standardiser.forward(X)), X, atol=2e-4 * X.std(axis=0).max()
    )


# States carried from batch to batch


def stateful(root: Path, world_size: int = 1, rank: int = 0, **kwargs: Any) -> CountingDataModule:
    return module(root, world_size, rank, stateful=True, **{"warmup": 3, **kwargs})


@pytest.mark.parametrize("cell", ["sigmoid", "gru", "lstm"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_carried_states_give_the_likelihood_of_whole_sequences(
    folder: Path, cell: Any, split: Any
) -> None:
    torch.manual_seed(0)
    data = stateful(folder, val_fraction=0.1, test_fraction=0.4)
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
    folder: Path, split: Any, world_size: int
) -> None:
    seen: Counter[bytes] = Counter()
    n_batches = set()
    for rank in range(world_size):
        data = stateful(folder, world_size, rank)
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


def test_epochs_of_lanes_are_of_one_length_and_in_another_order(folder: Path) -> None:
    loader = stateful(folder, batch_size=3).train_dataloader()
    epochs = []
    for epoch in (0, 1, 2, 0):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        epochs.append([index for index in loader.sampler])
    assert len({len(epoch) for epoch in epochs}) == 1
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
    assert epochs[0] == epochs[3] != epochs[1] != epochs[2]


def test_lanes_are_taken_up_inside_an_epoch(folder: Path) -> None:
    whole, rest = (stateful(folder).train_dataloader() for _ in range(2))
    batches = list(whole)
    rest.load_state_dict({"n_done": 5})
    for ours, theirs in zip(rest, batches[5:], strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_stateful_windows_that_overlap_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="do not overlap"):
        stateful(folder, stride=4)


def test_evaluation_batches_hold_sequences_of_like_length(folder: Path) -> None:
    data = module(folder, test_fraction=0.4, batch_size=3)
    lengths = [batch["mask"].sum(1).tolist() for batch in data.test_dataloader()]
    together = [n for batch in lengths for n in batch]
    assert together == sorted((len(s.frames) for s in data.sequences("test")), reverse=True)
    assert lengths == [batch["mask"].sum(1).tolist() for batch in data.test_dataloader()]


class Drawing:
    """Stands in for a standardiser that draws noise, as workers may."""

    def __init__(self, data: FrameDataModule) -> None:
        self.forward = data.standardise

    def __call__(self, raw: Any) -> torch.Tensor:
        return self.forward(raw) + torch.rand(1) + np.random.rand()  # noqa: NPY002


def test_workers_draw_by_seed_epoch_and_rank(folder: Path) -> None:
    def drawn(seed: int, epoch: int, rank: int) -> float:
        data = module(folder, 2, rank, num_workers=1, seed=seed)
        loader = data.train_dataloader()
        loader.dataset.standardise = Drawing(data)  # type: ignore[attr-defined]
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return sum(batch["frames"].sum().item() for batch in loader)

    cases = [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    values = [drawn(*case) for case in cases]
    assert values[0] == values[1]
    assert len(set(values)) == 4


# Splits and errors


def test_no_group_is_in_two_splits(folder: Path) -> None:
    for i, path in enumerate(sorted(folder.iterdir())):
        for k in range(3):
            (folder / f"s{i // 2}_{k}_{path.name}").write_bytes(path.read_bytes())
        path.unlink()
    data = module(folder, split="file", group=r"^(s\d)_", test_fraction=0.34, val_fraction=0.33)
    parts = [{s.name[:2] for s in data.sequences(part)} for part in ("train", "val", "test")]  # type: ignore[arg-type]
    assert sorted(group for part in parts for group in part) == ["s0", "s1", "s2"]
    assert sum(len(data.sequences(part)) for part in ("train", "val", "test")) == 36  # type: ignore[arg-type]
    mixed = module(folder, split="file", test_fraction=0.34, val_fraction=0.33)
    names = [{s.name[:2] for s in mixed.sequences(part)} for part in ("train", "test")]  # type: ignore[arg-type]
    assert names[0] & names[1]  # what grouping prevents
    with pytest.raises(DataError, match=r"finds nothing in the file's name"):
        module(folder, split="file", group="speaker").setup()
    with pytest.raises(DataError, match="3 groups of files are too few"):
        module(folder, split="file", group=r"^s\d", test_fraction=0.5, val_fraction=0.4).setup()
    for wrong in ({"group": "(", "split": "file"}, {"group": "s"}):
        with pytest.raises(DataError, match="group"):
            module(folder, **wrong)


def test_all_bad_files_are_listed_at_once(folder: Path) -> None:
    (folder / "1.txt").write_text("no numbers")
    (folder / "4.txt").write_text("1 2 3\n" * 60 + "1 nan 3\n")
    (folder / "5.txt").write_text("1 2\n" * 80)
    (folder / "6.txt").write_text("1 2 3\n" * 4)
    with pytest.raises(DataError) as caught:
        module(folder).setup()
    first, *lines = str(caught.value).split("\n")
    assert first == f"{folder}: 4 of 7 files cannot be used (on_error: skip leaves them out):"
    expected = ["1.txt: not a table", "4.txt: frame 30, x1 is nan", "5.txt: does not fit", "6.txt:"]
    for line, start in zip(lines, expected, strict=True):
        assert line.strip().startswith(start)
    data = module(folder, on_error="skip")
    with pytest.warns(UserWarning, match=r"4 of 7 files are left out:\n  1\.txt: not a table"):
        data.setup()
    card = data.describe()
    assert list(card["left_out"]) == ["1.txt", "4.txt", "5.txt", "6.txt"]
    assert card["n_files"] == 3
    assert sum(card["frames"].values()) == 100 + 82 + 120
    for file in folder.glob("[0235].txt"):
        file.unlink()
    with pytest.raises(DataError, match="files cannot be used"):
        module(folder, on_error="skip").setup()


def test_a_good_corpus_says_nothing(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = module(folder, on_error="skip")
        data.setup()
    assert data.describe()["left_out"] == {}


def test_remains_of_killed_runs_are_swept_up(folder: Path) -> None:
    module(folder).setup()
    (entries,) = (folder.parent / "cache" / "rnade-lightning" / "frames").iterdir()
    for name in ("old", "new"):
        (entries / f".99.{name}.npy").write_bytes(b"half")
    old(entries / ".99.old.npy")
    (folder / "0.txt").write_text((folder / "1.txt").read_text())
    module(folder).setup()
    assert [path.name for path in entries.glob(".*")] == [".99.new.npy"]

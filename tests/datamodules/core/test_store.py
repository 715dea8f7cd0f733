"""The frame store."""

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from counted_reads import (
    ALL,
    LENGTHS,
    CountingDataModule,
    Doubled,
    Versioned,
    counted,
    counted_table,
    first_frame,
    old,
    reads,
)

from rnade_lightning.datamodules.core import DataError, MachineError, store
from rnade_lightning.datamodules.core.recording import Frames, Recording
from rnade_lightning.datamodules.core.store import whole_file


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with whole_file(path) as part:
            part.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_frames_come_back_as_they_were_read_and_lie_on_disk(corpus: Path) -> None:
    data = counted(corpus, val_fraction=0.0, test_fraction=0.0)
    for k in range(2):  # from the file, then from the store
        data = counted(corpus, val_fraction=0.0, test_fraction=0.0)
        data.setup()
        raw = data._raw["train"]
        assert all(isinstance(frames, Frames) for _, frames in raw)
        for i, n_frames in enumerate(LENGTHS):
            halves = np.concatenate([raw[2 * i][1], raw[2 * i + 1][1]])
            assert np.array_equal(halves, counted_table(n_frames, i))
        assert [name for name, _ in raw[:3]] == ["0:a", "0:b", "1:a"]
        assert data.layout == {"of": [1, "x"]}
        assert reads(corpus) == (ALL if k == 0 else [])


def test_frames_slice_like_arrays(corpus: Path) -> None:
    data = counted(corpus, val_fraction=0.0, test_fraction=0.0)
    data.setup()
    frames, whole = data._raw["train"][-1][1], counted_table(194, 5)[97:]
    for a, b in itertools.product((0, 3, 48, 60, -5, None), repeat=2):
        assert np.array_equal(np.asarray(frames[a:b]), whole[a:b])
        assert np.array_equal(np.asarray(frames[2:40][a:b]), whole[2:40][a:b])
        assert len(frames[2:40][a:b]) == len(whole[2:40][a:b])


def test_a_changed_file_is_read_again_and_no_other(corpus: Path) -> None:
    counted(corpus).setup()
    reads(corpus)
    np.savetxt(corpus / "2.txt", counted_table(82, 77), fmt="%.17g")
    (corpus / "0.txt").touch()  # other times, same content
    np.savetxt(corpus / "6.txt", counted_table(100, 6), fmt="%.17g")
    (corpus / "4.txt").unlink()
    data = counted(corpus)
    data.setup()
    assert reads(corpus) == ["2.txt", "6.txt"]
    changed = data.destandardise(next(s for s in data.sequences("train") if s.name == "2:a").frames)
    np.testing.assert_allclose(changed, counted_table(82, 77)[: len(changed)], atol=1e-5)


def test_a_change_that_leaves_size_and_time_is_seen_in_a_fresh_file(corpus: Path) -> None:
    path = corpus / "0.txt"
    text = path.read_text()
    path.write_text(text)
    counted(corpus).setup()
    reads(corpus)
    status = path.stat()
    path.write_text(text.replace("1", "2"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    counted(corpus).setup()
    assert reads(corpus) == ["0.txt"]


def test_settings_that_matter_read_anew_and_others_do_not(corpus: Path) -> None:
    counted(corpus).setup()
    assert reads(corpus) == ALL
    counted(corpus, window=10, batch_size=7, split="file", seed=3, warmup=0).setup()
    assert reads(corpus) == []
    data = counted(corpus, factor=2.0)
    data.setup()
    assert reads(corpus) == ALL
    assert np.asarray(data._raw["train"][0][1])[0] == pytest.approx(2 * counted_table(100, 0)[0])
    counted(corpus).setup()
    assert reads(corpus) == []


def test_a_file_beside_is_part_of_the_key(corpus: Path) -> None:
    counted(corpus).setup()
    reads(corpus)
    (corpus / "all.scale").write_text("3")
    counted(corpus).setup()
    assert reads(corpus) == ALL


def test_a_class_without_a_version_is_read_anew_and_says_so(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for scale in (1, 1, 2):
        monkeypatch.setattr(Doubled, "scale", scale)
        data = Doubled(str(corpus), window=8)
        with caplog.at_level("INFO", logger="pytorch_lightning"):
            data.setup()
        assert reads(corpus) == ALL
        assert first_frame(data) == pytest.approx(scale * counted_table(100, 0)[0])
        assert "Doubled declares no reader_version" in caplog.text
        caplog.clear()


def test_a_new_version_reads_anew_and_an_old_one_does_not(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scale, version, expected in ((1, 1, ALL), (1, 1, []), (2, 2, ALL), (1, 1, [])):
        monkeypatch.setattr(Versioned, "scale", scale)
        monkeypatch.setattr(Versioned, "reader_version", version)
        data = Versioned(str(corpus), window=8)
        data.setup()
        assert reads(corpus) == expected
        assert first_frame(data) == pytest.approx(scale * counted_table(100, 0)[0])


@pytest.mark.slow
def test_frames_of_a_class_without_a_version_go_with_the_process(corpus: Path) -> None:
    code = (
        "from counted_reads import Doubled\n"
        f"data = Doubled({str(corpus)!r}, window=8, cache_dir={str(corpus / 'own')!r})\n"
        "data.setup()\n"
        "assert len(list(data.cache_dir and __import__('pathlib').Path(data.cache_dir)"
        ".glob('frames/*fresh*'))) == 1\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    assert not list((corpus / "own" / "frames").glob("*fresh*"))


def test_a_half_written_entry_is_made_again(corpus: Path) -> None:
    counted(corpus).setup()
    reads(corpus)
    entries = sorted((corpus.parent / "cache").glob("**/*.npy"))
    entries[0].write_bytes(entries[0].read_bytes()[:-100])
    entries[1].unlink()
    metadata = entries[2].with_suffix(".json")
    metadata.write_text(metadata.read_text()[:-9])
    data = counted(corpus)
    data.setup()
    assert len(reads(corpus)) == 3
    assert sum(data.describe()["frames"].values()) == sum(LENGTHS)


def test_a_cache_that_cannot_be_written_is_told_once_and_does_without(corpus: Path) -> None:
    (corpus.parent / "file").write_text("in the way")
    data = counted(corpus, cache_dir=str(corpus.parent / "file"))
    with pytest.warns(UserWarning, match="cannot be written.*set cache_dir") as caught:
        data.setup()
    assert len([w for w in caught if "cache_dir" in str(w.message)]) == 1
    usual = counted(corpus)
    for part in ("train", "val", "test"):
        for ours, theirs in zip(data.sequences(part), usual.sequences(part), strict=True):  # type: ignore[arg-type]
            assert ours.name == theirs.name
            assert torch.equal(ours.frames, theirs.frames)
    assert data.layout == usual.layout


def test_remains_of_killed_runs_are_swept_up(corpus: Path) -> None:
    counted(corpus).setup()
    (entries,) = (corpus.parent / "cache" / "rnade-lightning" / "frames").iterdir()
    for name in ("old", "new"):
        (entries / f".99.{name}.npy").write_bytes(b"half")
    old(entries / ".99.old.npy")
    (corpus / "0.txt").write_text((corpus / "1.txt").read_text())
    counted(corpus).setup()
    assert [path.name for path in entries.glob(".*")] == [".99.new.npy"]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("parallel", [0, 1 << 40], ids=["processes", "alone"])
def test_a_full_disk_is_no_fault_of_a_file(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, on_error: str, parallel: int
) -> None:
    monkeypatch.setattr(store, "_PARALLEL", parallel)
    whole = store.whole_file

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        with whole(path) as part:
            if path.suffix == ".npy":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield part

    monkeypatch.setattr(store, "whole_file", full)
    with pytest.raises(MachineError, match=r"\d\.txt: its frames.*rnade.*No space left.*make room"):
        counted(corpus, on_error=on_error).setup()
    monkeypatch.setattr(store, "whole_file", whole)
    data = counted(corpus, on_error=on_error)
    data.setup()
    assert data.describe()["n_files"] == len(ALL)


def test_a_machine_short_of_something_is_told_from_a_bad_file(corpus: Path) -> None:
    class Short(CountingDataModule):
        number = errno.EMFILE

        def read(self, path: Path) -> Recording:
            if path.name == "2.txt":
                try:
                    raise OSError(self.number, os.strerror(self.number))
                except OSError as error:
                    raise DataError(f"{path}: cannot be read") from error
            return super().read(path)

    with pytest.raises(MachineError, match=r"2\.txt.*no fault of the file"):
        Short(str(corpus), window=8, on_error="skip").setup()
    Short.number = errno.EIO  # the file's own
    data = Short(str(corpus), window=8, on_error="skip")
    with pytest.warns(UserWarning, match="1 of 6 files are left out"):
        data.setup()


def test_notes_that_cannot_be_written_are_done_without(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(corpus).setup()
    whole = store.whole_file

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        if path.suffix in ("", ".npz"):  # digests and statistics
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with whole(path) as part:
            yield part

    monkeypatch.setattr(store, "whole_file", full)
    for note in (*corpus.parent.glob("cache/*/stamps/*"), *corpus.parent.rglob("statistics-*")):
        note.unlink()
    reads(corpus)
    data = counted(corpus)
    data.setup()
    assert data.describe()["n_files"] == len(ALL)
    assert reads(corpus) == []

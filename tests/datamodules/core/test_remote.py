"""Object storage."""

import time
from pathlib import Path

import fsspec
import pytest
import torch
from counted_reads import ALL, LENGTHS, counted

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.files import find_files, name_of


def test_object_storage_reads_like_a_folder_and_fetches_once(corpus: Path) -> None:
    memory = fsspec.filesystem("memory")
    for file in corpus.iterdir():
        memory.pipe_file(f"/corpus/walks/{file.name}", file.read_bytes())
    memory.pipe_file("/corpus/walks/notes.md", b"no counted_table")
    try:
        here, there = counted(corpus), counted("memory://corpus")
        names = [s.name for s in there.sequences("test")]
        assert names == [f"walks/{s.name}" for s in here.sequences("test")]
        for ours, theirs in zip(here.sequences("train"), there.sequences("train"), strict=True):
            assert torch.equal(ours.frames, theirs.frames)
        copies = sorted((corpus.parent / "cache").glob("**/fetched/**/*.txt"))
        assert len(copies) == len(LENGTHS)
        before = {path.name: path.stat().st_mtime_ns for path in copies}
        time.sleep(0.01)
        memory.pipe_file("/corpus/walks/3.txt", (corpus / "1.txt").read_bytes())
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


def test_local_addresses_are_read_in_place(corpus: Path) -> None:
    assert find_files(f"file://{corpus}", (".txt",)) == find_files(corpus, (".txt",))
    assert counted(f"file://{corpus}").sequences("test")[0].name == "0:a"


def test_storage_that_cannot_be_reached_is_one_line(corpus: Path) -> None:
    with pytest.raises(DataError, match=r"nosuch://bucket: cannot be fetched .*nosuch") as caught:
        find_files("nosuch://bucket", (".txt",))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="memory://nowhere: holds no"):
        find_files("memory://nowhere", (".txt",))

"""Object storage."""

import time
import zipfile
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


def test_a_changed_archive_is_fetched_again(tmp_path: Path) -> None:
    """A file inside has no time of its own; with the same size it is told apart by its sum."""

    def archive(text: str) -> list[str]:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("d/0.txt", text)
        root = f"zip://d::file://{tmp_path / 'a.zip'}"
        return [path.read_text() for path in find_files(root, (".txt",), (), tmp_path / "cache")]

    assert [archive("one"), archive("two")] == [["one"], ["two"]]


def test_what_tells_no_version_is_fetched_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnade_lightning.datamodules.core.remote._VERSION", ())
    memory = fsspec.filesystem("memory")
    try:
        for text in (b"one", b"two"):
            memory.pipe_file("/plain/0.txt", text)
            (found,) = find_files("memory://plain", (".txt",), (), tmp_path / "cache")
            assert found.read_bytes() == text
    finally:
        memory.rm("/plain", recursive=True)

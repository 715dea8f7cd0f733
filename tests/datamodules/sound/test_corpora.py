"""A corpus is made of files: manifests in CSV and Parquet, and public data sets."""

import csv
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError

import fsspec
import pytest
import torch
import torchaudio
from fuzz import listed, outcome
from sounds import audio_module, parquet, tone

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.sound.corpora import PATTERNS, read_manifest


def manifest(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_a_manifest_says_which_files_and_where(corpus: Path, tmp_path: Path) -> None:
    rows = [("a1_x.wav", "test"), ("a3_x.wav", "train"), ("a4_x.wav", "val"), ("a2_x.wav", "train")]
    path = manifest(corpus / "list.csv", rows, ("path", "split"))
    data = audio_module(path, frame_length=20)
    found = {p: [s.name for s in data.sequences(p)] for p in ("train", "val", "test")}  # type: ignore[arg-type]
    assert found == {"train": ["a3_x", "a2_x"], "val": ["a4_x"], "test": ["a1_x"]}
    rows = [(str(corpus / f"a{i}_x.wav"), f"speaker{i % 3}") for i in (1, 2, 3, 4)]
    path = manifest(tmp_path / "list.csv", rows, ("path", "group"))
    data = audio_module(path, frame_length=20, outside=True)
    assert {len(data.sequences(p)) for p in ("train", "val", "test")} <= {1, 2}  # type: ignore[arg-type]
    assert [e.group for e in read_manifest(path, outside=True)] == [g for _, g in rows]


BAD_MANIFESTS: dict[str, tuple[list[tuple[str, ...]], tuple[str, ...], str]] = {
    "no path": ([("a1_x.wav",)], ("file",), "no column called path: its columns are file"),
    "no lines": ([], ("path",), "lists no files"),
    "missing": ([("a1_x.wav",), ("gone.wav",)], ("path",), r"line 3: .*gone\.wav: no such file"),
    "twice": ([("a1_x.wav",), ("./a1_x.wav",)], ("path",), "twice"),
    "odd split": ([("a1_x.wav", "dev")], ("path", "split"), "line 2: split 'dev' is none of"),
    "half": ([("a1_x.wav", ""), ("a2_x.wav", "val")], ("path", "split"), "line 3: some lines"),
    "leak": (
        [("a1_x.wav", "train", "a"), ("a1_y.wav", "test", "a")],
        ("path", "split", "group"),
        "line 3: group 'a' is in train too",
    ),
    "few cells": ([("a1_x.wav",)], ("path", "group"), "line 2: not as many cells as .* 2"),
    "more cells": ([("a1_x.wav", "b", "c")], ("path", "group"), "line 2: not as many cells"),
    "nobody's home": ([("~no one/a.wav",)], ("path",), "line 2: .*~no one/a.wav: no such file"),
    "long": ([(300 * "a",)], ("path",), "line 2: .*aaa: no such file"),
    "no test": ([("a1_x.wav", "train"), ("a1_y.wav", "val")], ("path", "split"), "no file of test"),
    "few": ([("a1_x.wav", "a"), ("a2_x.wav", "b")], ("path", "group"), "2 files are too few"),
}


@pytest.mark.parametrize("fault", BAD_MANIFESTS)
def test_a_bad_manifest_is_refused(corpus: Path, fault: str) -> None:
    rows, header, match = BAD_MANIFESTS[fault]
    path = manifest(corpus / "bad.csv", rows, header)
    with pytest.raises(DataError, match=match) as caught:
        audio_module(path).setup()
    assert str(caught.value).startswith(str(path))


def test_manifests_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        audio_module(tmp_path / "gone.csv").setup()
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="not a table of comma-separated text"):
        audio_module(tmp_path / "a.csv").setup()


TABLE: dict[str, list[Any]] = {
    "path": [f"a{i}_x.wav" for i in (4, 3, 2, 1)],
    "other": [1.5, None, 2.0, 0.0],
    "split": ["train", "val", "train", "test"],
    "group": ["four", "three", "two", "one"],
}


@pytest.mark.parametrize("columns", [["path"], ["path", "group"], ["path", "split", "group"]])
@pytest.mark.slow
def test_a_manifest_in_parquet_gives_the_same_data(corpus: Path, columns: list[str]) -> None:
    table = {name: TABLE[name] for name in ["other", *columns]}
    lines = list(zip(*(TABLE[name] for name in columns), strict=True))
    paths = (
        manifest(corpus / "same.csv", lines, tuple(columns)),
        parquet(corpus / "same.parquet", table),
    )
    assert read_manifest(paths[0]) == read_manifest(paths[1])
    ours, theirs = (audio_module(path, frame_length=20) for path in paths)
    for part in ("train", "val", "test"):
        a, b = ours.sequences(part), theirs.sequences(part)  # type: ignore[arg-type]
        assert [s.name for s in a] == [s.name for s in b]
        assert all(torch.equal(x.frames, y.frames) for x, y in zip(a, b, strict=True))


def test_groups_may_be_numbers_and_0_is_one(corpus: Path) -> None:
    path = parquet(corpus / "groups.parquet", {"path": TABLE["path"], "group": [0, 0, 1, None]})
    assert [entry.group for entry in read_manifest(path)] == ["0", "0", "1", ""]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"path": None}, r"no column called path: its columns are other, split, group$"),
        ({"path": [1, 2, 3, 4]}, r"row 1: path is '1', no text"),
        ({"path": [b"a1_x.wav"] * 4}, r"row 1: path is .*, no text"),
        ({"path": ["a1_x.wav", None, "a2_x.wav", "a3_x.wav"]}, "row 2: no path"),
        ({"path": ["a1_x.wav", "b\n.wav", "a2_x.wav", "a3_x.wav"]}, r"row 2: .*/b \.wav: no such"),
        ({"split": [1, 2, 3, 1]}, r"row 1: split is '1', no text"),
        ({"group": [1.0, 2.0, float("nan"), 1.0]}, r"row 1: group is '1\.0', no text"),
        ({"group": [["a"], ["b"], [], []]}, r"row 1: group is .*, no text"),
    ],
)
def test_a_manifest_in_parquet_that_says_something_else_is_refused(
    corpus: Path, change: dict[str, list[Any] | None], match: str
) -> None:
    table = {name: values for name, values in (TABLE | change).items() if values is not None}
    path = parquet(corpus / "bad.parquet", table)
    with pytest.raises(DataError, match=match) as caught:
        audio_module(path).setup()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_damaged_manifest_in_parquet_is_refused(corpus: Path) -> None:
    path = parquet(corpus / "a.parquet", TABLE, write_page_checksum=True)
    whole = path.read_bytes()
    good, n_read = read_manifest(path), 0
    cuts = [whole[:n] for n in (0, 4, 30, len(whole) // 2, len(whole) - 9, len(whole) - 1)]
    changed = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(0, len(whole), 7)]
    for content in [b"path\na1_x.wav\n", *cuts, *changed]:
        path.write_bytes(content)
        found = outcome(path, listed)
        assert found in ("read", "refused")
        if found == "read":
            assert [entry.path for entry in read_manifest(path)] == [entry.path for entry in good]
            n_read += 1
    assert n_read < len(changed)


def test_parquet_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"a\.parquet: reading Parquet needs pyarrow: pip install"):
        audio_module(tmp_path / "a.parquet").setup()


def test_without_network_one_line_says_where_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: str, download: bool) -> None:
        Path(root, "half.tar").touch()
        raise URLError("no network")

    monkeypatch.setattr(torchaudio.datasets, "YESNO", refuse)
    with pytest.raises(DataError, match=r"could not download YESNO .*no network.*waves_yesno/\*"):
        audio_module(tmp_path, dataset="YESNO").setup()
    assert not list(tmp_path.iterdir())


def test_a_download_is_done_once_and_read_by_our_own_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def give(root: str, download: bool) -> None:
        calls.append(root)
        for i in range(5):
            (Path(root) / "waves_yesno").mkdir(exist_ok=True)
            tone(Path(root) / "waves_yesno" / f"{i}.wav", rate=8000)

    monkeypatch.setattr(torchaudio.datasets, "YESNO", give)
    for _ in range(2):
        data = audio_module(tmp_path, dataset="YESNO", frame_length=20)
        data.setup()
        assert data.frame_rate == 8000 / 20
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["waves_yesno"]


@pytest.mark.parametrize("dataset", PATTERNS)
def test_every_public_set_is_one_of_torchaudio(dataset: str) -> None:
    assert isinstance(getattr(torchaudio.datasets, dataset), type)


@pytest.mark.parametrize("way", ["up", "absolute", "link", "linked folder"])
def test_a_manifest_reaches_nothing_outside_of_its_folder_unless_told_to(
    corpus: Path, tmp_path: Path, way: str
) -> None:
    folder = tmp_path / "of its own"
    folder.mkdir()
    (folder / "inside.wav").write_bytes((corpus / "a1_x.wav").read_bytes())
    secret = corpus / "a2_x.wav"
    (folder / "link.wav").symlink_to(secret)
    (folder / "linked").symlink_to(corpus)
    name = {
        "up": os.path.relpath(secret, folder), "absolute": str(secret), "link": "link.wav",
        "linked folder": "linked/a2_x.wav",
    }[way]  # fmt: skip
    path = manifest(folder / "list.csv", [("inside.wav",), (name,)], ("path",))
    with pytest.raises(DataError, match=r"list\.csv: line 3: .*outside of.*--data\.outside true"):
        read_manifest(path)
    gone = manifest(folder / "gone.csv", [("../nothing/there.wav",)], ("path",))
    with pytest.raises(DataError, match="outside"):  # and does not say what is there
        read_manifest(gone)
    assert len(read_manifest(path, outside=True)) == 2
    with pytest.raises(DataError, match="outside"):
        audio_module(path, frame_length=20).setup()
    inside = manifest(folder / "all.csv", [(str(folder / "inside.wav"),)], ("path",))
    assert [entry.path for entry in read_manifest(inside)] == [folder / "inside.wav"]


def test_a_manifest_in_object_storage_names_paths_below_it_there(
    corpus: Path, tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    names = [path.name for path in sorted(corpus.glob("*.wav"))]
    for name in names:
        memory.pipe_file(f"/set/deep/{name}", (corpus / name).read_bytes())
    memory.pipe_file("/other/b.wav", b"secret")
    rows = "".join(f"deep/{name}\n" for name in names)
    memory.pipe_file("/set/list.csv", f"path\n{rows}".encode())
    try:
        cache = {"cache_dir": str(tmp_path / "cache"), "frame_length": 20}
        data = audio_module("memory://set/list.csv", **cache)  # type: ignore[arg-type]
        found = [s.name for p in ("train", "val", "test") for s in data.sequences(p)]  # type: ignore[arg-type]
        assert sorted(found) == [f"deep/{Path(name).stem}" for name in names]
        for name in (
            "../other/b.wav",
            "/other/b.wav",
            "memory://other/b.wav",
            "~/b.wav",
            "gone.wav",
        ):
            memory.pipe_file("/set/list.csv", f"path\n{name}\n".encode())
            time.sleep(0.01)
            data = audio_module("memory://set/list.csv", outside=True, **cache)  # type: ignore[arg-type]
            with pytest.raises(DataError, match=r"memory://set/list\.csv|no name for a file"):
                data.setup()
            assert not list((tmp_path / "cache").rglob("b.wav"))
    finally:
        memory.rm("/set", recursive=True)
        memory.rm("/other", recursive=True)


@pytest.mark.slow
def test_rows_of_a_parquet_table_are_bounded_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    parquet(path, {"path": ["a.wav"] * 3_000_000})
    with pytest.raises(DataError, match=r"list\.parquet: its rows would take .*max_bytes"):
        read_manifest(path)

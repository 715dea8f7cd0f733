"""Find the sound files of a corpus: by a manifest, or in a public data set to download.

Conventions:
    A manifest is a table with the column ``path`` (relative to the manifest's folder, or absolute).
    It reaches nothing outside of its folder unless it is told to, and in object storage nothing
    that is not below its folder there.
    The columns ``split`` (train, val or test) and ``group`` are optional, others are ignored.
    Lines of a CSV file count from 1, which is its heading. Rows of a Parquet file count from 1 as
    well; it has no heading.
"""

import csv
import importlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.files import default_cache, is_remote, name_of
from rnade_lightning.datamodules.core.limits import Limit

MANIFESTS = (".csv", ".parquet")
PATTERNS = {
    "CMUARCTIC": "ARCTIC/cmu_us_aew_arctic/wav/*.wav",
    "LIBRITTS": "LibriTTS/train-clean-100/*/*/*.wav",
    "LJSPEECH": "LJSpeech-1.1/wavs/*.wav",
    "SPEECHCOMMANDS": "SpeechCommands/speech_commands_v0.02/[!_]*/*.wav",
    "VCTK_092": "VCTK-Corpus-0.92/wav48_silence_trimmed/*/*_mic2.flac",
    "YESNO": "waves_yesno/*.wav",
}
"""Sound files of torchaudio's data sets by class, below the folder of downloads."""

_ROW = 200  # bytes of memory that a row of a table takes, about
_SPLITS = ("train", "val", "test")
_TIMEOUT = 30.0  # seconds without an answer after which a download is given up


class Entry(NamedTuple):
    """A line of a manifest; a missing cell is empty."""

    path: Path
    split: str
    group: str


def is_manifest(root: str | Path) -> bool:
    """Tell whether a root names a manifest."""
    return str(root).lower().endswith(MANIFESTS)


def read_manifest(
    root: str | Path, outside: bool = False, cache: Path | None = None
) -> list[Entry]:
    """Read a manifest, in the order of its lines.

    Args:
        root: the manifest.
        outside: let it name files outside of its folder, by a path or a link.
        cache: folder for copies of files in object storage.

    Raises:
        DataError: the table does not exist or is damaged, lists a file that does not exist or one
            twice, has an unknown split or a split on some lines only, has a group in two splits, or
            names a file outside of its folder.
    """
    if is_remote(root):
        from rnade_lightning.datamodules.core.remote import fetch, fetch_named

        cache = cache or default_cache()
        path = next(iter(fetch(str(root), MANIFESTS, cache)), Path(str(root)))
        if not path.is_file():
            raise DataError(f"{root}: no such file: check the path given as root")
        fetch_named(str(root), (str(row.get("path", "")).strip() for _, row in _rows(path)), cache)
        outside = False
    else:
        path = Path(str(root).removeprefix("file://")).expanduser()
    if not path.is_file():
        raise DataError(f"{path}: no such file: check the path given as root")
    entries: list[Entry] = []
    folder = path.parent.resolve()
    split_of: dict[str, str] = {}  # by group
    for where, row in _rows(path):
        for name, value in row.items():
            if not isinstance(value, str | (int if name == "group" else str)):
                raise DataError(f"{where}: {name} is {str(value)[:60]!r}, no text: correct it")
        file, split, group = (str(row.get(k, "")).strip() for k in Entry._fields)
        if not file:
            raise DataError(f"{where}: no path: give one under the heading path")
        entry = Entry(path.parent / file, split, group)
        try:
            entry = entry._replace(path=path.parent / Path(file).expanduser())
            there, place = entry.path.is_file(), entry.path.resolve()
        except (OSError, RuntimeError, ValueError):  # a name too long, a home of nobody, a zero
            there, place = False, folder
        if not outside and not place.is_relative_to(folder):
            raise DataError(
                f"{where}: {_shown(file)} lies outside of the manifest's folder: put it inside or,"
                " if you trust the manifest, set --data.outside true"
            )
        if not there:
            raise DataError(f"{where}: {_shown(entry.path)}: no such file")
        if split and split not in _SPLITS:
            raise DataError(f"{where}: split {split[:60]!r} is none of {', '.join(_SPLITS)}")
        if entries and bool(split) != bool(entries[0].split):
            raise DataError(f"{where}: some lines have a split, others none: fill in all or none")
        if group and split_of.setdefault(group, split) != split:
            raise DataError(
                f"{where}: group {group[:60]!r} is in {split_of[group]} too: keep it in one"
            )
        entries.append(entry)
    if not entries:
        raise DataError(f"{path}: lists no files")
    seen: set[Path] = set()
    for entry in entries:
        if entry.path.resolve() in seen:
            raise DataError(f"{path}: lists {entry.path} twice: keep one line")
        seen.add(entry.path.resolve())
    return entries


def splits_of(entries: list[Entry], fractions: dict[str, float]) -> list[str]:
    """Return the split of each entry of a manifest that tells them.

    Args:
        entries: the manifest.
        fractions: share of each split; one above 0 needs a file.

    Raises:
        DataError: there is no file of a split.
    """
    splits = [entry.split for entry in entries]
    for split, fraction in fractions.items():
        if fraction > 0 and split not in splits:
            raise DataError(f"lists no file of {split}: add some or set {split}_fraction to 0")
    return splits


def path_below(root: str | Path, path: Path) -> str:
    """Return the path of a file below the folder that a root names, whether it is a folder, a file
    in it, a manifest or a glob; of a file elsewhere its name."""
    if is_remote(root):
        return name_of(path, root, ())
    base = Path(str(root).removeprefix("file://")).expanduser()
    if is_manifest(root) or base.is_file():
        base = base.parent
    while not base.is_dir() and base != base.parent:  # a glob
        base = base.parent
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def doubles(part_of: dict[str, str], contents: dict[str, str]) -> list[list[str]]:
    """Return the names of files that hold the same and are in different parts.

    Args:
        part_of: part of each file by its name.
        contents: what stands for the content of each file, by its name.

    >>> doubles({"a": "train", "b": "test", "c": "test"}, {"a": "x", "b": "x", "c": "y"})
    [['a', 'b']]
    """
    names: dict[str, list[str]] = {}
    for name in part_of:
        names.setdefault(contents.get(name, name), []).append(name)
    return [sorted(same) for same in names.values() if len({part_of[n] for n in same}) > 1]


def download(dataset: str, folder: Path) -> None:
    """Download a public data set with torchaudio, whole or not at all, unless its files are there.

    Args:
        dataset: name of torchaudio's class.
        folder: folder of all downloads.

    Raises:
        DataError: the download failed; the message says where to put the files.
    """
    import torchaudio  # takes time, and few download

    pattern = PATTERNS[dataset]
    if next(folder.glob(pattern), None) is not None:
        return
    top = pattern.split("/")[0]
    part = folder / f".{os.getpid()}.{dataset}"
    timeout = socket.getdefaulttimeout()
    try:
        if (folder / top).exists():
            raise FileExistsError(f"{folder / top} is there without them")
        part.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(_TIMEOUT)
        getattr(torchaudio.datasets, dataset)(str(part), download=True)
        if next(part.glob(pattern), None) is None:
            raise FileNotFoundError("the download holds none")
        if not (folder / top).exists():  # else another process was first
            (part / top).rename(folder / top)
    except Exception as error:  # of many kinds: no network, no space, another content
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{folder}: could not download {dataset} ({reason}): put its files where"
            f" {folder / pattern} finds them, or give root without dataset"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
        shutil.rmtree(part, ignore_errors=True)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place of each row of a table, and its cells in the columns of `Entry`."""
    columns, rows = _csv(path) if path.suffix.lower() == ".csv" else _parquet(path)
    if "path" not in columns:
        found = _shown(", ".join(columns)) or "none"
        raise DataError(f"{path}: has no column called path: its columns are {found}")
    for where, row in rows:
        held = {name: row[name] for name in Entry._fields if row.get(name) is not None}
        yield f"{path}: {where}", held


Table = tuple[list[str], list[tuple[str, dict[str, Any]]]]
"""Names of the columns; the place of each row, and its cells by column."""


def _csv(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            rows = [(f"line {line}", row) for line, row in enumerate(reader, start=2)]
            columns = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: not a table of comma-separated text ({_shown(error)}): save it again"
        ) from None
    for where, row in rows:
        if None in row or None in row.values():
            raise DataError(
                f"{path}: {where}: not as many cells as the heading's {len(columns)}: correct it"
            )
    return columns, rows


def _parquet(path: Path) -> Table:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow: pip install pyarrow, or save it as .csv"
        ) from None
    limit = Limit.of(path)
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            columns = list(file.schema_arrow.names)
            limit.check(file.metadata.num_rows * _ROW, "its rows")
            wanted = [name for name in Entry._fields if name in columns]
            rows = file.read(wanted, use_threads=False).to_pylist()
    except DataError:
        raise
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise DataError(f"{path}: not a Parquet table ({_shown(error)}): write it again") from None
    return columns, [(f"row {i}", row) for i, row in enumerate(rows, start=1)]


def _shown(what: object) -> str:
    """Return the start of a text on one line, without what cannot be printed."""
    text = " ".join(str(what).split())[:400]
    return "".join(c if c.isprintable() else "?" for c in text)

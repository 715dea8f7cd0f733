"""Files: found, fetched, refused with one clear line, and written whole or not at all.

Conventions:
    A root is a folder, a file or a glob, on this machine or, as ``s3://bucket/walks`` and the like
    (all that fsspec knows), in object storage. Readers are given files on this machine only: those
    of object storage are copied to the cache folder first, below the same names.
"""

import glob
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

_CONNECTIONS = 8
_VERSION = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "created")
"""What file systems call that which changes with a file."""


class DataError(ValueError):
    """Data that cannot be used; the message is one line that names the file and what to do."""


def default_cache() -> Path:
    """``rnade-lightning`` in the user's cache folder (``XDG_CACHE_HOME``, or ``~/.cache``)."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "rnade-lightning"


def find_files(
    root: str | Path,
    extensions: Sequence[str],
    beside: Sequence[str] = (),
    cache: Path | None = None,
) -> list[Path]:
    """Lists the files below a folder, those that match a glob, or the one file named.

    Args:
        root: Folder (searched with its sub-folders), file, or glob such as ``walks/**/*.bvh``; in
            object storage if it begins with ``s3://`` or the like.
        extensions: Endings that can be read, such as ``(".bvh", ".bvh.gz")``, lower case.
        beside: Endings of files to fetch with them from object storage.
        cache: Folder for copies of files in object storage; `default_cache` if None.

    Returns:
        Paths on this machine in sorted order, so that every machine and rank sees the same list.

    Raises:
        DataError: Nothing there, or nothing there that can be read.
    """
    endings, kinds = tuple(extensions), " or ".join(extensions)
    if is_remote(root):
        fetched = _fetch(str(root), (*endings, *beside), cache or default_cache())
        if files := sorted(file for file in fetched if file.name.lower().endswith(endings)):
            return files
        raise DataError(f"{root}: holds no {kinds} file: point root at a folder that does")
    path = _local(root)
    if path.is_file():
        if not path.name.lower().endswith(endings):
            raise DataError(
                f"{path}: not a kind of file that can be read here: give a {kinds} file"
            )
        return [path]
    if path.is_dir():
        candidates = [child for child in path.rglob("*") if child.is_file()]
    elif glob.has_magic(str(path)):
        candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]
    else:
        raise DataError(f"{path}: no such file or folder: check the path given as root")
    files = sorted(file for file in candidates if file.name.lower().endswith(endings))
    if not files:
        raise DataError(f"{path}: holds no {kinds} file: point root at a folder that does")
    return files


def is_remote(root: str | Path) -> bool:
    """Whether a root lies in object storage."""
    return "://" in str(root) and not str(root).startswith("file://")


def _local(root: str | Path) -> Path:
    return Path(str(root).removeprefix("file://")).expanduser()


def name_of(path: Path, root: str | Path, extensions: Sequence[str]) -> str:
    """A file's name for people: its path below the folder ``root``, without the ending.

    >>> name_of(Path("walks/01.bvh.gz"), "elsewhere", (".bvh", ".bvh.gz"))
    '01'
    """
    root = _copies(str(root), path) if is_remote(root) else _local(root)
    below = path.relative_to(root) if root.is_dir() and path.is_relative_to(root) else path
    name = below.as_posix() if below != path else path.name
    ending = next((e for e in extensions if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def _fetch(root: str, endings: tuple[str, ...], cache: Path) -> list[Path]:
    """Copies of the files below a root in object storage; only what has changed is fetched."""
    folder = cache / "fetched" / _digest(root)
    try:
        system, start = fsspec.core.url_to_fs(root)
        found: dict[str, dict[str, Any]]
        if glob.has_magic(start):
            found, base = system.glob(start, detail=True), start
            while glob.has_magic(base):
                base = system._parent(base)
        elif system.isfile(start):
            found, base = {start: system.info(start)}, system._parent(start)
        else:
            found, base = system.find(start, detail=True), start
        wanted = {}
        for name, info in found.items():
            below = name[len(base) :].lstrip("/") if name.startswith(base) else name.lstrip("/")
            if name.lower().endswith(endings) and info["type"] == "file":
                wanted[folder.joinpath(*_safe(below, name))] = (name, info)

        def fetch(copy: Path) -> None:
            name, info = wanted[copy]
            version = [info.get("size")] + [str(info[key]) for key in _VERSION if key in info]
            note = copy.with_name(f".{copy.name}.version")
            if copy.exists() and note.exists() and note.read_text() == json.dumps(version):
                return
            with whole_file(copy) as part:
                system.get_file(name, str(part))
            with whole_file(note) as part:
                part.write_text(json.dumps(version))

        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(fetch, wanted))
    except DataError:
        raise
    except Exception as error:  # of many kinds: no such place, no key to it, no network, no space
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{root}: cannot be fetched to {folder} ({reason})") from error
    return list(wanted)


def _safe(below: str, name: str) -> list[str]:
    """The steps of a path, which must not lead out of its folder."""
    steps = [step for step in below.split("/") if step not in ("", ".")]
    if not steps or ".." in steps:
        raise DataError(f"{name}: no name for a file: rename it")
    return steps


def _copies(root: str, path: Path) -> Path:
    """The folder that holds the copies of a root in object storage, given one of them."""
    return next((folder for folder in path.parents if folder.name == _digest(root)), path)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` that takes its place when the block ends well.

    >>> with whole_file("walk.txt") as part:  # doctest: +SKIP
    ...     part.write_text("all of it")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)

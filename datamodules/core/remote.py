"""Copy files from object storage to the cache folder before they are read.

Conventions:
    A root is ``s3://bucket/walks`` and the like, all that fsspec knows. Copies lie below the same
    names as the files; only what has changed is fetched again.
"""

import glob
import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec

from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.core.store import whole_file

_CONNECTIONS = 8
_VERSION = ("ETag", "etag", "md5Hash", "generation", "CRC", "mtime", "LastModified", "created")
"""What file systems call that which changes with a file. One that has none of these is fetched
anew every time: a size tells too little."""


def fetch(root: str, endings: tuple[str, ...], cache: Path) -> list[Path]:
    """Return copies of the files below a root in object storage; fetch only what has changed."""
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
        _copy(system, wanted)
    except DataError:
        raise
    except Exception as error:
        raise _cannot(root, folder, error) from error
    return list(wanted)


def fetch_named(root: str, names: Iterable[str], cache: Path) -> None:
    """Copy the files that a table in object storage names to beside the copy of the table.

    Args:
        root: The table, of which `fetch` has made a copy.
        names: Paths of files, relative to the table's folder.
        cache: Folder of the copies.

    Raises:
        DataError: A name that leads out of the folder, no such file, or no way to fetch it.
    """
    folder = cache / "fetched" / _digest(root)
    try:
        system, start = fsspec.core.url_to_fs(root)
        base, wanted = system._parent(start), {}
        for name in names:
            if "://" in name or name.startswith(("/", "~", "\\")):
                raise DataError(
                    f"{root}: names {name[:200]!r}: a table in object storage names paths below"
                    " its own folder and nothing else: correct it"
                )
            steps = _safe(name, name)
            wanted[folder.joinpath(*steps)] = "/".join((base.rstrip("/"), *steps))
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            found = pool.map(lambda name: (name, system.info(name)), wanted.values())
            _copy(system, dict(zip(wanted, found, strict=True)))
    except DataError:
        raise
    except Exception as error:
        raise _cannot(root, folder, error) from error


def _copy(system: Any, wanted: dict[Path, tuple[str, dict[str, Any]]]) -> None:
    """Fetch files, by the places of their copies, unless the copies are of the same version."""

    def fetch_one(copy: Path) -> None:
        name, info = wanted[copy]
        told = [str(info[key]) for key in _VERSION if info.get(key) is not None]
        version = [info.get("size"), *told]
        note = copy.with_name(f".{copy.name}.version")
        if told and copy.exists() and note.exists() and note.read_text() == json.dumps(version):
            return
        with whole_file(copy) as part:
            system.get_file(name, str(part))
        with whole_file(note) as part:
            part.write_text(json.dumps(version))

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(fetch_one, wanted))


def _cannot(root: str, folder: Path, error: Exception) -> DataError:
    """An error of many kinds: no such place, no key to it, no network, no space."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{root}: cannot be fetched to {folder} ({reason})")


def _safe(below: str, name: str) -> list[str]:
    """Return the steps of a path, after a check that they stay inside its folder."""
    steps = [step for step in below.split("/") if step not in ("", ".")]
    if not steps or ".." in steps:
        raise DataError(f"{name}: no name for a file: rename it")
    return steps


def copies_of(root: str, path: Path) -> Path:
    """Return the folder that holds the copies of a root, given one of them."""
    return next((folder for folder in path.parents if folder.name == _digest(root)), path)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()

"""Find the files that a root names: those below a folder, those of a glob, or the one named.

Conventions:
    A root is a folder, a file or a glob, on this machine or in object storage (see `remote`).
    A folder that cannot be listed is an error, never a smaller data set.
"""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rnade_lightning.datamodules.core import DataError


def default_cache() -> Path:
    """Return ``rnade-lightning`` in the user's cache folder (``XDG_CACHE_HOME``, ``~/.cache``)."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "rnade-lightning"


def find_files(
    root: str | Path,
    extensions: Sequence[str],
    beside: Sequence[str] = (),
    cache: Path | None = None,
) -> list[Path]:
    """List the files below a folder, those that match a glob, or the one file named.

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
        from rnade_lightning.datamodules.core.remote import fetch

        fetched = fetch(str(root), (*endings, *beside), cache or default_cache())
        if files := sorted(file for file in fetched if file.name.lower().endswith(endings)):
            return files
        raise DataError(f"{root}: holds no {kinds} file: point root at a folder that does")
    path = _local(root)
    try:
        if path.is_file():
            if not path.name.lower().endswith(endings):
                raise DataError(
                    f"{path}: not a kind of file that can be read here: give a {kinds} file"
                )
            return [path]
        if path.is_dir():
            candidates = _below(path)
        elif glob.has_magic(str(path)):
            _check_folders(path)
            candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]
        else:
            raise DataError(f"{path}: no such file or folder: check the path given as root")
        wanted = [file for file in candidates if file.name.lower().endswith(endings)]
        files = sorted(file for file in wanted if file.is_file())
    except OSError as error:
        _refuse(error, path)
    if not files:
        raise DataError(f"{path}: holds no {kinds} file: point root at a folder that does")
    return files


def files_beside(path: Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the files with these endings in the folder of a file, in sorted order.

    Raises:
        DataError: the folder cannot be listed.
    """
    if not endings:
        return []
    try:
        return sorted(file for file in path.parent.iterdir() if file.name.lower().endswith(endings))
    except OSError as error:
        _refuse(error, path.parent)


def _below(folder: Path) -> list[Path]:
    """All files below a folder, behind links to folders too; raises OSError where one of its
    folders cannot be listed."""
    found: list[Path] = []
    above = {str(folder): {os.path.realpath(folder)}}
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        found += [Path(place, name) for name in names]
        own = above.pop(place)
        real = {name: os.path.realpath(os.path.join(place, name)) for name in folders}
        folders[:] = [name for name in folders if real[name] not in own]  # no link to what is above
        above |= {os.path.join(place, name): own | {real[name]} for name in folders}
    return found


def _check_folders(pattern: Path) -> None:
    """List every folder that a glob looks into, since `glob` passes over one that it cannot list.

    Raises:
        OSError: it cannot be listed.
    """
    steps = (*pattern.parts, "")
    for i, step in enumerate(steps):
        if glob.has_magic(step) or steps[i - 1] == "**":
            for folder in glob.iglob(os.path.join(*steps[:i], ""), recursive=True):
                os.scandir(Path(folder)).close()


def _raise(error: OSError) -> NoReturn:
    raise error


def _refuse(error: OSError, path: Path) -> NoReturn:
    raise DataError(
        f"{error.filename or path}: cannot be read ({error.strerror or error}): make it readable,"
        " or point root at a folder that is"
    ) from error


def is_remote(root: str | Path) -> bool:
    """Tell whether a root lies in object storage."""
    return "://" in str(root) and not str(root).startswith("file://")


def _local(root: str | Path) -> Path:
    return Path(str(root).removeprefix("file://")).expanduser()


def name_of(path: Path, root: str | Path, extensions: Sequence[str]) -> str:
    """Return a file's name for people: its path below the folder ``root``, or below that which a
    glob starts from, without the ending.

    >>> name_of(Path("walks/01.bvh.gz"), "elsewhere", (".bvh", ".bvh.gz"))
    '01'
    """
    if is_remote(root):
        from rnade_lightning.datamodules.core.remote import copies_of

        folder = copies_of(str(root), path)
    else:
        folder = _local(root)
        while not folder.is_dir() and glob.has_magic(str(folder)):
            folder = folder.parent
    below = folder.is_dir() and path.is_relative_to(folder)
    name = path.relative_to(folder).as_posix() if below else path.name
    ending = next((e for e in extensions if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def names_of(files: Sequence[Path], root: str | Path, extensions: Sequence[str]) -> dict[Path, str]:
    """Return the name of each file as by `name_of`; of files that would share one, the path below
    the folder that holds all files, with its ending."""
    names = {path: name_of(path, root, extensions) for path in files}
    n_of = Counter(names.values())
    if len(n_of) == len(names):
        return names
    base = os.path.commonpath([path.parent.absolute() for path in files])
    return {
        path: name if n_of[name] == 1 else path.absolute().relative_to(base).as_posix()
        for path, name in names.items()
    }


def with_ending(stem: Path, ending: str) -> Path:
    """Return a path with an ending added: a stem such as ``epoch.3`` keeps its dot.

    >>> with_ending(Path("epoch.3"), "wav").name
    'epoch.3.wav'
    """
    return stem.with_name(f"{stem.name}.{ending}")

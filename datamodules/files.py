"""Files: found, refused with one clear line, and written whole or not at all."""

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class DataError(ValueError):
    """Data that cannot be used; the message is one line that names the file and what to do."""


def find_files(root: str | Path, extensions: Sequence[str]) -> list[Path]:
    """Lists the files below a folder, those that match a glob, or the one file named.

    Args:
        root: Folder (searched with its sub-folders), file, or glob such as ``walks/**/*.bvh``.
        extensions: Endings that can be read, such as ``(".bvh", ".bvh.gz")``, lower case.

    Returns:
        Paths in sorted order, so that every machine and rank sees the same list.

    Raises:
        DataError: Nothing there, or nothing there that can be read.
    """
    endings, kinds = tuple(extensions), " or ".join(extensions)
    path = Path(root).expanduser()
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


def name_of(path: Path, root: str | Path, extensions: Sequence[str]) -> str:
    """A file's name for people: its path below the folder ``root``, without the ending.

    >>> name_of(Path("walks/01.bvh.gz"), "elsewhere", (".bvh", ".bvh.gz"))
    '01'
    """
    root = Path(root).expanduser()
    below = path.relative_to(root) if root.is_dir() and path.is_relative_to(root) else path
    name = below.as_posix() if below != path else path.name
    ending = next((e for e in extensions if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


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

"""Keep the frames of every file on disk, memory-mapped: each file is read once.

A corpus larger than memory works: what is held of a file is where its frames lie. Below the cache
folder:

    frames/<kind>-<settings>/      a reader with its settings, which settings.json tells
    <kind>-<settings>/<key>.npy    raw frames of one file (N, D_raw), its sequences one after
                                   the other
    <kind>-<settings>/<key>.json   what else the file holds; written last, so it marks the end
    <kind>-<settings>/*.npz        statistics of the training parts used
    stamps/                        content digests of files by path, size and times
    fetched/                       copies of files from object storage (see `remote`)

The key is a digest of the file's name, its content, and that of the files read beside it. The
settings are the data module's class, the version that it declares of its reader, and the arguments
that reading depends on. If a class declares no version, its frames are kept for the process alone.

Each entry is made under a lock of its own, which dies with its process, and moves into place whole.
So a run that was killed goes on after the last whole file, a changed file or setting makes only the
new entries that it needs, and processes that prepare at once share the work. All of it may be
deleted at any time.
"""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
from tqdm.auto import tqdm

from rnade_lightning.datamodules.core import Array, DataError, MachineError, reason_of, short_of
from rnade_lightning.datamodules.core.files import files_beside
from rnade_lightning.datamodules.core.moments import Moments, moments
from rnade_lightning.datamodules.core.processes import read_in_processes
from rnade_lightning.datamodules.core.reading import read_checked
from rnade_lightning.datamodules.core.recording import Frames, Recording
from rnade_lightning.datamodules.core.side import Sided
from rnade_lightning.datamodules.core.spool import pieces_of

FORMAT = 1
"""Of the store; a change leaves older entries unused."""

_PARALLEL = 4 << 20
"""Bytes of files from which reading is worth processes of its own."""

_FRESH = 2_000_000_000
"""Nanoseconds since its last change in which a file may change again with the same times."""

_STALE = 86_400
"""Seconds after which nobody goes on writing a file."""


class Kept(NamedTuple):
    """A recording whose frames lie on disk or, if there is no store, in memory."""

    about: Recording  # without frames
    frames: dict[str, Array | Frames]


class FrameStore:
    """Reads files through a store on disk, or into memory where no store can be written.

    Args:
        cache: Cache folder.
        kind: Name of the reader, for people.
        settings: Everything beside the file that the result of reading depends on. None where that
            is not known: then every file is read anew, and the frames go with the store.
        read: Reads one file.
        beside: Endings of files in the folder of a file that are read with it.
        name: What reading a file depends on of its path.
    """

    def __init__(
        self,
        cache: Path,
        kind: str,
        settings: dict[str, Any] | None,
        read: Callable[[Path], Recording],
        beside: tuple[str, ...] = (),
        name: Callable[[Path], str] = attrgetter("name"),
    ) -> None:
        fresh, about = settings is None, (settings or {}) | {"format": FORMAT}
        text = json.dumps(about, sort_keys=True, default=str, indent=1)
        self.read, self.beside, self.name = read, beside, name
        self.folder = folder = cache / "frames" / f"{kind}-{digest(text)[:12]}"
        self.stamps = cache / "stamps"
        self.fault: str | None = None
        """Why nothing can be written to the cache, if so."""
        try:
            if fresh:
                folder.parent.mkdir(parents=True, exist_ok=True)
                self.folder = Path(tempfile.mkdtemp(prefix=f"{kind}-fresh-", dir=folder.parent))
                atexit.register(_remove, self.folder, os.getpid())
            for folder in (self.folder, self.stamps):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(b"probe")
            if not (self.folder / "settings.json").exists():
                with whole_file(self.folder / "settings.json") as part:
                    part.write_text(text, encoding="utf-8")
        except OSError as error:
            self.fault = f"{cache}: cannot be written ({error.strerror or error})"

    def open(self, files: Sequence[Path], processes: int, bar: bool) -> list[Kept | DataError]:
        """Return the content of each file, or why it cannot be read. Read those not in the store.

        Args:
            files: Files to read.
            processes: Number of processes to read with.
            bar: Shows the progress if it takes longer than a moment.

        Raises:
            MachineError: The disk of the store is full, or the machine short of something else.
        """
        if self.fault:
            return _answers(_progress(map(self._in_memory, files), len(files), bar))
        found: dict[Path, Kept | DataError | None] = {path: self._known(path) for path in files}
        todo = [path for path, kept in found.items() if kept is None]
        for part in self.folder.glob(".*") if todo else ():  # left by runs that were killed
            with suppress(OSError):  # another process was first
                if time.time() - part.lstat().st_mtime > _STALE:
                    part.unlink()
        if processes > 1 and len(todo) > 1 and sum(map(_size, todo)) > _PARALLEL:
            made = read_in_processes(self._keep, todo, processes)
        else:
            made = map(self._keep, todo)
        found.update(zip(todo, _answers(_progress(made, len(todo), bar)), strict=True))
        return [kept for path in files if (kept := found[path]) is not None]

    def moments(self, training: Sequence[Array | Frames | Sided]) -> Moments:
        """Return the statistics of the features of training frames, and keep them for the next
        run."""
        training = [x.features() if isinstance(x, Sided) else x for x in training]
        places = [
            (*Path(frames.path).with_suffix("").parts[-2:], frames.start, frames.stop)
            for frames in training
            if isinstance(frames, Frames)
        ]
        if self.fault or len(places) < len(training):
            return moments(training)
        path = self.folder / f"statistics-{digest(repr(places))}.npz"
        with _lock(path):
            try:
                with np.load(path) as known:
                    return Moments(int(known["n"]), known["shift"], known["factor"])
            except (OSError, ValueError, KeyError):
                made = moments(training)
            with suppress(OSError), whole_file(path) as part, part.open("wb") as file:
                np.savez(file, n=made.n, shift=made.shift, factor=made.factor)
        return made

    # One file

    def _in_memory(self, path: Path) -> Kept | DataError:
        try:
            recording = read_checked(self.read, path)
        except DataError as error:
            return error
        return Kept(Recording({}, *_about(json.loads(_metadata(recording)))), {**recording.frames})

    def _known(self, path: Path) -> Kept | None:
        """Return a file's entry without reading the file; None if that is not possible."""
        return self._entry(key) if (key := self._key(path, known_only=True)) else None

    def _key(self, path: Path, known_only: bool = False) -> str | None:
        parts = [self.name(path)]
        for file in [path, *files_beside(path, self.beside)]:
            content = self._content(file, known_only)
            if content is None:
                return None
            parts.append(content)
        return digest("\n".join(parts))

    def _content(self, path: Path, known_only: bool) -> str | None:
        """Return the digest of a file's content, remembered by path, size and times."""
        note = self.stamps / digest(os.path.abspath(path))
        try:
            stamp = _stamp(path)
            known = note.read_text().split("\n") if note.exists() else []
            if known[:1] == [stamp] and len(known) == 2:
                return known[1]
            if known_only:
                return None
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "blake2b").hexdigest()
            if time.time_ns() - path.stat().st_mtime_ns > _FRESH and stamp == _stamp(path):
                with suppress(OSError), whole_file(note) as part:  # else it is taken again
                    part.write_text(f"{stamp}\n{content}")
        except OSError as error:
            if known_only:
                return None
            if short := short_of(error):
                raise MachineError(f"{path}: cannot be read: {short}") from error
            raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
        return content

    def _keep(self, path: Path) -> Kept | DataError:
        """Return a file's entry; make it if there is none."""
        try:
            key = self._key(path)
            assert key is not None
            with _lock(self.folder / key):
                return self._entry(key) or self._make(key, path)
        except DataError as error:
            return error

    def _make(self, key: str, path: Path) -> Kept:
        recording, stamp = read_checked(self.read, path), _stamp(path)
        sequences, target = list(recording.frames.values()), self.folder / f"{key}.npy"
        dtype = np.float32 if all(x.dtype == np.float32 for x in sequences) else np.float64
        shape = sum(map(len, sequences)), recording.width
        try:
            with whole_file(target) as part, part.open("wb") as file:
                header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                metadata = _metadata(recording, np.dtype(dtype).str, file.tell())
                for frames in sequences:
                    for piece in pieces_of(frames):
                        file.write(np.ascontiguousarray(piece, dtype).data)
            if stamp != _stamp(path) or key != self._key(path):
                raise DataError(f"{path}: changed while it was read: start again")
            with whole_file(target.with_suffix(".json")) as part:
                part.write_text(metadata, encoding="utf-8")
        except OSError as error:
            raise MachineError(
                f"{path}: its frames cannot be kept in {self.folder} ({reason_of(error)}): make"
                " room there, or set --data.cache_dir to a folder on another disk"
            ) from error
        entry = self._entry(key)
        assert entry is not None
        return entry

    def _entry(self, key: str) -> Kept | None:
        """Return an entry if it is whole."""
        path = self.folder / f"{key}.npy"
        try:
            metadata = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            about, dtype = Recording({}, *_about(metadata)), metadata["dtype"]
            n_features, frames, stop = about.width, {}, 0
            n_frames, offset = sum(n for _, n in metadata["sequences"]), metadata["offset"]
            size = offset + n_frames * n_features * np.dtype(dtype).itemsize
            if path.stat().st_size != size:
                return None
            for suffix, n in metadata["sequences"]:
                place = str(path), dtype, offset, n_features
                frames[suffix] = Frames(*place, stop, stop + n)
                stop += n
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Kept(about, dict(frames))


def _progress(made: Iterable[Any], total: int, bar: bool) -> Iterator[Any]:
    hidden = None if bar else True  # None: where the output is no terminal
    return iter(tqdm(made, "reading", total, unit=" files", disable=hidden, delay=1.0, leave=False))


def _answers(made: Iterable[Kept | DataError]) -> list[Kept | DataError]:
    """Return what became of each file; an error that is no file's ends all of it."""
    answers = []
    for answer in made:
        if isinstance(answer, MachineError):
            raise answer
        answers.append(answer)
    return answers


def digest(content: str | bytes) -> str:
    """Return thirty-two hexadecimal digits that stand for a content."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _metadata(recording: Recording, dtype: str = "", offset: int = 0) -> str:
    return json.dumps(
        {
            "feature_names": list(recording.feature_names),
            "frame_rate": float(recording.frame_rate),
            "layout": recording.layout,
            "side_names": list(recording.side_names),
            "sequences": [[suffix, len(frames)] for suffix, frames in recording.frames.items()],
            "dtype": dtype,
            "offset": offset,
        }
    )


def _about(metadata: dict[str, Any]) -> tuple[list[str], float, dict[str, Any], list[str]]:
    side_names = metadata.get("side_names", [])  # older entries have none
    return metadata["feature_names"], metadata["frame_rate"], metadata["layout"], side_names


def _remove(folder: Path, pid: int) -> None:
    """Remove the frames of one process when that process ends, but not when a child of it does."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold off other processes. Where the file system has no locks, work may be done twice."""
    lock = filelock.FileLock(f"{path}.lock")
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # nobody needs it: the entry is whole by now
        lock.release()


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

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

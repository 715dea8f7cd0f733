"""Files to raw sequences in splits: what is found, what is refused, and where it goes.

Conventions:
    A root is a folder, a file or a glob, on this machine or in object storage (see `remote`).
    Readers are given files on this machine only. Splits are ``"train"``, ``"val"`` and ``"test"``.
    Frames stay on disk (see `store`).
"""

import copy
import glob
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pytorch_lightning.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.batches import check_length, tail, whole_groups
from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.core.store import Frames, FrameStore, check_finite

_PARTS = ("train", "val", "test")
Parts = dict[str, list[tuple[str, Any]]]
"""Names and frames of the sequences of each part; frames slice, and are read by ``np.asarray``."""


class Corpus(ABC):
    """The files of a data module, whose arguments (see `FrameDataModule`) are its attributes."""

    extensions: ClassVar[tuple[str, ...]]
    """Endings of the files that can be read, in lower case."""

    shipped: ClassVar[Path | None] = None
    """Folder of the data shipped with the package."""

    reader_version: ClassVar[int | None] = None
    """Number of what `read` makes of a file; a class declares it in its own body and raises it with
    every change of reading. Without it nothing read is kept from one run to the next."""

    reads_without: ClassVar[tuple[str, ...]] = ()
    """Arguments of the class that `read` does not depend on."""

    beside: ClassVar[tuple[str, ...]] = ()
    """Endings of files that `read` takes from the folder of the file it reads."""

    root: str | None
    split: Literal["tail", "file"]
    val_fraction: float
    test_fraction: float
    window: int
    warmup: int
    seed: int
    num_workers: int
    group: str | None
    parts: dict[str, list[str]] | None
    on_error: Literal["raise", "skip"]
    cache_dir: str | None

    _n_files: int
    _left_out: dict[str, str]

    # What a kind of data fills in

    @abstractmethod
    def read(self, path: Path) -> Recording:
        """Reads one file; raises DataError naming it when it cannot."""

    def mismatch(self, recording: Recording, reference: Recording) -> str | None:
        """How a recording differs from the first one read or the checkpoint's, if it does."""
        ours, theirs = recording.feature_names, reference.feature_names
        if ours != theirs:
            extra = sorted(set(ours) - set(theirs))[:3] or "none"
            missing = sorted(set(theirs) - set(ours))[:3] or "none"
            return f"it has other features (in excess {extra}, missing {missing})"
        if abs(recording.frame_rate - reference.frame_rate) > 1e-6 * reference.frame_rate:
            return (
                f"it has {recording.frame_rate:g} frames per second, not {reference.frame_rate:g}"
            )
        return None

    @abstractmethod
    def settings(self) -> dict[str, Any] | None:
        """Return what `read` depends on beside the file, of which a change reads every file anew;
        None where that is not known."""

    def group_of(self, path: Path) -> str:
        """The group of a file; all files of a group are in one split."""
        if self.group is None:
            return str(path)
        match = re.search(self.group, path.name)
        if match is None:
            raise DataError(f"{path}: group {self.group!r} finds nothing in the file's name")
        return str(match[1] if match.re.groups else match[0])

    def _check_group(self, group: str) -> None:
        if self.split != "file":
            raise DataError("group keeps files together: set split to file, or leave group out")
        try:
            re.compile(group)
        except re.error as error:
            raise DataError(f"group {group!r} is no regular expression: {error}") from None

    def _files(self) -> list[Path]:
        """The files to read, on this machine."""
        return find_files(self._root(), self.extensions, self.beside, self._cache())

    def _parts(self, files: list[Path]) -> list[str] | None:
        """The part of each file, or None where the end of every sequence is set apart."""
        if self.parts is not None:
            return self._listed_parts(files, self.parts)
        if self.split != "file":
            return None
        groups = [self.group_of(path) for path in files]
        return whole_groups(groups, self.val_fraction, self.test_fraction, self.seed)

    def _check_parts(self, parts: dict[str, list[str]]) -> None:
        if unknown := sorted(set(parts) - {"val", "test"}):
            raise DataError(f"parts: {unknown[0]!r} is none of val, test; all other files train")
        names = [name for part in parts.values() for name in part]
        if twice := sorted(name for name in set(names) if names.count(name) > 1):
            raise DataError(f"parts: {twice[0]} is listed twice: keep it in one part")
        if self.group is not None:
            raise DataError("parts names every file itself: leave group out")

    def _listed_parts(self, files: list[Path], parts: dict[str, list[str]]) -> list[str]:
        part_of = {name: part for part, names in parts.items() for name in names}
        names = [name_of(path, self._root(), self.extensions) for path in files]
        if missing := sorted(set(part_of) - set(names)):
            raise DataError(
                f"{len(missing)} of the files that parts lists are not there, the first is"
                f" {missing[0]}: add them, or list others"
            )
        return [part_of.get(name, "train") for name in names]

    # All files

    def collect(self, reference: Recording | None) -> tuple[Parts, Recording, FrameStore]:
        """Names and raw frames by part, what all files have in common, and where they are kept.

        Args:
            reference: What files must have in common; that of the first if None.

        Raises:
            DataError: Lists all files that cannot be used, unless they are to be left out.
        """
        root, files, store = self._root(), self._files(), self._store()
        bad: dict[Path, DataError] = {}
        found, reference = self._fitting(files, store, bad, reference)
        try:
            labels = self._parts(files)
        except DataError as error:
            if bad and self.on_error == "raise":
                self._refuse(bad, len(files))
            told = str(error)
            raise error if told.startswith(str(root)) else DataError(f"{root}: {told}") from None
        parts: dict[str, list[tuple[str, Array | Frames]]] = {part: [] for part in _PARTS}
        for i, path in enumerate(files):
            if path in bad:
                continue
            try:
                for part, name, frames in self._divided(
                    path, found[path], labels[i] if labels else None
                ):
                    parts[part].append((name, frames))
            except DataError as error:
                bad[path] = error
        if bad:
            self._refuse(bad, len(files))
        wanted = (1.0, self.val_fraction, self.test_fraction)
        for part, fraction in zip(_PARTS, wanted, strict=True):
            if fraction > 0 and not parts[part]:
                raise DataError(f"{root}: no file that can be used is left for {part}: add files")
        assert reference is not None
        self._n_files = len(files) - len(bad)
        return parts, reference, store

    def _root(self) -> str | Path:
        root = self.root or self.shipped
        if root is None:
            raise DataError("no data given: set root to a folder, file or glob")
        return root

    def _cache(self) -> Path:
        try:
            return Path(self.cache_dir).expanduser() if self.cache_dir else default_cache()
        except RuntimeError:  # no home
            return Path(os.devnull) / "cache"

    def _store(self) -> FrameStore:
        reader: Any = copy.copy(self)  # what processes need to read, and no more
        reader.trainer = None
        settings = self.settings()
        if settings is None:
            rank_zero_info(
                f"{type(self).__qualname__} declares no reader_version, or the kind of its frames"
                " does not: its files are read anew by every run"
            )
        store = FrameStore(self._cache(), type(self).__name__, settings, reader.read, self.beside)
        if store.fault:
            rank_zero_warn(
                f"{store.fault}: frames are kept in memory and files are read again by every run:"
                " set cache_dir to a folder that can be written"
            )
        return store

    def _fitting(
        self,
        files: list[Path],
        store: FrameStore,
        bad: dict[Path, DataError],
        reference: Recording | None,
    ) -> tuple[dict[Path, dict[str, Array | Frames]], Recording | None]:
        """Sequences of the files that fit together, and what they have in common."""
        affinity = getattr(os, "sched_getaffinity", None)
        processes = len(affinity(0)) if affinity else self.num_workers
        kept = store.open(files, processes, bar=getattr(rank_zero_only, "rank", 0) == 0)
        origin = "the checkpoint"
        found = {}
        for path, content in zip(files, kept, strict=True):
            if isinstance(content, DataError):
                bad[path] = content
                continue
            if reference is None:
                reference, origin = content.about, str(path)
            try:
                self._check_fit(path, content.about, reference, origin)
            except DataError as error:
                bad[path] = error
            found[path] = content.frames
        return found, reference

    def _divided(
        self, path: Path, sequences: dict[str, Array | Frames], label: str | None
    ) -> list[tuple[str, str, Array | Frames]]:
        """Part, name and frames of the pieces of a file's sequences."""
        name = name_of(path, self._root(), self.extensions)
        pieces = []
        for suffix, frames in sequences.items():
            spans = tail(len(frames), self.val_fraction, self.test_fraction)
            for part, span in ({label: slice(None)} if label else spans).items():
                piece = frames[span]
                self._check_piece(path, len(frames), len(piece), part)
                pieces.append((part, name + suffix, piece))
        return pieces

    def _check_piece(self, path: Path, n_frames: int, n_piece: int, part: str) -> None:
        try:
            check_length(n_piece, part, self.window, self.warmup)
        except DataError as error:
            raise DataError(f"{path}: {n_frames} frames leave {error}") from None

    def _refuse(self, bad: dict[Path, DataError], n_files: int) -> None:
        """Raises an error that lists all files that cannot be used, or leaves them out aloud."""
        root, whole = self._root(), self.on_error == "raise"
        if len(bad) == 1 and whole:
            raise next(iter(bad.values()))
        reasons = {}
        for path in sorted(bad):
            name = name_of(path, root, ())
            name = str(path) if name in reasons else name
            reasons[name] = str(bad[path]).removeprefix(str(path)).lstrip(":, ")
        lines = "".join(f"\n  {name}: {why}" for name, why in reasons.items())
        if whole or len(bad) == n_files:
            remedy = " (on_error: skip leaves them out)" if len(bad) < n_files else ""
            raise DataError(f"{root}: {len(bad)} of {n_files} files cannot be used{remedy}:{lines}")
        rank_zero_warn(f"{root}: {len(bad)} of {n_files} files are left out:{lines}")
        self._left_out = reasons

    def _inputs(self, path: str | Path, reference: Recording) -> Iterator[tuple[str, Array]]:
        """Names and raw frames of the sequences in files that are not of the corpus."""
        for file in find_files(path, self.extensions, self.beside, self._cache()):
            recording = self._read(file, reference, "the training data")
            name = name_of(file, path, self.extensions)
            for suffix, frames in recording.frames.items():
                yield name + suffix, frames

    def _read(self, path: Path, reference: Recording, origin: str) -> Recording:
        """Reads a file past the store."""
        recording = self.read(path)
        check_finite(path, recording)
        self._check_fit(path, recording, reference, origin)
        return recording

    def _check_fit(
        self, path: Path, recording: Recording, reference: Recording, origin: str
    ) -> None:
        if difference := self.mismatch(recording, reference):
            raise DataError(f"{path}: does not fit {origin}: {difference}: keep one kind to a root")


# ------------------------------------------------------------------ files


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
    """Tell whether a root lies in object storage."""
    return "://" in str(root) and not str(root).startswith("file://")


def _local(root: str | Path) -> Path:
    return Path(str(root).removeprefix("file://")).expanduser()


def name_of(path: Path, root: str | Path, extensions: Sequence[str]) -> str:
    """Return a file's name for people: its path below the folder ``root``, without the ending.

    >>> name_of(Path("walks/01.bvh.gz"), "elsewhere", (".bvh", ".bvh.gz"))
    '01'
    """
    if is_remote(root):
        from rnade_lightning.datamodules.core.remote import copies_of

        folder = copies_of(str(root), path)
    else:
        folder = _local(root)
    below = path.relative_to(folder) if path.is_relative_to(folder) and folder.is_dir() else path
    name = below.as_posix() if below != path else path.name
    ending = next((e for e in extensions if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]

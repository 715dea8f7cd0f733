"""Find files, read them into raw sequences, and share these out to splits.

Conventions:
    A root is as in `files`. Readers are given files on this machine only. Splits are ``"train"``,
    ``"val"`` and ``"test"``. Frames stay on disk (see `store`).
"""

import copy
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal

from pytorch_lightning.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.files import default_cache, find_files, name_of, names_of
from rnade_lightning.datamodules.core.reading import read_checked
from rnade_lightning.datamodules.core.recording import Frames, Recording
from rnade_lightning.datamodules.core.side import sided
from rnade_lightning.datamodules.core.splits import scores, tail, whole_groups
from rnade_lightning.datamodules.core.store import FrameStore, Kept

_PARTS = ("train", "val", "test")
Parts = dict[str, list[tuple[str, Any]]]
"""Names and frames of the sequences of each part; frames slice, and are read by ``np.asarray``."""
_Found = dict[Path, dict[str, Array | Frames]]


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
    only: str | None
    on_error: Literal["raise", "skip"]
    cache_dir: str | None
    max_bytes: int | None

    _n_files: int
    _layouts: dict[Path, dict[str, Any]]
    _left_out: dict[str, str]
    _paths: dict[str, Path]
    _file_names: dict[Path, str]

    # Filled in by each kind of data

    @abstractmethod
    def read(self, path: Path) -> Recording:
        """Read one file; raise a DataError that names it if it cannot be read."""

    def holding(self, files: list[Path]) -> list[Path]:
        """Return those of the files found that hold data: not those of the frame store, which
        may lie below a root, nor what lies beside data as published."""
        kept = self._cache() / "frames"
        return [path for path in files if not path.is_relative_to(kept)] or files

    def name_read(self, path: Path) -> str:
        """Return what `read` takes from the path of a file, beside its content: its name."""
        return path.name

    def mismatch(self, recording: Recording, reference: Recording) -> str | None:
        """Return how a recording differs from the reference, or from the checkpoint's; or None."""
        ours, theirs = recording.feature_names, reference.feature_names
        if ours != theirs and sorted(ours) == sorted(theirs):
            return "its features are in another order"
        if ours != theirs:
            extra = sorted(set(ours) - set(theirs))[:3] or "none"
            missing = sorted(set(theirs) - set(ours))[:3] or "none"
            return f"it has other features (in excess {extra}, missing {missing})"
        if list(recording.side_names) != list(reference.side_names):
            return "its features have other side information"
        if abs(recording.frame_rate - reference.frame_rate) > 1e-6 * reference.frame_rate:
            return (
                f"it has {recording.frame_rate:g} frames per second, not {reference.frame_rate:g}"
            )
        return None

    @abstractmethod
    def settings(self) -> dict[str, Any] | None:
        """Return everything beside the file that `read` depends on. A change of it reads every file
        anew. None where that is not known."""

    def note(self, recording: Recording) -> None:  # noqa: B027  (most kinds have nothing to note)
        """Take note of what a file that is used says of itself (without frames), for the card."""

    def group_of(self, path: Path) -> str:
        """Return the group of a file; all files of a group are in one split."""
        if self.group is None:
            return str(path)
        match = re.search(self.group, path.name)
        if match is None:
            raise DataError(
                f"{path}: group {self.group!r} finds nothing in the file's name: give the pattern"
                " of your names, or null, by which every file is a group of its own"
            )
        return str(match[1] if match.re.groups else match[0])

    def _check_patterns(self, group: str | None, only: str | None) -> None:
        if group is not None and self.split != "file":
            raise DataError("group keeps files together: set split to file, or leave group out")
        for name, pattern in (("group", group), ("only", only)):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise DataError(f"{name} {pattern!r} is no regular expression: {error}") from None

    def _files(self) -> list[Path]:
        """Return the files to read, on this machine."""
        files = self.holding(find_files(self._root(), self.extensions, self.beside, self._cache()))
        if self.only is None:
            return files
        if not (found := [path for path in files if re.search(str(self.only), path.as_posix())]):
            raise DataError(f"{self._root()}: only {self.only!r} finds none of {len(files)} files")
        return found

    def _parts(self, files: list[Path]) -> list[str] | None:
        """Return the part of each file, or None where the end of every sequence is set apart."""
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
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise DataError(f"parts: {twice[0]} is listed twice: keep it in one part")
        if self.group is not None:
            raise DataError("parts names every file itself: leave group out")

    def _listed_parts(self, files: list[Path], parts: dict[str, list[str]]) -> list[str]:
        names = [self._name(path) for path in files]
        part_of: dict[str, str] = {}
        missing = []
        for part, patterns in parts.items():
            for pattern in patterns:
                found = [n for n in names if n == pattern or fnmatchcase(n, pattern)]
                missing += [pattern] * (not found)
                for name in found:
                    if part_of.setdefault(name, part) != part:
                        raise DataError(f"parts: {name} is in val and test: keep it in one part")
        if missing:
            raise DataError(
                f"{len(missing)} of the files that parts lists are not there, the first is"
                f" {min(missing)}: add them, or list others"
            )
        return [part_of.get(name, "train") for name in names]

    # All files

    def collect(self, reference: Recording | None) -> tuple[Parts, Recording, FrameStore]:
        """Return names and raw frames by part, what all files share, and where they are kept.

        Args:
            reference: What files must have in common; that of the first if None.

        Raises:
            DataError: Lists all files that cannot be used, unless they are to be left out.
        """
        root, files = self._root(), self._files()
        self._file_names = names_of(files, root, self.extensions)
        bad: dict[Path, DataError] = {}
        kept, store = self._opened(files)
        found, reference = self._fitting(files, kept, bad, reference)
        try:
            labels = self._parts(files)
        except DataError as error:
            if bad and self.on_error == "raise":
                self._refuse(bad, len(files))
            told = str(error)
            raise error if told.startswith(str(root)) else DataError(f"{root}: {told}") from None
        if bad:
            self._refuse(bad, len(files))
        parts = self._filled(files, found, labels)
        if not any(scores(len(frames), self.warmup) for _, frames in parts["train"]):
            parts["train"] = []
        wanted = (1.0, self.val_fraction, self.test_fraction)
        for part, fraction in zip(_PARTS, wanted, strict=True):
            if fraction > 0 and not parts[part]:
                raise DataError(self._without(part, found))
        assert reference is not None
        self._n_files = len(files) - len(bad)
        return parts, reference, store

    def _root(self) -> str | Path:
        root = self.root or self.shipped
        if root is None:
            raise DataError("no data given: set root to a folder, file or glob")
        return root

    def _name(self, path: Path) -> str:
        """Return the name of a file for people; no two files of a root share one."""
        return self._file_names.get(path) or name_of(path, self._root(), self.extensions)

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
                " does not: every run reads its files anew"
            )
        store = FrameStore(
            self._cache(), type(self).__name__, settings, reader.read, self.beside, reader.name_read
        )
        if store.fault:
            rank_zero_warn(
                f"{store.fault}: frames are kept in memory and files are read again by every run:"
                " set cache_dir to a folder that can be written"
            )
        return store

    def _opened(self, files: list[Path]) -> tuple[list[Kept | DataError], FrameStore]:
        """Return what each file holds, or why it cannot be read, and the store that keeps it."""
        store, affinity = self._store(), getattr(os, "sched_getaffinity", None)
        processes = len(affinity(0)) if affinity else self.num_workers
        return store.open(files, processes, bar=getattr(rank_zero_only, "rank", 0) == 0), store

    def _fitting(
        self,
        files: list[Path],
        kept: list[Kept | DataError],
        bad: dict[Path, DataError],
        reference: Recording | None,
    ) -> tuple[_Found, Recording | None]:
        """Return the sequences of the files that fit together, and what they share."""
        origin = "the checkpoint"
        found = {}
        abouts = {p: x.about for p, x in zip(files, kept, strict=True) if isinstance(x, Kept)}
        self._layouts = {path: about.layout for path, about in abouts.items()}
        if reference is None and abouts:
            origin, reference = self._common(abouts)
        for path, content in zip(files, kept, strict=True):
            if isinstance(content, DataError):
                bad[path] = content
                continue
            assert reference is not None
            try:
                self._check_fit(path, content.about, reference, origin)
            except DataError as error:
                bad[path] = error
                continue
            self.note(content.about)
            found[path] = sided(content.about, content.frames)
        return found, reference

    def _common(self, abouts: dict[Path, Recording]) -> tuple[str, Recording]:
        """Return the first file of those that most others fit, and what it holds."""
        kinds: list[tuple[Path, Recording]] = []
        counts: list[int] = []
        for path, about in abouts.items():
            fits = (i for i, (_, x) in enumerate(kinds) if self.mismatch(about, x) is None)
            i = next(fits, len(kinds))
            if i == len(kinds):
                kinds.append((path, about))
                counts.append(0)
            counts[i] += 1
        path, about = kinds[counts.index(max(counts))]
        return str(path), about

    def _divided(
        self, path: Path, sequences: dict[str, Array | Frames], label: str | None
    ) -> list[tuple[str, str, Array | Frames]]:
        """Return part, name and frames of the pieces of a file's sequences."""
        name = self._name(path)
        self._paths |= {name + suffix: path for suffix in sequences}
        pieces = []
        for suffix, frames in sequences.items():
            spans = tail(len(frames), self.val_fraction, self.test_fraction, self.warmup)
            for part, span in ({label: slice(None)} if label else spans).items():
                pieces.append((part, name + suffix, frames[span]))
        return pieces

    def _filled(self, files: list[Path], found: _Found, labels: list[str] | None) -> Parts:
        """Names and raw frames of the sequences of each part."""
        parts: Parts = {part: [] for part in _PARTS}
        unscored = {}
        for i, path in enumerate(files):
            label = labels[i] if labels else None
            for part, name, frames in (
                self._divided(path, found[path], label) if path in found else ()
            ):
                if part == "train" or scores(len(frames), self.warmup):
                    parts[part].append((name, frames))
                else:
                    unscored[name] = f"its {len(frames)} frames of {part} are all warm-up"
        if unscored:
            rank_zero_warn(
                f"{self._root()}: {len(unscored)} sequences are no longer than the warm-up of"
                f" {self.warmup} frames, so that none of them is scored: they are left out of"
                f" validation and test: {', '.join(list(unscored)[:5])}"
            )
            self._left_out = self._left_out | unscored
        return parts

    def _without(self, part: str, found: _Found) -> str:
        """Return why a part has no sequences."""
        root = self._root()
        lengths = [(len(x), str(path)) for path, of in found.items() for x in of.values()]
        longest, path = max(lengths, default=(0, ""))
        if self.split == "file" or not longest:
            return f"{root}: no file that can be used is left for {part}: add files"
        return (
            f"{path}: {longest} frames, and no file has more, leave none for {part}, which needs"
            f" more than the warm-up of {self.warmup} frames: add files, lower warmup, or set"
            " other fractions"
        )

    def _refuse(self, bad: dict[Path, DataError], n_files: int) -> None:
        """Raise an error on all files that cannot be used, or leave them out with a warning."""
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
        """Yield names and raw frames of the sequences in files that are not of the corpus."""
        files = find_files(path, self.extensions, self.beside, self._cache())
        for file in self.holding(files):
            recording = self._read(file, reference, "the training data")
            name = name_of(file, path, self.extensions)
            for suffix, frames in sided(recording, recording.frames).items():
                self._paths[name + suffix] = file
                yield name + suffix, frames

    def _read(self, path: Path, reference: Recording, origin: str) -> Recording:
        """Read a file without the store."""
        recording = read_checked(self.read, path)
        self._check_fit(path, recording, reference, origin, "give a file of its kind")
        return recording

    def _check_fit(
        self,
        path: Path,
        recording: Recording,
        reference: Recording,
        origin: str,
        remedy: str = "keep one kind in a root",
    ) -> None:
        if difference := self.mismatch(recording, reference):
            raise DataError(f"{path}: does not fit {origin}: {difference}: {remedy}")

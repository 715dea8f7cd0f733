"""Find what is known beside the frames of a file: the labels and signals that go with it.

Conventions:
    As in `given`.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.given import Given, Known, listed
from rnade_lightning.datamodules.core.moments import moments
from rnade_lightning.datamodules.core.tables import read_csv

PARENT = "parent"
TABLES = (".csv", ".tsv")
FILE_COLUMNS = ("file", "path", "name", "take", "filename")
TIME = "seconds"


class Beside:
    """Finds what is known beside the frames of files.

    Args:
        labels: Where labels stand; see `Labels`.
        control: Names or patterns of features that are given.
        control_files: Pattern of the second file that goes with a file; see `beside`.
        window: Frames before and after a frame whose controls it is given, too.
        endings: Endings of the files.
        root: Where the files are.

    Raises:
        DataError: They do not fit together.
    """

    def __init__(
        self,
        labels: str | None,
        control: Sequence[str] | None,
        control_files: str | None,
        window: Sequence[int] | None,
        endings: Sequence[str],
        root: str | Path | None = None,
    ) -> None:
        self.labels = None if labels is None else Labels(labels, root)
        self.control, self.control_files = list(control or ()), control_files
        self.endings = endings
        if window is None:
            window = (0, 0)
        if len(window) != 2 or min(window) < 0:
            raise DataError("control_window is two numbers of frames, before and after, 0 or more")
        self.window = window[0], window[1]
        if control_files is not None and "{name}" not in control_files:
            raise DataError(f"control_files {control_files!r} has no {{name}} for the file's name")

    @property
    def anything(self) -> bool:
        """Return whether anything is given."""
        return bool(self.labels or self.control or self.control_files)

    def known(self, path: Path, frames: Any, frame_rate: float) -> tuple[Any, list[str]]:
        """Return the raw frames ``(T, D_raw)`` of a file with what is known beside them, and the
        names of the signals of its second file."""
        labels = {} if self.labels is None else self.labels.of(path, self.endings)
        if self.control_files is None:
            return Known(frames, labels), []
        second = beside(self.control_files, path, self.endings)
        if not second.is_file():
            raise DataError(f"{path}: {second}, which controls it, is not there: add it")
        signals, names = read_control(second, len(frames), frame_rate)
        return Known(frames, labels, signals), names

    def given(
        self, names: Sequence[str], signals: Sequence[str], training: Sequence[tuple[str, Any]]
    ) -> Given:
        """Return what is given, with statistics and classes of the training part.

        Args:
            names: Names of the features of the files.
            signals: Names of the signals of the second files.
            training: Names and frames of the training sequences.

        Raises:
            DataError: There is no such feature, or no file has a label.
        """
        columns = columns_of(names, self.control)
        columns += range(len(names), len(names) + len(signals))
        all_names = [*names, *signals]
        mean, std, ends = np.zeros(0), np.zeros(0), np.zeros((4, 0))
        if columns:
            found = [frames.whole()[:, columns] for _, frames in training if len(frames)]
            of = moments(found)
            mean, std = of.mean, np.where(of.std > 0, of.std, 1.0)
            ends = np.quantile(np.concatenate(found), [0, 0.005, 0.995, 1], axis=0)
        classes: dict[str, list[str]] = {}
        for label in self.labels.names if self.labels else ():
            own_classes = {frames.labels.get(label) for _, frames in training}
            classes[label] = sorted(own_classes - {None})
            if not classes[label]:
                raise DataError(f"label {label!r} is told of no training file: check labels")
            if without := [name for name, frames in training if label not in frames.labels]:
                rank_zero_warn(
                    f"{len(without)} of {len(training)} training sequences have no {label}, the"
                    f" first is {without[0]}: for them it is absent"
                )
        own = [all_names[i] for i in columns], columns, mean.tolist(), std.tolist()
        reach, usual = ends[[0, 3]].T.tolist(), ends[[1, 2]].T.tolist()
        return Given(*own, classes, self.window, reach, usual)

    def check(self, given: Given, signals: Sequence[str], name: str, frames: Any) -> None:
        """Refuse a sequence whose labels or signals are others than those that are known.

        Raises:
            DataError: Names it.
        """
        n = len(signals)
        if n and given.names[-n:] != list(signals):
            theirs = listed(given.names[-n:])
            raise DataError(f"{name}: its signals are {listed(signals)}, not {theirs}")
        for label, own in frames.labels.items():
            if own not in given.classes.get(label, ()):
                raise DataError(
                    f"{name}: its {label} {own!r} is that of no training file, which are"
                    f" {listed(given.classes.get(label, ()))}: train on it, or leave it out"
                )


def columns_of(names: Sequence[str], patterns: Sequence[str], option: str = "control") -> list[int]:
    """Return the places of the features that patterns of an option name, in the order of the
    features.

    Raises:
        DataError: A pattern names none; lists some of the names.

    >>> columns_of(["root.turn", "root.left", "Head.x"], ["root.*"])
    [0, 1]
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise DataError(f"{option} {pattern!r} names no feature of {listed(names)}")
    return [i for i, n in enumerate(names) if any(fnmatchcase(n, p) for p in patterns)]


class Labels:
    """Finds the labels of files: in their names, in their folders, or in a table.

    Args:
        where: "parent" for the name of the folder that a file lies in, as the label "folder"; a
            table (.csv, .tsv), which may lie among the files, with a column ``file`` and one for
            each label; or a regular expression on the file's path, whose named groups are labels.
        root: Where the files are.

    Raises:
        DataError: It is none of them.
    """

    def __init__(self, where: str, root: str | Path | None = None) -> None:
        self.where = where
        self._pattern: re.Pattern[str] | None = None
        self._table: dict[str, dict[str, str]] = {}
        if where == PARENT:
            self.names = ["folder"]
        elif where.lower().endswith(TABLES):
            among = Path(root or "", where)
            own = Path(where).is_file() or not among.is_file()
            self._table, self.names = _read_labels(Path(where) if own else among)
        else:
            try:
                self._pattern = re.compile(where)
            except re.error as error:
                raise DataError(f"labels {where!r} is no regular expression: {error}") from None
            self.names = list(self._pattern.groupindex)
            if not self.names:
                raise DataError(
                    f"labels {where!r} has no named group, such as (?P<action>[a-z]+): give one,"
                    f" {PARENT!r}, or a table that ends in {' or '.join(TABLES)}"
                )

    def of(self, path: Path, endings: Sequence[str]) -> dict[str, str]:
        """Return the labels of a file; those that are not told are left out."""
        if self.where == PARENT:
            return {"folder": path.resolve().parent.name}
        if self._pattern is not None:
            match = self._pattern.search(path.as_posix())
            return {k: v for k, v in match.groupdict().items() if v} if match else {}
        parts = path.as_posix().split("/")
        for i in range(len(parts)):  # the longest part of the path that the table has
            whole = "/".join(parts[i:])
            keys = dict.fromkeys(whole.removesuffix(end) for end in ("", *endings))
            found = [(key, self._table[key]) for key in keys if key in self._table]
            if any(row != found[0][1] for _, row in found):
                raise DataError(
                    f"{self.where}: labels {path} twice, differently, as"
                    f" {' and '.join(key for key, _ in found)}: leave one of them out"
                )
            if found:
                return found[0][1]
        return {}


def _read_labels(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the labels in a table by file, and their names."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = list(csv.reader(file, delimiter=max(",\t;", key=first.count)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table of labels ({error})") from error
    head = [name.strip() for name in rows[0]] if rows else []
    key = next((head.index(name) for name in FILE_COLUMNS if name in head), None)
    if key is None or len(head) < 2:
        raise DataError(
            f"{path}: its first line names no column {' or '.join(FILE_COLUMNS)} and a label:"
            " name them"
        )
    if twice := [name for name, n in Counter(head).items() if n > 1 and name]:
        raise DataError(f"{path}: two columns are called {twice[0]!r}: name them apart")
    table: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(head):
            raise DataError(f"{path}, line {number}: {len(row)} cells where {len(head)} are named")
        cells = {n: v.strip() for n, v in zip(head, row, strict=True) if v.strip()}
        file_name = row[key].strip()
        own = {name: value for name, value in cells.items() if name != head[key]}
        if table.setdefault(file_name, own) != own:
            raise DataError(f"{path}, line {number}: {file_name} is labelled twice, differently")
    return table, [name for i, name in enumerate(head) if i != key]


def read_control(path: Path, n_frames: int | None, frame_rate: float) -> tuple[Array, list[str]]:
    """Return the signals of a CSV file at the times of frames, ``(n_frames, n)``, and their names;
    see `signals_at`."""
    values, names = read_csv(path)
    return signals_at(path, values, names, n_frames, frame_rate)


def signals_at(
    path: Path,
    values: Array,
    names: list[str] | None,
    n_frames: int | None,
    frame_rate: float,
) -> tuple[Array, list[str]]:
    """Return the signals of a table at the times of frames, ``(n_frames, n)``, and their names. All
    that it has if n_frames is None.

    Its column ``seconds`` is the time, in which the others are interpolated; without it a line
    stands for a frame.

    Args:
        path: The table, to name in an error.
        values: Its numbers, ``(T, n_columns)``.
        names: Names of its columns.
        n_frames: Number of frames.
        frame_rate: Frames per second.

    Raises:
        DataError: It names no signal, or does not last as long as the frames.
    """
    if names is None:
        raise DataError(f"{path}: its first line names no signal: name them, and {TIME}")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: holds numbers that are not finite: repair it")
    if TIME not in names:
        if n_frames is not None and len(values) != n_frames:
            raise DataError(
                f"{path}: {len(values)} lines for {n_frames} frames: add a column {TIME}, or give"
                " one line a frame"
            )
        return values, names
    at = names.index(TIME)
    times = values[:, at]
    if n_frames is None:
        n_frames = int(times[-1] * frame_rate + 1e-6) + 1
    wanted = np.arange(n_frames) / frame_rate
    if not (np.diff(times) > 0).all():
        raise DataError(f"{path}: {TIME} does not grow from line to line: sort them")
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    step = max(1 / frame_rate, usual)  # the next line may lie beyond the end, and one in the middle
    if times[0] > max(1 / frame_rate, usual / 2) or times[-1] < wanted[-1] - step:
        raise DataError(
            f"{path}: lasts from {times[0]:.3g} to {times[-1]:.3g} s, its frames to"
            f" {wanted[-1]:.3g} s: give signals of all of it"
        )
    others = [i for i in range(len(names)) if i != at]
    if not others:
        raise DataError(f"{path}: has a column {TIME} and no other: add the signals")
    found = np.column_stack([np.interp(wanted, times, values[:, i]) for i in others])
    return found, [names[i] for i in others]


def beside(pattern: str, path: Path, endings: Sequence[str]) -> Path:
    """Return the second file that goes with a file, by a pattern in which ``{name}`` stands for the
    file's name without its ending. A pattern that is no absolute path starts from its folder."""
    name = next((path.name[: -len(e)] for e in endings if path.name.lower().endswith(e)), path.stem)
    return path.parent / pattern.replace("{name}", name)

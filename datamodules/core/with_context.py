"""Put what is known beside the frames of files to their sequences.

Conventions:
    As in `given` and `side`.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.beside import TIME, Beside, signals_at
from rnade_lightning.datamodules.core.corpus import Corpus, Parts
from rnade_lightning.datamodules.core.given import Given, Known, listed
from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.core.sequences import FrameSequence
from rnade_lightning.datamodules.core.side import Side
from rnade_lightning.datamodules.core.standardise import Standardiser
from rnade_lightning.datamodules.core.tables import read_csv


class WithContext(Corpus):
    """The files of a data module, with what is known beside their frames."""

    _beside: Beside
    _given: Given | None

    def all_known(self, parts: Parts, reference: Recording) -> Parts:
        """Return the sequences of all parts with what is known beside their frames."""
        if not self._beside.anything:
            return parts
        signals: list[str] | None = None
        found: Parts = {part: [] for part in parts}
        for part, sequences in parts.items():
            for name, raw in sequences:
                known, own = self._beside.known(self._paths[name], raw, reference.frame_rate)
                signals = own if signals is None else signals
                found[part].append((name, known))
        if self._given is None:
            self._given = self._beside.given(reference.feature_names, signals or [], found["train"])
        for sequences in found.values():
            for name, known in sequences:
                self._beside.check(self._given, signals or [], name, known)
        return found

    def one_known(self, name: str, raw: Any, reference: Recording) -> tuple[str, Any]:
        """Return the name and frames of a sequence that is not of the corpus, with what is known
        beside them."""
        if not self._beside.anything or self._given is None:
            return name, raw
        path = self._paths[name]
        known, signals = self._beside.known(path, raw, reference.frame_rate)
        self._beside.check(self._given, signals, str(path), known)
        return name, known

    # What a model is given

    @abstractmethod
    def _fitted(self) -> tuple[Standardiser, Recording]: ...

    @property
    def given(self) -> Given | None:
        """Return what a model is given beside the past; None for nothing, and for side information
        of every feature."""
        self._fitted()
        return self._given

    @property
    def context_by_feature(self) -> bool:
        """Return whether the context is side information of every feature, ``(T, D, C)``."""
        return bool(self._fitted()[1].side_names)

    @property
    def n_context(self) -> int | list[int]:
        """Return how many numbers of a frame a model is given, by part; 0 for none. Where the
        context is by feature, it is C."""
        if self.context_by_feature:
            return len(self._fitted()[1].side_names)
        return 0 if self.given is None else self.given.sizes

    @property
    def contexts(self) -> Given | Side | None:
        """Return what makes the context of frames; None where a model is given nothing."""
        standardiser, reference = self._fitted()
        return Side(standardiser.modelled) if reference.side_names else self._given

    # Controls

    @property
    @abstractmethod
    def frame_rate(self) -> float: ...

    @abstractmethod
    def score_input(self, path: str | Path) -> FrameSequence: ...

    control_hint = "a file of this kind, or a .csv with a column for each and, perhaps, seconds"
    """What `controls` takes, in words."""

    def controls(self, what: str, n_frames: int | None, default_frames: int) -> Array:
        """Return the controls that something tells, ``(T, G)``, in their units.

        Args:
            what: A file as those trained on, whose controls are taken, or a table of them; see
                `beside.signals_at`. Its times may be called ``t``.
            n_frames: T; all that it has if None.
            default_frames: T where neither is known.

        Raises:
            DataError: It tells no such controls, or not so many frames of them.
        """
        assert self._given is not None
        return self._controls(self._given, what, n_frames, default_frames)

    def way(self, what: str, n_frames: int | None, default_frames: int) -> Any:
        """Return what samples of a model that is given no control are drawn toward, if data of this
        kind know anything of it; the arguments are those of `controls`."""
        raise DataError("the model is given no control: leave --control out")

    def _controls(
        self, given: Given, what: str, n_frames: int | None, default_frames: int
    ) -> Array:
        path, found = Path(what), None
        if not path.exists():
            raise DataError(f"--control {what}: no such file: give {self.control_hint}")
        if path.suffix == ".csv":
            values, columns = read_csv(path)
            timed = columns is None or TIME in columns or "t" in given.names
            names = [name if timed or name != "t" else TIME for name in columns or ()]
            found = self._controls_in(given, path, values, names, n_frames)
            if found is None and ".csv" not in self.extensions:
                raise DataError(
                    f"{path}: its columns are {listed(names) or 'not named'}, which do not tell"
                    f" {listed(given.names)}: give {self.control_hint}"
                )
        if found is None:
            raw = self.score_input(what).raw
            whole = raw.whole() if isinstance(raw, Known) else np.asarray(raw, np.float64)
            found = whole[:, given.columns]
        if n_frames is not None and len(found) < n_frames:
            raise DataError(
                f"{what}: controls {len(found)} frames ({len(found) / self.frame_rate:.3g} s), not"
                f" {n_frames}: set --seconds or --n_frames to less"
            )
        return found[:n_frames]

    def _controls_in(
        self, given: Given, path: Path, values: Array, names: list[str], n_frames: int | None
    ) -> Array | None:
        """Return the controls ``(T, G)`` in a table; None if it does not tell them.

        Args:
            given: What the controls are of.
            path: The table, to name in an error.
            values: Its numbers, ``(n, n_columns)``.
            names: Names of its columns; none if they are not named.
            n_frames: T, as far as it can be chosen; all that it has if None.
        """
        if not set(given.names) <= set(names):
            return None
        found, names = signals_at(path, values, names, None, self.frame_rate)
        return found[:, [names.index(name) for name in given.names]]

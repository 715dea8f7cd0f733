"""Files to frames to batches, and back: what every kind of data has in common.

files -> sequences -> splits -> standardised by training statistics -> windows -> padded batches,
and standardised frames -> files that can be played. A kind of data adds how its files are read and
written.

Conventions:
    A sequence is ``(T, D)``, time first. Raw features are float64 in their own units, standardised
    ones float32. Splits are ``"train"``, ``"val"`` and ``"test"``. Batches are as in `batches`.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info

from datamodules.batches import Collate, Deal, FrameLoader, Spans, cut
from datamodules.files import DataError, find_files, name_of
from datamodules.splits import check_length, tail, whole_files
from datamodules.standardise import RANK_TOLERANCE, Array, Standardiser

Split = Literal["train", "val", "test"]


class FrameSequence(NamedTuple):
    """A standardised sequence.

    Attributes:
        name: Where it comes from: the file's name, and a number if the file holds several.
        frames: ``(T, D)``, float32.
    """

    name: str
    frames: torch.Tensor


class Recording(NamedTuple):
    """What one file holds.

    Attributes:
        frames: Raw sequences ``(T, D_raw)``, by what is added to the file's name to name them.
        feature_names: Names of the raw features.
        frame_rate: Frames per second.
        layout: What it takes to write frames back, in plain types (for a checkpoint).
    """

    frames: dict[str, Array]
    feature_names: list[str]
    frame_rate: float
    layout: dict[str, Any]


class FrameDataModule(LightningDataModule, ABC):
    """Sequences of frames from files, in splits, windows and batches, and back to files.

    Args:
        root: Folder, file or glob to read. Nothing means the data shipped with the package.
        window: Length of a training window, in frames.
        stride: Frames from one training window to the next; half a window if not given.
        batch_size: Windows (in evaluation: sequences) in a batch, on each device.
        split: How test and validation data are set apart. "tail" takes the end of every sequence
            (first part trains, then validation, then test); "file" takes whole files at random.
        val_fraction: Share of the frames (or files) for validation.
        test_fraction: Share of the frames (or files) for the test.
        warmup: Frames at the start of each evaluated sequence that are not scored.
        num_workers: Processes that prepare batches; 0 prepares them in the training process.
        seed: Seed of the order of training windows and of the choice of files.
        rank_tolerance: A feature is left out if the features before it explain all but this share
            of its standard deviation.
        standardise: Scale features to mean 0 and deviation 1 on the training part; no leaves units
            as they are.
    """

    extensions: ClassVar[tuple[str, ...]]
    """Endings of the files that can be read, in lower case."""

    shipped: ClassVar[Path | None] = None
    """Folder of the data shipped with the package."""

    def __init__(
        self,
        root: str | None = None,
        window: int = 64,
        stride: int | None = None,
        batch_size: int = 16,
        split: Literal["tail", "file"] = "tail",
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        warmup: int = 3,
        num_workers: int = 0,
        seed: int = 0,
        rank_tolerance: float = RANK_TOLERANCE,
        standardise: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.root, self.seed = root, seed
        self.window, self.stride, self.warmup = window, stride or max(window // 2, 1), warmup
        self.batch_size, self.num_workers = batch_size, num_workers
        self.split, self.val_fraction, self.test_fraction = split, val_fraction, test_fraction
        self.rank_tolerance, self.rescale = rank_tolerance, standardise
        if min(window, self.stride, batch_size) < 1 or warmup < 0 or num_workers < 0:
            raise DataError("window, stride and batch_size must be 1 or more, warmup 0 or more")
        if self.stride > window:
            raise DataError(f"stride {self.stride} skips frames: make it at most window ({window})")
        if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
            raise DataError("val_fraction and test_fraction must be 0 or more and sum to below 1")
        self._reference: Recording | None = None  # without frames
        self._standardiser: Standardiser | None = None
        self._raw: dict[str, list[tuple[str, Array]]] = {}
        self._sequences: dict[str, list[FrameSequence]] = {}
        self._n_files = 0

    # What a kind of data fills in

    @abstractmethod
    def read(self, path: Path) -> Recording:
        """Reads one file; raises DataError naming it when it cannot."""

    @abstractmethod
    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Writes raw frames ``(T, D_raw)`` as files that a person can play; returns their paths."""

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

    # Files to sequences

    def setup(self, stage: str | None = None) -> None:
        """Reads all files, splits them, and fits statistics unless a checkpoint gave them."""
        if self._raw:
            return
        root, fractions = self._root(), (self.val_fraction, self.test_fraction)
        files, by_file = find_files(root, self.extensions), self.split == "file"
        try:
            labels = whole_files(len(files), *fractions, self.seed) if by_file else None
        except DataError as error:
            raise DataError(f"{root}: {error}") from None
        parts: dict[str, list[tuple[str, Array]]] = {"train": [], "val": [], "test": []}
        reference, origin = self._reference, "the checkpoint"
        for i, path in enumerate(files):
            recording = self._read(path, reference, origin)
            if reference is None:
                reference, origin = recording._replace(frames={}), str(path)
            name = name_of(path, root, self.extensions)
            for suffix, frames in recording.frames.items():
                spans = {labels[i]: slice(None)} if labels else tail(len(frames), *fractions)
                for part, span in spans.items():
                    try:
                        check_length(len(frames[span]), part, self.window, self.warmup)
                    except DataError as error:
                        raise DataError(f"{path}: {len(frames)} frames leave {error}") from None
                    parts[part].append((name + suffix, frames[span]))
        assert reference is not None
        if self._standardiser is None:
            training = [frames for _, frames in parts["train"]]
            names = reference.feature_names
            standardiser = Standardiser.fit(training, names, self.rank_tolerance, self.rescale)
            if not standardiser.kept:
                raise DataError(f"{root}: every feature is constant: nothing to model")
            if standardiser.dropped:
                rank_zero_info(standardiser.report())
            self._standardiser = standardiser
        self._raw, self._n_files, self._reference = parts, len(files), reference

    def _root(self) -> str | Path:
        root = self.root or self.shipped
        if root is None:
            raise DataError("no data given: set root to a folder, file or glob")
        return root

    def _read(self, path: Path, reference: Recording | None, origin: str) -> Recording:
        recording = self.read(path)
        for frames in recording.frames.values():
            for t, d in np.argwhere(~np.isfinite(frames))[:1]:
                where = f"frame {t}, {recording.feature_names[d]}"
                raise DataError(f"{path}: {where} is {frames[t, d]}: repair or remove the file")
        difference = self.mismatch(recording, reference) if reference else None
        if difference:
            raise DataError(f"{path}: does not fit {origin}: {difference}: keep one kind to a root")
        return recording

    # Standardised frames and back

    def _fitted(self) -> tuple[Standardiser, Recording]:
        if self._standardiser is None:
            self.setup()
        assert self._standardiser is not None
        assert self._reference is not None
        return self._standardiser, self._reference

    @property
    def n_features(self) -> int:
        """Features of a frame, D; reads the files if that was not done."""
        return len(self._fitted()[0].kept)

    @property
    def feature_names(self) -> list[str]:
        """Names of the features kept."""
        standardiser = self._fitted()[0]
        return [standardiser.names[i] for i in standardiser.kept]

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self._fitted()[1].frame_rate

    @property
    def layout(self) -> dict[str, Any]:
        """What it takes to write frames back, in plain types."""
        return self._fitted()[1].layout

    @property
    def dropped(self) -> dict[str, str]:
        """Why each feature that is not modelled was left out, by name."""
        return self._fitted()[0].dropped

    @property
    def log_scale(self) -> float:
        """To subtract from log p of a standardised frame for log p in the features' own units."""
        return self._fitted()[0].log_scale

    def standardise(self, raw: npt.ArrayLike) -> torch.Tensor:
        """Raw ``(..., D_raw)`` to standardised ``(..., D)``, float32."""
        return self._fitted()[0].forward(raw)

    def destandardise(self, frames: torch.Tensor | npt.ArrayLike) -> Array:
        """Standardised ``(..., D)`` to raw ``(..., D_raw)``, float64, all features."""
        return self._fitted()[0].backward(frames)

    def sequences(self, split: Split) -> list[FrameSequence]:
        """The standardised sequences of a split."""
        self.setup()
        if split not in self._sequences:
            raw = self._raw[split]
            self._sequences[split] = [FrameSequence(n, self.standardise(x)) for n, x in raw]
        return self._sequences[split]

    def score_inputs(self, path: str | Path) -> list[FrameSequence]:
        """Any files, whole and standardised with this module's statistics, to score or continue.

        Raises:
            DataError: No such file, or its features are not those this module knows.
        """
        reference = self._fitted()[1]
        found = []
        for file in find_files(path, self.extensions):
            recording = self._read(file, reference, "the training data")
            name = name_of(file, path, self.extensions)
            for suffix, frames in recording.frames.items():
                found.append(FrameSequence(name + suffix, self.standardise(frames)))
        return found

    def score_input(self, path: str | Path) -> FrameSequence:
        """The one sequence in a file; see `score_inputs`."""
        found = self.score_inputs(path)
        if len(found) > 1:
            raise DataError(f"{path}: holds {len(found)} sequences: give a file that holds one")
        return found[0]

    def render(self, frames: torch.Tensor | npt.ArrayLike, stem: str | Path) -> list[Path]:
        """Writes standardised frames ``(T, D)`` as files that a person can play.

        Args:
            frames: Frames, as a model sees them.
            stem: Path of the files, without their endings.

        Returns:
            Paths of the files written.
        """
        raw = self.destandardise(frames)
        if raw.ndim != 2 or not len(raw) or not np.isfinite(raw).all():
            raise DataError(f"{stem}: frames to write must be (T, D), finite, and one at least")
        return self.write(raw, Path(stem))

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """What scoring and rendering need beside the files, in plain types and tensors."""
        standardiser, reference = self._fitted()
        return {
            "standardiser": standardiser.state(),
            "frame_rate": reference.frame_rate,
            "layout": reference.layout,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes a checkpoint's statistics in place of those of the files.

        Raises:
            DataError: The files already read have other features than the checkpoint's.
        """
        standardiser = Standardiser.from_state(state_dict["standardiser"])
        reference = Recording(
            {}, standardiser.names, state_dict["frame_rate"], state_dict["layout"]
        )
        difference = self.mismatch(self._reference, reference) if self._reference else None
        if difference:
            raise DataError(
                f"{self._root()}: the checkpoint does not fit these data: {difference}: give"
                " the data it was trained on, or train anew"
            )
        self._standardiser, self._reference = standardiser, reference
        self._sequences.clear()

    @staticmethod
    def from_checkpoint(checkpoint: dict[str, Any]) -> "FrameDataModule":
        """The data module that a loaded checkpoint was trained with, without its files.

        Args:
            checkpoint: What ``torch.load`` returns for a checkpoint that Lightning saved.

        Raises:
            DataError: The checkpoint was saved without a data module of this kind.
        """
        kinds: list[Any] = [FrameDataModule]
        for kind in kinds:  # grows while it is walked: all subclasses imported by now
            kinds += kind.__subclasses__()
        for kind in reversed(kinds):
            if kind.__qualname__ in checkpoint:
                arguments = checkpoint.get(kind.CHECKPOINT_HYPER_PARAMS_KEY, {})
                module = kind(**{k: v for k, v in arguments.items() if not k.startswith("_")})
                module.load_state_dict(checkpoint[kind.__qualname__])
                return module
        raise DataError("the checkpoint holds no data module: use one saved by a run with data")

    def describe(self) -> dict[str, Any]:
        """A card of the data in plain types: where from, how much, what was left out."""
        self.setup()
        root = Path(self._root())
        card: dict[str, Any] = {
            "root": str(root),
            "n_files": self._n_files,
            "frame_rate": self.frame_rate,
            "n_features": self.n_features,
            "features": self.feature_names,
            "dropped": self.dropped,
            "frames": {part: sum(len(x) for _, x in self._raw[part]) for part in self._raw},
            "sequences": {part: len(self._raw[part]) for part in self._raw},
        }
        source = root / "SOURCE.md"
        return card | ({"source": source.read_text(encoding="utf-8")} if source.is_file() else {})

    # Batches

    def _loader(self, split: Split, batch_size: int) -> FrameLoader:
        sequences = [sequence.frames for sequence in self.sequences(split)]
        train = split == "train"
        spans = [
            (i, start, stop)
            for i, frames in enumerate(sequences)
            for start, stop in (
                cut(len(frames), self.window, self.stride) if train else [(0, len(frames))]
            )
        ]
        world_size, rank = 1, 0
        if self.trainer is not None:
            world_size, rank = self.trainer.world_size, self.trainer.global_rank
        return FrameLoader(
            Spans(sequences, spans, warmup=0 if train else self.warmup),
            batch_size=batch_size,
            sampler=Deal(len(spans), world_size, rank, self.seed if train else None),
            collate_fn=Collate(self.window if train else None),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # leaves the global one alone
        )

    def train_dataloader(self) -> FrameLoader:
        """Windows, shuffled by seed and epoch."""
        return self._loader("train", self.batch_size)

    def val_dataloader(self) -> FrameLoader:
        """Whole validation sequences."""
        return self._loader("val", self.batch_size)

    def test_dataloader(self) -> FrameLoader:
        """Whole test sequences."""
        return self._loader("test", self.batch_size)

    def predict_dataloader(self) -> FrameLoader:
        """Whole test sequences, one at a time, in the order of ``sequences("test")``."""
        return self._loader("test", 1)

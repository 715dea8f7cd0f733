"""Turn files into frames and batches, and back: the data module that all kinds of data share.

files -> frame store -> splits -> standardised by training statistics -> windows -> padded batches,
and standardised frames -> files that can be played. A kind of data adds how its files are read and
written.

Conventions:
    A sequence is ``(T, D)``, time first. Raw features are in their own units, standardised ones
    float32. Splits are ``"train"``, ``"val"`` and ``"test"``. Batches are as in `batches`. Frames
    stay on disk (see `store`) until a batch or a caller asks for them.
"""

import inspect
import tempfile
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.asked import Asked
from rnade_lightning.datamodules.core.batches import FrameLoader, check_windows, make_loader
from rnade_lightning.datamodules.core.beside import Beside, columns_of
from rnade_lightning.datamodules.core.corpus import Parts
from rnade_lightning.datamodules.core.fingerprint import check_same, fingerprints
from rnade_lightning.datamodules.core.given import Given
from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.core.sequences import FrameSequence, Sequences, Split
from rnade_lightning.datamodules.core.standardise import RANK_TOLERANCE, Standardiser
from rnade_lightning.datamodules.core.with_context import WithContext

__all__ = ["FrameDataModule", "FrameSequence", "Recording", "Split"]


class FrameDataModule(LightningDataModule, WithContext, Asked):
    """Sequences of frames from files, in splits, windows and batches, and back to files.

    Args:
        root: Folder, file or glob to read, also in object storage (``s3://`` and the like). Without
            it, the data shipped with the package.
        window: Length of a training window, in frames.
        stride: Frames from one training window to the next; half a window if not given.
        batch_size: Windows (in evaluation: sequences) in a batch, on each device.
        split: How test and validation data are set apart. "tail" takes the end of every sequence
            (first part trains, then validation, then test); "file" takes whole files at random.
        val_fraction: Share of the data for validation.
        test_fraction: Share of the data for the test.
        warmup: Frames at the start of each evaluated sequence that are not scored.
        num_workers: Processes that prepare batches; 0 prepares them in the training process.
        seed: Seed of the order of training windows and of the choice of files.
        rank_tolerance: A feature is left out if the features before it explain all but this share
            of its standard deviation.
        standardise: Scale features to mean 0 and deviation 1 on the training part; false leaves the
            units as they are.
        stateful: Each row of a batch continues the same row of the batch before, so that the
            model's state is carried through whole sequences. Windows then do not overlap.
        group: Regular expression. Files in whose names it finds the same text (its first bracket,
            or all of it) stay in one split.
        parts: Names or patterns of the files for ``val`` and ``test``, below root and without
            ending; all other files train. Without it, the seed chooses.
        on_error: What to do about files that cannot be used: refuse them all, or leave them out.
        cache_dir: Folder that keeps the frames read; the user's cache folder if not given.
        max_bytes: Bytes of memory that one file may take while it is read. Without it, 100 times
            the file's size, and of small files 1,000 times up to 64 MiB.
        labels: Labels that the model is given: named groups of a regular expression on a file's
            path, "parent" for the name of its folder, or a .csv of labels by ``file``.
        control: Features, by name or pattern, that the model is given.
        control_files: Second file (.csv) whose signals the model is given: ``../f/{name}.csv``.
        control_window: Frames before and after a frame that are given as well.
        only: Regular expression; files in whose paths it finds nothing are left out.
        ignore: Features, by name or pattern, that are no part of log p; written at their means.
    """

    def __init__(
        self,
        root: str | None = None,
        window: int = 64,
        stride: int | None = None,
        batch_size: int = 8,
        split: Literal["tail", "file"] = "tail",
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        warmup: int = 3,
        num_workers: int = 0,
        seed: int = 0,
        rank_tolerance: float = RANK_TOLERANCE,
        standardise: bool = True,
        stateful: bool = False,
        group: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        cache_dir: str | None = None,
        parts: dict[str, list[str]] | None = None,
        max_bytes: int | None = None,
        labels: str | None = None,
        control: list[str] | None = None,
        control_files: str | None = None,
        control_window: list[int] | None = None,
        only: str | None = None,
        ignore: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.root, self.seed = root, seed
        stride = stride or (window if stateful else max(window // 2, 1))
        self.window, self.stride, self.warmup = window, stride, warmup
        self.batch_size, self.num_workers = batch_size, num_workers
        self.split, self.val_fraction, self.test_fraction = split, val_fraction, test_fraction
        self.rank_tolerance, self.rescale = rank_tolerance, standardise
        self.stateful, self.group, self.on_error = stateful, group, on_error
        self.ignore = ignore or []
        self.cache_dir, self.max_bytes, self.parts, self.only = cache_dir, max_bytes, parts, only
        if parts is not None:
            self.split = "file"
            self._check_parts(parts)
        check_windows(window, self.stride, batch_size, warmup, stateful)
        if num_workers < 0 or (max_bytes is not None and max_bytes < 1):
            raise DataError("num_workers must be 0 or more, max_bytes 1 or more or left out")
        if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
            raise DataError("val_fraction and test_fraction must be 0 or more and sum to below 1")
        self._check_patterns(group, only)
        self._reference: Recording | None = None  # without frames
        self._standardiser: Standardiser | None = None
        self._raw: Parts = {}
        self._parts_known: dict[str, str] = {}  # of the files of a checkpoint
        self._left_out: dict[str, str] = {}
        self._n_files = 0
        self._paths: dict[str, Path] = {}
        self._file_names: dict[Path, str] = {}
        how = labels, control, control_files, control_window, self.extensions
        self._beside, self._given = Beside(*how, root or self.shipped), None

    @abstractmethod
    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Write raw frames ``(T, D_raw)`` as files that a person can play; return their paths."""

    # Files to sequences

    def settings(self) -> dict[str, Any] | None:
        kind = type(self)
        version = vars(kind).get("reader_version")  # an inherited one is not its own
        if version is None:
            return None
        others = {*inspect.signature(FrameDataModule.__init__).parameters, *self.reads_without}
        own = {k: v for k, v in self.hparams.items() if k not in others and k[0] != "_"}
        name = f"{kind.__module__}.{kind.__qualname__}"
        return {"class": name, "version": version, "arguments": own}

    def prepare_data(self) -> None:
        """Read all files into the frame store; Lightning calls it once on every machine."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read all files, split them, and fit statistics unless a checkpoint gave them."""
        if self._raw:
            return
        parts, reference, store = self.collect(self._reference)
        if self._standardiser is None and self.log_mass:
            self._standardiser = Standardiser.identity(reference.feature_names)
        elif self._standardiser is None:
            statistics = store.moments([frames for _, frames in parts["train"]])
            known = [frames for part in ("train", "val") for _, frames in parts[part]]
            how = self.rank_tolerance, self.rescale, known, self.rounding(reference)
            names, control = reference.feature_names, self._beside.control
            apart = columns_of(names, control), columns_of(names, self.ignore, "ignore")
            standardiser = Standardiser.of(statistics, names, *how, *apart)
            if not standardiser.modelled:
                raise DataError(f"{self._root()}: every feature is constant: nothing to model")
            if standardiser.dropped:
                rank_zero_info(standardiser.report())
            self._standardiser = standardiser
        self._raw, self._reference = self.all_known(parts, reference), reference

    # Standardised frames and back

    def _fitted(self) -> tuple[Standardiser, Recording]:
        if self._standardiser is None:
            self.setup()
        assert self._standardiser is not None
        assert self._reference is not None
        return self._standardiser, self._reference

    @property
    def n_features(self) -> int:
        """Return D, the number of features of a frame; read the files if that was not done."""
        return len(self._fitted()[0].modelled)

    @property
    def feature_names(self) -> list[str]:
        """Return the names of the features kept."""
        standardiser = self._fitted()[0]
        return [standardiser.names[i] for i in standardiser.modelled]

    @property
    def frame_rate(self) -> float:
        """Return the frames per second."""
        return self._fitted()[1].frame_rate

    @property
    def layout(self) -> dict[str, Any]:
        """Return what is needed to write frames back, in plain types."""
        return self._fitted()[1].layout

    @property
    def dropped(self) -> dict[str, str]:
        """Return the reason why each left-out feature is not modelled, by name."""
        return self._fitted()[0].dropped

    @property
    def log_scale(self) -> float:
        """Return log p of standardised frames less log p in the features' own units."""
        return self._fitted()[0].log_scale

    def standardise(self, raw: npt.ArrayLike) -> torch.Tensor:
        """Turn raw frames ``(..., D_raw)`` into standardised ones ``(..., D)``, float32."""
        return self._fitted()[0].forward(raw)

    def destandardise(
        self, frames: torch.Tensor | npt.ArrayLike, context: torch.Tensor | None = None
    ) -> Array:
        """Turn standardised ``(..., D)`` into raw ``(..., D_raw)`` frames, float64, all features;
        given ones from the context ``(T, C)``, which may stand behind frames, ``(T, D + C)``."""
        standardiser = self._fitted()[0]
        D, n = len(standardiser.modelled), standardiser.n_given
        whole = torch.as_tensor(frames)
        if self._given is not None and context is None and whole.shape[-1] > D:
            whole, context = whole[..., :D], whole[..., D:]
        if not n:
            return standardiser.backward(whole)
        if self._given is None or context is None:
            raise DataError(f"{n} features are given, not modelled: give their context as well")
        return standardiser.backward(whole, self._given.control_of(context)[:, :n])

    def sequences(self, split: Split) -> Sequences:
        """Return the standardised sequences of a split; each is read when it is asked for."""
        self.setup()
        return Sequences(self._raw[split], self._fitted()[0], self.contexts)

    def rounding(self, reference: Recording) -> float | list[float]:
        """Return how far rounding in files moves features, all or each; 0 where digits tell."""
        return 0.0

    @property
    def units(self) -> str:
        """Return the units of the frames that a model sees, in words."""
        return "standardised units" if self.rescale else "the data's units"

    # Files that are not of the corpus

    def score_inputs(self, path: str | Path) -> list[FrameSequence]:
        """Return the sequences of any files, whole and standardised as here, to score or continue.

        Raises:
            DataError: No such file, or its features are not those this module knows.
        """
        how, reference = self._fitted()
        pairs = (self.one_known(*one, reference) for one in self._inputs(path, reference))
        found = (FrameSequence.of(*one, how, self.contexts) for one in pairs)
        return [replace(sequence, raw=None) for sequence in found]  # they take memory

    def score_input(self, path: str | Path) -> FrameSequence:
        """Return the one sequence in a file, with its raw frames; see `score_inputs`."""
        how, reference = self._fitted()
        found = list(self._inputs(path, reference))
        if len(found) > 1:
            raise DataError(f"{path}: holds {len(found)} sequences: give a file that holds one")
        return FrameSequence.of(*self.one_known(*found[0], reference), how, self.contexts)

    def render(
        self,
        frames: torch.Tensor | npt.ArrayLike,
        stem: str | Path,
        given: Array | None = None,
        context: torch.Tensor | None = None,
    ) -> list[Path]:
        """Write standardised frames ``(T, D)`` as files that a person can play.

        Args:
            frames: Frames, as a model sees them.
            stem: Path of the files, without their endings.
            given: Raw frames ``(n, D_raw)`` that the first n were made of, to write as they are.
            context: What the model was given of them, ``(T, C)``.

        Returns:
            Paths of the files written.
        """
        raw, stem = self.destandardise(frames, context), Path(stem)
        if given is not None:
            raw[: len(given)] = np.asarray(given)[:, : raw.shape[1]]
        if raw.ndim != 2 or not len(raw) or not np.isfinite(raw).all():
            raise DataError(f"{stem}: frames to write must be (T, D), finite, and one at least")
        stem.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=stem.parent) as folder:
            written = self.write(raw, Path(folder, stem.name))
            for path in written:  # all of them are whole by now
                path.replace(stem.with_name(path.name))
        return [stem.with_name(path.name) for path in written]

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return what scoring and rendering need without the files, in plain types and tensors."""
        standardiser, reference = self._fitted()
        return {
            "standardiser": standardiser.state(),
            "frame_rate": reference.frame_rate,
            "layout": reference.layout,
            "side_names": list(reference.side_names),
            "parts": fingerprints(self._raw) if self._raw else self._parts_known,
            "given": None if self._given is None else self._given.state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a checkpoint's statistics in place of the statistics of the files.

        Raises:
            DataError: The files already read have other features than the checkpoint's, or a run
                that goes on has other data.
        """
        try:
            standardiser = Standardiser.from_state(state_dict["standardiser"])
            rate, layout, known = (state_dict[k] for k in ("frame_rate", "layout", "parts"))
            side_names = list(state_dict.get("side_names", []))  # older checkpoints have none
            reference = Recording({}, standardiser.names, float(rate), layout, side_names)
            given = state_dict.get("given")
            given = None if given is None else Given.from_state(given)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"the statistics are those of another version ({error})") from error
        if self._raw and self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            check_same(self._root(), self._raw, known)
        self._parts_known = known
        difference = self.mismatch(self._reference, reference) if self._reference else None
        if difference:
            raise DataError(
                f"{self._root()}: the checkpoint does not fit these data: {difference}: give"
                " the data it was trained on, or train anew"
            )
        self._standardiser, self._reference = standardiser, reference
        self._given = given

    def describe(self) -> dict[str, Any]:
        """Return a card of the data in plain types: its source, its size, and what was left out."""
        self.setup()
        root = self._root()
        card: dict[str, Any] = {
            "root": str(root),
            "n_files": self._n_files,
            "left_out": self._left_out,
            "frame_rate": self.frame_rate,
            "n_features": self.n_features,
            "features": self.feature_names,
            "dropped": self.dropped,
            "frames": {part: sum(len(x) for _, x in self._raw[part]) for part in self._raw},
            "sequences": {part: len(self._raw[part]) for part in self._raw},
            "caveats": self.caveats,
        }
        if self._given is not None:
            card["given"] = {"control": self._given.names, "labels": self._given.classes}
        if self.context_by_feature:
            card["side"] = list(self._fitted()[1].side_names)
        source = Path(root) / "SOURCE.md"
        return card | ({"source": source.read_text(encoding="utf-8")} if source.is_file() else {})

    # Batches

    def _loader(self, split: Split, batch_size: int, stateful: bool, train: bool) -> FrameLoader:
        self.setup()
        frames = [frames for _, frames in self._raw[split]]
        run = self.trainer
        ranks = (1, 0) if run is None else (run.world_size, run.global_rank)
        return make_loader(
            frames, self._fitted()[0], (self.window, self.stride), batch_size, given=self.contexts,
            stateful=stateful, train=train, warmup=self.warmup, seed=self.seed, ranks=ranks,
            num_workers=self.num_workers,
        )  # fmt: skip

    def train_dataloader(self) -> FrameLoader:
        """Return windows, shuffled by seed and epoch; if stateful, whole sequences in windows."""
        return self._loader("train", self.batch_size, self.stateful, True)

    def val_dataloader(self) -> FrameLoader:
        """Return whole validation sequences, long ones first; if stateful, in windows."""
        return self._loader("val", self.batch_size, self.stateful, False)

    def test_dataloader(self) -> FrameLoader:
        """Return whole test sequences, long ones first; if stateful, in windows."""
        return self._loader("test", self.batch_size, self.stateful, False)

    def predict_dataloader(self) -> FrameLoader:
        """Return whole test sequences, one at a time, in the order of ``sequences("test")``."""
        return self._loader("test", 1, False, False)

"""Turn sound files into frames of samples, mel bands or cepstra, and back into files to play.

Conventions:
    Samples have full scale 1. What a frame is, before it is standardised, is a class of `kinds`:

    - ``waveform``: ``frame_length`` samples in a row, ``(T, frame_length)``.
    - ``residual``: each sample minus its prediction by an adaptive linear predictor; see
      `predictor`.
    - ``innovation``: the residual over a scale that follows it; see `gain`.
    - ``experts``: integers relative to what experts predict; see `front_end`.
    - ``excitation``: samples over the spectrum of a mel that is given; see `envelope`.
    - ``log_mel``: natural logarithm of mel power, ``(T, n_mels)``; see `spectra`.
    - ``level_mel``: their level and the bands about it; see `level_mel`.
    - ``mfcc``: the orthonormal DCT of log mel power, ``(T, n_mfcc)``.

    How samples are made ready for frames stands in `preparation`.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from rnade_lightning.datamodules import DataError, Recording
from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.files import with_ending
from rnade_lightning.datamodules.core.spool import gathered
from rnade_lightning.datamodules.sound.code_length import CodedDataModule
from rnade_lightning.datamodules.sound.corpora import (
    PATTERNS,
    Entry,
    doubles,
    download,
    is_manifest,
    path_below,
    read_manifest,
    splits_of,
)
from rnade_lightning.datamodules.sound.options import check_options, make_kind
from rnade_lightning.datamodules.sound.playback import (
    write_integers,
    write_picture,
    write_sound,
)
from rnade_lightning.datamodules.sound.preparation import Preparation, at_least, sound_card
from rnade_lightning.datamodules.sound.soundfiles import EXTENSIONS, SoundFile

_FLOAT32_STEP = 2.0**-15
"""Smallest step of integer samples for which float32 is fine enough."""


class AudioDataModule(CodedDataModule):
    """Sound from every kind of file that libsndfile reads (WAV, FLAC, OGG, MP3, ...).

    Args:
        root: Folder, file or glob to read, or a manifest (.csv or .parquet with the column path and
            the optional columns split and group). Without it, speech-like sound is generated.
        kind: Kind of frame: waveform, residual, innovation, experts, log_mel, level_mel or mfcc,
            or the path of a class of your own, such as my_package.MyKind.
        sample_rate: Samples per second to resample to. Without it, all files must have one rate.
        channel: Channel to read: "left", "right", its number from 0, or "mix" for the mean of all.
        normalise: Bring every file to one level: "peak" to full scale, "rms" to -20 dB.
        trim_db: Cut silence at both ends; silence is this many dB below the loudest part.
        frame_length: Samples of a frame of samples, residuals or innovations.
        predictor_order: Samples from which a linear predictor predicts the next.
        forgetting: Forgetting factor of the predictor, between 0 and 1: the weight of a sample
            relative to the next one.
        bit_depth: Bits of the step that dequantising noise spans. It is needed for files of
            different bit depths; bits per sample are then not known. Without it, the noise spans
            a step of the file's integers, or of 16 bits where a file stores no integers. For a kind
            of integers, samples are rounded to that depth, and these integers are modelled.
        n_fft: Length of the Fourier transform, in samples.
        win_length: Length of the window, in samples. Without it, n_fft.
        hop_length: Samples from one spectral frame to the next.
        n_mels: Number of mel bands.
        n_mfcc: Number of cepstral coefficients.
        f_min: Lowest frequency of the mel bands, in Hz.
        f_max: Highest frequency of the mel bands, in Hz. Without it, half the sample rate.
        deltas: Append slopes of spectral frames, taken over five frames. Frames then depend on the
            two frames after them.
        dataset: Public data set to download with torchaudio into root ("data" if not given):
            CMUARCTIC, LIBRITTS, LJSPEECH, SPEECHCOMMANDS, VCTK_092 or YESNO.
        split: How validation and test data are set apart. "file" takes whole files at random, or
            whole groups of them where group or a manifest names groups. "tail" takes the end of
            every file.
        group: Regular expression. Files in whose names it finds the same text (its first bracket,
            or all of it) stay in one split. It implies split file.
        outside: Let a manifest name files outside of its folder.
        **kwargs: See `FrameDataModule`.
    """

    extensions = EXTENSIONS
    reader_version: ClassVar[int | None] = 3
    reads_without = ("outside",)

    def __init__(
        self,
        root: str | None = None,
        kind: str = "waveform",
        sample_rate: int | None = None,
        channel: Literal["mix", "left", "right"] | int = "mix",
        normalise: Literal["peak", "rms"] | None = None,
        trim_db: float | None = None,
        frame_length: int = 200,
        predictor_order: int = 24,
        forgetting: float = 0.994,
        bit_depth: int | None = None,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int = 256,
        n_mels: int = 80,
        n_mfcc: int = 20,
        f_min: float = 0.0,
        f_max: float | None = None,
        deltas: bool = False,
        dataset: str | None = None,
        split: Literal["tail", "file"] = "file",
        group: str | None = None,
        outside: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, split="file" if group else split, group=group, **kwargs)
        self.kind, self.dataset, self.outside = kind, dataset, outside
        check_options(self.hparams)
        self._kind = make_kind(kind, self.hparams)
        self._beside.control = [*self._kind.given_names, *self._beside.control]
        how = sample_rate, channel, normalise, trim_db, bit_depth, self._kind.of_integers
        self._prepare = Preparation(*how).prepare
        self.rescale = self.rescale and not self._kind.of_integers
        if self._kind.from_start and self.split == "tail":
            raise DataError(f"kind {kind} is turned back from a file's start on: set split to file")
        self.rank_tolerance = min(self.rank_tolerance, self._kind.rank_tolerance)
        self._downloads = Path(root or "data").expanduser()
        if dataset is not None:
            self.root = str(self._downloads / PATTERNS[dataset])
        self._manifest: list[Entry] | None = None  # once it is read
        self._groups: dict[Path, str] = {}

    def settings(self) -> dict[str, Any] | None:
        shared, version = super().settings(), vars(type(self._kind)).get("reader_version")
        if shared is None or version is None:
            return None
        return shared | {"kind_version": version}

    # Files, and the split of each

    def setup(self, stage: str | None = None) -> None:
        """Download or generate files that are not there yet; then read, split and standardise."""
        if self.dataset is not None:
            download(self.dataset, self._downloads)
        elif self.root is None:
            from rnade_lightning.datamodules.sound.speechlike import write_speechlike  # numba

            try:
                write_speechlike(Path(self._root()))
            except OSError as error:
                raise DataError(f"{self._root()}: cannot be written ({error}): give root") from None
        if self._raw:
            return
        to_fit = self._standardiser is None
        super().setup(stage)
        for caveat in self.of_narrow_noise():
            rank_zero_warn(f"{self._root()}: {caveat}")
        assert self._reference is not None
        common = {k: v for k, v in self._reference.layout.items() if k != "file"}
        self._reference = self._reference._replace(layout=common)
        if doubled := self.doubled():
            rank_zero_warn(
                f"{self._root()}: {' and '.join(doubled[0][:3])} hold the same sound and are in"
                f" several parts ({len(doubled)} such sets): a likelihood of the test part is then"
                " not one of unseen sound: remove doubles, or keep them in one part by group"
            )
        n_samples = self._kind.samples_per_frame
        n_frames = sum(len(frames) for _, frames in self._raw["train"])
        if self._kind.invertible and not self.log_mass and to_fit and n_frames <= n_samples:
            raise DataError(
                f"{self._root()}: {n_frames} frames to train on, of {n_samples} samples each: too"
                " little sound: add files or lower frame_length"
            )

    def doubled(self) -> list[list[str]]:
        """Return the names of files that hold the same samples and are in different parts."""
        part_of = {name: part for part, found in self._raw.items() for name, _ in found}
        contents = {
            self._name(path): layout["file"]["content"] for path, layout in self._layouts.items()
        }
        return doubles(part_of, contents)

    def describe(self) -> dict[str, Any]:
        """Return the card of the data, with what the files hold as sound."""
        card = super().describe()
        held = [layout["file"] for layout in self._layouts.values()]
        sound = {"kind": self.kind, "channel": self.hparams["channel"]} | sound_card(held)
        return card | {"sound": sound, "doubled": self.doubled()}

    def group_of(self, path: Path) -> str:
        """Return the group of a file; all files of a group are in one split."""
        if self.group is not None:
            return super().group_of(path)
        if not self._groups:
            self._groups = {entry.path: entry.group for entry in self._entries()}
        return self._groups.get(path) or str(path)  # a file without a group stands for itself

    def _root(self) -> str | Path:
        generated = self.root is None and self._cache() / "speechlike-1"
        return generated or super()._root()

    def _files(self) -> list[Path]:
        return [entry.path for entry in self._entries()] or super()._files()

    def _parts(self, files: list[Path]) -> list[str] | None:
        entries = self._entries()
        if not entries or not entries[0].split:
            return super()._parts(files)
        fractions = {"train": 1.0, "val": self.val_fraction, "test": self.test_fraction}
        return splits_of(entries, fractions)

    def _entries(self) -> list[Entry]:
        if self._manifest is None:
            root = self._root()
            manifest = is_manifest(root)
            self._manifest = read_manifest(root, self.outside, self._cache()) if manifest else []
        return self._manifest

    # A file to frames

    def read(self, path: Path) -> Recording:
        """Read a sound file as frames."""
        signal, kind = self._prepare(SoundFile(path), self.name_read(path)), self._kind
        exact = kind.of_integers or signal.step >= _FLOAT32_STEP  # in float32
        narrow = not kind.invertible or exact
        try:
            made = kind.pieces(at_least(kind.min_samples, signal.samples), signal.rate)
            frames: Any = gathered(x.astype(np.float32 if narrow else np.float64) for x in made)
        except DataError as error:
            told = str(error)
            raise error if told.startswith(str(path)) else DataError(f"{path}: {told}") from None
        bits = signal.bits if kind.invertible or kind.of_integers else None
        layout = {"sample_rate": signal.rate, "bits": bits, "file": signal.facts()}
        frame_rate = signal.rate / kind.samples_per_frame
        return Recording({"": frames}, kind.feature_names, frame_rate, layout, kind.side_names)

    def name_read(self, path: Path) -> str:
        """Return the path of a file below the root, of which the noise of dequantising is a
        function; of a file elsewhere its name."""
        return path_below(self._root(), path)

    def mismatch(self, recording: Recording, reference: Recording) -> str | None:
        """Return how a file differs from the others in sample rate, integers or features, if so."""
        ours, theirs = recording.layout, reference.layout
        if ours["sample_rate"] != theirs["sample_rate"]:
            return (
                f"it has {ours['sample_rate']} samples a second, not {theirs['sample_rate']}"
                " (set sample_rate to bring all to one)"
            )
        if ours["bits"] != theirs["bits"]:
            has, wants = (x["bits"] or "not known" for x in (ours, theirs))
            return (
                f"the bits of an integer sample are {has} here and {wants} there"
                f" ({self._alike(ours, theirs)})"
            )
        return super().mismatch(recording, reference)

    def _alike(self, ours: dict[str, Any], theirs: dict[str, Any]) -> str:
        """Return what makes the bits of a file those of the others, by the layouts of both."""
        channels = [layout.get("file", {}).get("channels", 1) for layout in (ours, theirs)]
        mixed = self.hparams["channel"] == "mix" and max(channels) > 1
        mixed = mixed and None in (ours["bits"], theirs["bits"])
        if self._standardiser is not None:  # a model knows integers of one depth
            into = f"{theirs['bits']} bits" if theirs["bits"] else "floating point"
            return f"convert the file to {'one channel of ' * mixed}{into}"
        if mixed:
            return "set channel to left or right: the mean of channels is of no integers"
        return f"set bit_depth to {'round' if self.log_mass else 'dequantise'} all alike"

    # Frames to a file

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Write ``.wav`` (16-bit, or integers as they are) and ``.png`` with waveform and
        spectrogram."""
        rate, bits = self.layout["sample_rate"], self.layout["bits"]
        samples = self.to_samples(raw)
        # The last suffix is added, not replaced: a stem such as "epoch.3" keeps its dot.
        wav, png = (with_ending(stem, ending) for ending in ("wav", "png"))
        if self.log_mass:
            written = write_integers(wav, samples, rate, bits)
        else:
            written = write_sound(wav, samples, rate, bits)
        write_picture(png, written, rate, self._kind.beside(written, raw, rate))
        return [wav, png]

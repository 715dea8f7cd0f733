"""Sound: files to frames of samples, mel bands or cepstra, and back to files that can be played.

Conventions:
    Samples have full scale 1. What a frame is, before it is standardised, is a class of `kinds`:

    - ``waveform``: ``frame_length`` samples in a row, ``(T, frame_length)``.
    - ``residual``: what an adaptive linear predictor leaves of each sample; see `predictor`.
    - ``innovation``: the residual over a scale that follows it; see `gain`.
    - ``log_mel``: natural logarithm of mel power, ``(T, n_mels)``; see `spectra`.
    - ``mfcc``: its orthonormal DCT, ``(T, n_mfcc)``.

    How samples are made ready for frames stands in `preparation`.
"""

from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, ClassVar, Literal

import librosa
import numpy as np
import soundfile
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pytorch_lightning.utilities import rank_zero_warn

from rnade_lightning.class_paths import find
from rnade_lightning.datamodules import DataError, FrameDataModule, FrameSequence, Recording
from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.frames import with_ending
from rnade_lightning.datamodules.sound import kinds
from rnade_lightning.datamodules.sound.corpora import (
    PATTERNS,
    Entry,
    download,
    is_manifest,
    read_manifest,
    splits_of,
)
from rnade_lightning.datamodules.sound.kinds import Kind
from rnade_lightning.datamodules.sound.preparation import GAINS, Preparation
from rnade_lightning.datamodules.sound.soundfiles import EXTENSIONS, SAMPLE_RATES, read_sound
from rnade_lightning.datamodules.sound.speechlike import write_speechlike

_FLOAT32_STEP = 2.0**-15
"""Smallest step of integer samples for which float32 is fine enough."""

_FADE = 0.003  # seconds
_SIZES = (
    "frame_length", "predictor_order", "n_fft", "win_length", "hop_length", "n_mels", "n_mfcc",
)  # fmt: skip


class AudioDataModule(FrameDataModule):
    """Sound from every kind of file that libsndfile reads (WAV, FLAC, OGG, MP3, ...).

    Args:
        root: Folder, file or glob to read, or a manifest (.csv or .parquet with the column path and
            the optional columns split and group). Without it, speech-like sound is generated.
        kind: What a frame is: waveform, residual, innovation, log_mel or mfcc, or the path of a
            class of your own, such as my_package.MyKind.
        sample_rate: Samples per second to resample to. Without it, all files must have one rate.
        channel: Number of the channel to read, from 0, or "mix" for the mean of all channels.
        normalise: Bring every file to one level: "peak" to full scale, "rms" to -20 dB.
        trim_db: Cut silence at both ends; silence is this many dB below the loudest part.
        frame_length: Samples of a waveform, residual or innovation frame.
        predictor_order: Samples from which the linear predictor of residuals predicts the next.
        forgetting: Forgetting factor of the predictor, between 0 and 1: the weight of a sample
            relative to the next one.
        bit_depth: Bits of the step that dequantising noise spans. It is needed for files of
            different bit depths; bits per sample are then not known. Without it, the noise spans
            a step of the file's integers, or of 16 bits where a file stores no integers.
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
    reader_version: ClassVar[int | None] = 1
    reads_without = ("outside",)

    def __init__(
        self,
        root: str | None = None,
        kind: str = "waveform",
        sample_rate: int | None = None,
        channel: Literal["mix"] | int = "mix",
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
        self._prepare = Preparation(sample_rate, channel, normalise, trim_db, bit_depth).prepare
        self._kind = make_kind(kind, self.hparams)
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

    # Which files, and in which split

    def setup(self, stage: str | None = None) -> None:
        """Download or generate files that are not there yet; then read, split and standardise."""
        if self.dataset is not None:
            download(self.dataset, self._downloads)
        elif self.root is None:
            try:
                write_speechlike(Path(self._root()))
            except OSError as error:
                raise DataError(f"{self._root()}: cannot be written ({error}): give root") from None
        super().setup(stage)
        if self._kind.invertible and self.dropped:
            n_samples = self._kind.samples_per_frame
            raise DataError(
                f"{self._root()}: {len(self.dropped)} of the {n_samples} samples of a frame"
                " say nothing that others do not: too little sound, or silent: add files or lower"
                " frame_length"
            )

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
        signal, kind = self._prepare(path, read_sound(path)), self._kind
        if len(signal.samples) < kind.min_samples:
            raise DataError(
                f"{path}: {len(signal.samples)} samples where a frame needs {kind.min_samples}:"
                " remove the file"
            )
        frames: Any = kind.to_frames(signal.samples, signal.rate)
        if not kind.invertible or signal.step >= _FLOAT32_STEP:
            frames = frames.astype(np.float32)
        bits = signal.bits if kind.invertible else None
        layout = {"sample_rate": signal.rate, "bits": bits}
        frame_rate = signal.rate / kind.samples_per_frame
        return Recording({"": frames}, kind.feature_names, frame_rate, layout)

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
                f"the bits of an integer sample are {has} here and {wants} there (set bit_depth to"
                " dequantise all alike)"
            )
        return super().mismatch(recording, reference)

    # Likelihood of integers

    @property
    def bit_depth(self) -> int | None:
        """Bits of the files' integer samples, if frames are those samples and nothing else."""
        whole = self._kind.invertible and self.n_features == self._kind.samples_per_frame
        return self.layout["bits"] if whole else None

    @property
    def noise_scale(self) -> float:
        """Standard deviation, in standardised units, that the noise of one step gives every sample
        of a waveform of integers; 0 for other frames."""
        standardiser, reference = self._fitted()
        bits = reference.layout["bits"]
        if bits is None or not self.rescale:
            return 0.0
        return self._kind.noise_scale(2.0 ** (1 - bits), standardiser.std)

    def bits_per_sample(self, log_prob: float) -> float | None:
        """Return the bits that a sample of the files' integers takes under a model.

        With L samples a frame and b bits, an integer is ``2**(b - 1)`` times the amplitude, so

        ``bits = (-(log_prob - log_scale) / L + (b - 1) ln 2) / ln 2``.

        Args:
            log_prob: Mean log density of a standardised frame, in nats.

        Returns:
            Bits, or None where frames are not the files' integer samples: spectra, lossy or
            floating-point files, and what was resampled, mixed, or changed in level.
        """
        bits = self.bit_depth
        if bits is None:
            return None
        nats = -(log_prob - self.log_scale) / self._kind.samples_per_frame
        return float(nats / np.log(2) + bits - 1)

    def references(
        self, known: Sequence[FrameSequence], test: Sequence[FrameSequence]
    ) -> dict[str, list[torch.Tensor]]:
        """Return what a model of this kind of frames has to beat; see `Kind.references`."""
        raw = ((self.destandardise(x.frames) for x in part) for part in (known, test))
        return {
            name: [torch.from_numpy(x) + self.log_scale for x in log_p]
            for name, log_p in self._kind.references(*raw).items()
        }

    # Frames to a file

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Write ``.wav`` (16-bit) and ``.png`` with waveform and spectrogram."""
        rate = self.layout["sample_rate"]
        samples = self._kind.to_samples(raw, rate)
        # The last suffix is added, not replaced: a stem such as "epoch.3" keeps its dot.
        wav, png = (with_ending(stem, ending) for ending in ("wav", "png"))
        write_picture(png, write_sound(wav, samples, rate), rate)
        return [wav, png]


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of `AudioDataModule` that cannot be met, whatever the files and the kind."""
    for name in _SIZES:
        if options[name] is not None and options[name] < 1:
            raise DataError(f"{name} must be 1 or more")
    n_fft, hop_length, channel = (options[k] for k in ("n_fft", "hop_length", "channel"))
    win_length = options["win_length"] or n_fft
    sample_rate, bit_depth = options["sample_rate"], options["bit_depth"]
    trim_db, dataset = options["trim_db"], options["dataset"]
    least, most = SAMPLE_RATES
    if not 0 < options["forgetting"] < 1:
        raise DataError("forgetting must be between 0 and 1")
    if sample_rate is not None and not least <= sample_rate <= most:
        raise DataError(f"sample_rate must be between {least} and {most} samples a second")
    if win_length > n_fft or hop_length > win_length:
        raise DataError("win_length must be at most n_fft, and hop_length at most win_length")
    if options["n_mfcc"] > options["n_mels"]:
        raise DataError(
            f"n_mfcc {options['n_mfcc']} is more than n_mels {options['n_mels']}: lower it"
        )
    if channel != "mix" and not (isinstance(channel, int) and channel >= 0):
        raise DataError("channel must be mix, or a number from 0")
    if options["normalise"] not in (None, *GAINS):
        raise DataError(f"normalise must be {' or '.join(GAINS)}, or left out")
    if bit_depth is not None and not 2 <= bit_depth <= 24:
        raise DataError("bit_depth must be between 2 and 24")
    if trim_db is not None and not trim_db > 0:
        raise DataError("trim_db must be above 0")
    if dataset is not None and dataset not in PATTERNS:
        raise DataError(f"dataset {dataset} is none of {', '.join(sorted(PATTERNS))}")


def make_kind(name: str, options: Mapping[str, Any]) -> Kind:
    """Return a kind of frames with those options that its class takes.

    Args:
        name: short name (a file of the package `kinds`), or path of a class.
        options: options of the data module by name.

    Raises:
        DataError: there is no such kind (the message lists the short names), it is not complete, or
            it takes an option that does not exist.
    """
    try:
        kind = find(name, Kind, kinds.__name__)  # type: ignore[type-abstract]
    except ValueError as error:
        raise DataError(str(error)) from None
    if lacking := sorted(kind.__abstractmethods__):
        raise DataError(f"kind {name} does not define {lacking[0]}, which every kind needs")
    defaults = {p.name: p.default for p in signature(kind).parameters.values()}
    taken = {option: options.get(option, default) for option, default in defaults.items()}
    if unknown := [option for option, value in taken.items() if value is Parameter.empty]:
        raise DataError(f"kind {name} takes {unknown[0]}, which is no option: give it a default")
    return kind(**taken)


def write_sound(path: Path, samples: Array, rate: int) -> Array:
    """Write 16-bit PCM with faded edges; make quieter what would clip, and warn of it.

    Args:
        path: WAV file to write.
        samples: ``(N,)``, full scale 1.
        rate: samples per second.

    Returns:
        The samples written, ``(N,)``.
    """
    faded, n = samples.copy(), min(round(_FADE * rate), len(samples) // 2)
    ramp = np.sin(0.5 * np.pi * (np.arange(n) + 0.5) / max(n, 1)) ** 2
    faded[:n] *= ramp
    faded[len(faded) - n :] *= ramp[::-1]
    peak, full = float(np.abs(faded).max()), 1 - 2.0**-15
    if peak > full:
        faded *= full / peak
    if peak > 1.01:  # less is not heard
        rank_zero_warn(f"{path.name}: {20 * np.log10(peak):.1f} dB quieter, so as not to clip")
    pcm = np.round(faded * 2.0**15).astype(np.int16)
    soundfile.write(path, pcm, rate, subtype="PCM_16", format="WAV")
    return faded


def write_picture(path: Path, samples: Array, rate: int) -> None:
    """Draw the waveform above its spectrogram (80 dB)."""
    figure = Figure(figsize=(10, 5), dpi=100, layout="constrained")
    wave, spectrum = figure.subplots(2, 1, sharex=True)
    seconds = len(samples) / rate
    step = max(len(samples) // 2000, 1)  # of the envelope: lowest and highest sample of each step
    blocks = samples[: len(samples) // step * step].reshape(-1, step)
    t = np.arange(len(blocks)) * step / rate
    wave.fill_between(t, blocks.min(1), blocks.max(1), color="#1f77b4", linewidth=0.8)
    wave.set(ylabel="amplitude", xlim=(0, seconds))
    n_fft = 1 << max(round(np.log2(0.032 * rate)), 5)
    padded = np.pad(samples, (0, max(n_fft - len(samples), 0)))
    hop = max(n_fft // 4, len(padded) // 1500)
    magnitude = np.abs(librosa.stft(padded, n_fft=n_fft, hop_length=hop, center=True))
    level = librosa.amplitude_to_db(magnitude, ref=max(float(magnitude.max()), 1e-9), top_db=80)
    image = spectrum.imshow(
        level,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, rate / 2000),
        vmin=-80,
        vmax=0,
        cmap="magma",
    )
    spectrum.set(xlabel="time (seconds)", ylabel="frequency (kHz)")
    figure.colorbar(image, ax=spectrum, label="dB")
    FigureCanvasAgg(figure).print_png(path)

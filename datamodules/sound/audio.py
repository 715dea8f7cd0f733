"""Sound: files to frames of samples, mel bands or cepstra, and back to files that can be played.

Conventions:
    Samples have full scale 1. ``kind`` says what a frame is, before standardising:

    - ``waveform``: ``frame_length`` samples in a row, ``(T, frame_length)``; what is left over at
      the end of a file is not used.
    - ``residual``: the same of what an adaptive predictor of each sample, from those before it in
      the file, leaves over; see `predictor`. Its density is that of the samples.
    - ``innovation``: that residual over a scale that follows it; see `gain`. A log-Jacobian stands
      beside the samples of a frame, which makes its density that of the samples.
    - ``log_mel``: natural logarithm of mel power, ``(T, n_mels)``; see `spectra`.
    - ``mfcc``: its orthonormal DCT, ``(T, n_mfcc)``.

    An integer sample k of b bits becomes ``(k + u) 2**(1 - b)`` with u uniform on (-1/2, 1/2): a
    density on the integers themselves has no bound. The noise is a function of the file's content.
    The density of such a frame, integrated over the cells of the integers, bounds their probability
    from below on average, so that `AudioDataModule.bits_per_sample` is a code length.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import librosa
import numpy as np
import torch

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.frames import FrameDataModule, FrameSequence
from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.core.standardise import LOG_JACOBIAN
from rnade_lightning.datamodules.sound.corpora import (
    PATTERNS,
    Entry,
    download,
    is_manifest,
    read_manifest,
)
from rnade_lightning.datamodules.sound.gain import AdaptiveStudent, normalise, restore
from rnade_lightning.datamodules.sound.predictor import analyse, synthesise
from rnade_lightning.datamodules.sound.soundfiles import (
    EXTENSIONS,
    Sound,
    read_sound,
    write_picture,
    write_sound,
)
from rnade_lightning.datamodules.sound.spectra import Mel, cepstra, deltas, from_cepstra
from rnade_lightning.datamodules.sound.speechlike import write_speechlike

Kind = Literal["waveform", "residual", "innovation", "log_mel", "mfcc"]

_WAVES = ("waveform", "residual", "innovation")  # as many numbers as samples, the same density
_LEVEL = 0.1  # root mean square after normalise="rms", -20 dB
_DEPTH = 16  # bits whose step the noise spans where a file stores no integers
_RANK_TOLERANCE = 1e-6
"""Of waveforms, at most: their noise keeps any sample of 24 bits or fewer above it, so that none is
taken for a function of those before it."""


class AudioDataModule(FrameDataModule):
    """Sound from every kind of file that libsndfile reads (WAV, FLAC, OGG, MP3, ...).

    Args:
        root: Folder, file or glob to read, or a manifest (.csv or .parquet with the columns path,
            and if wanted split and group). Nothing means speech-like sound, generated on first use.
        kind: What a frame is: "waveform", "residual", "innovation", "log_mel" or "mfcc".
        sample_rate: Samples per second to resample to; if not given, files must agree.
        channel: "mix" for the mean of all channels, or the number of one, from 0.
        normalise: Bring every file to one level: "peak" to full scale, "rms" to -20 dB.
        trim_db: Cut silence at both ends, this many dB below the loudest part.
        frame_length: Samples of a waveform, residual or innovation frame.
        predictor_order: Samples from which the residual's predictor tells the next.
        forgetting: Weight that it gives to a sample in proportion to the next one.
        bit_depth: Bits of the step that is dequantised by noise, for files that differ (no bits per
            sample are told then); if not given, the files' own, 16 where they store no integers.
        n_fft: Length of the Fourier transform, in samples.
        win_length: Length of the window, in samples; n_fft if not given.
        hop_length: Samples from one spectral frame to the next.
        n_mels: Mel bands.
        n_mfcc: Cepstral coefficients.
        f_min: Lowest frequency of the mel bands, in Hz.
        f_max: Highest frequency, in Hz; half the sample rate if not given.
        deltas: Append slopes of spectral frames over five of them; they see two frames ahead.
        dataset: Public set to download with torchaudio into root ("data" if not given): CMUARCTIC,
            LIBRITTS, LJSPEECH, SPEECHCOMMANDS, VCTK_092 or YESNO.
        split: How test and validation data are set apart. "file" takes whole files at random (or
            groups of them, if group or a manifest tells), "tail" takes the end of every file.
        group: Regular expression; files in whose names it finds the same (its first bracket, or all
            of it) stay in one split, which is then by "file".
        **kwargs: See `FrameDataModule`.
    """

    extensions = EXTENSIONS
    reader_version = 1

    def __init__(
        self,
        root: str | None = None,
        kind: Kind = "waveform",
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
        **kwargs: Any,
    ) -> None:
        super().__init__(root, split="file" if group else split, group=group, **kwargs)
        if kind in _WAVES:
            self.rank_tolerance = min(self.rank_tolerance, _RANK_TOLERANCE)
        self.kind, self.sample_rate, self.channel = kind, sample_rate, channel
        self.normalise, self.trim_db = normalise, trim_db
        self.frame_length, self._bit_depth = frame_length, bit_depth
        self.predictor_order, self.forgetting = predictor_order, forgetting
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length or n_fft, hop_length
        self.n_mels, self.n_mfcc, self.f_min, self.f_max = n_mels, n_mfcc, f_min, f_max
        self.deltas, self.dataset = deltas, dataset
        self._check()
        self._downloads = Path(root or "data").expanduser()
        if dataset is not None:
            self.root = str(self._downloads / PATTERNS[dataset])
        elif root is None:
            self.root = str(self._cache() / "speechlike-1")
        self._generates = root is None and dataset is None
        self._listed: list[Entry] | None = None  # of the manifest
        self._mels: dict[int, Mel] = {}

    def _check(self) -> None:
        """Refuses arguments that cannot be met, whatever the files."""
        sizes = (
            "frame_length",
            "predictor_order",
            "n_fft",
            "win_length",
            "hop_length",
            "n_mels",
            "n_mfcc",
        )
        for name in sizes:
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be 1 or more")
        if not 0 < self.forgetting < 1:
            raise DataError("forgetting must be between 0 and 1")
        if self.kind in ("residual", "innovation") and self.split == "tail":
            raise DataError(
                f"{self.kind}s are turned back from a file's start on: set split to file"
            )
        if self.sample_rate is not None and not 1000 <= self.sample_rate <= 768_000:
            raise DataError("sample_rate must be between 1000 and 768000 samples a second")
        if self.win_length > self.n_fft or self.hop_length > self.win_length:
            raise DataError("win_length must be at most n_fft, and hop_length at most win_length")
        if self.n_mfcc > self.n_mels:
            raise DataError(f"n_mfcc {self.n_mfcc} is more than n_mels {self.n_mels}: lower it")
        if isinstance(self.channel, int) and self.channel < 0:
            raise DataError("channel must be mix, or a number from 0")
        if self._bit_depth is not None and not 2 <= self._bit_depth <= 24:
            raise DataError("bit_depth must be between 2 and 24")
        if self.trim_db is not None and not self.trim_db > 0:
            raise DataError("trim_db must be above 0")
        if self.dataset is not None and self.dataset not in PATTERNS:
            raise DataError(f"dataset {self.dataset} is none of {', '.join(sorted(PATTERNS))}")

    # Which files, and in which part

    def setup(self, stage: str | None = None) -> None:
        """Downloads or generates what is not there yet, then does what every kind of data does."""
        if self.dataset is not None:
            download(self.dataset, self._downloads)
        elif self._generates:
            try:
                write_speechlike(Path(self._root()))
            except OSError as error:
                raise DataError(f"{self._root()}: cannot be written ({error}): give root") from None
        super().setup(stage)
        if self.kind in _WAVES and self.dropped:
            raise DataError(
                f"{self._root()}: {len(self.dropped)} of the {self.frame_length} samples of a frame"
                " say nothing that others do not: too little sound, or silent: add files or lower"
                " frame_length"
            )

    def group_of(self, path: Path) -> str:
        """What a file has in common with those that must be in the same split."""
        if self.group is not None:
            return super().group_of(path)
        groups = {entry.path: entry.group for entry in self._entries()}
        return groups.get(path) or str(path)  # a file without a group stands for itself

    def _files(self) -> list[Path]:
        return [entry.path for entry in self._entries()] or super()._files()

    def _parts(self, files: list[Path]) -> list[str] | None:
        entries = self._entries()
        if not entries or not entries[0].split:
            return super()._parts(files)
        parts = [entry.split for entry in entries]
        needed = {"train": 1.0, "val": self.val_fraction, "test": self.test_fraction}
        for part, fraction in needed.items():
            if fraction > 0 and part not in parts:
                raise DataError(f"lists no file of {part}: add some or set {part}_fraction to 0")
        return parts

    def _entries(self) -> list[Entry]:
        if not is_manifest(self._root()):
            return []
        if self._listed is None:
            self._listed = read_manifest(self._root())
        return self._listed

    # A file to frames

    def read(self, path: Path) -> Recording:
        """Reads a sound file as frames."""
        sound = read_sound(path)
        samples, untouched = self._pick(path, sound)
        rate = self.sample_rate or sound.rate
        if self.trim_db is not None:
            samples = librosa.effects.trim(samples, top_db=self.trim_db)[0]
        if rate != sound.rate:
            samples = librosa.resample(samples, orig_sr=sound.rate, target_sr=rate)
            untouched = False
        bits = self._bit_depth or sound.bits or _DEPTH
        samples = samples + 2.0 ** (1 - bits) * _noise(samples)
        if self.normalise is not None:
            samples, untouched = samples * self._gain(path, samples, bits), False
        exact = untouched and self.kind in _WAVES and self._bit_depth is None
        layout = {"sample_rate": rate, "bits": sound.bits if exact else None}
        frames, hop = self._frames(path, samples, rate)
        fine = self.kind in _WAVES and bits > _DEPTH  # float32 would be too coarse for it
        kept: Any = frames if fine else frames.astype(np.float32)
        return Recording({"": kept}, self._names(), rate / hop, layout)

    def mismatch(self, recording: Recording, reference: Recording) -> str | None:
        """Files must agree in sample rate, and waveforms in what is known of their steps."""
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

    def _pick(self, path: Path, sound: Sound) -> tuple[Array, bool]:
        """One channel ``(N,)``, and whether its samples are those of the file."""
        n_channels = sound.samples.shape[1]
        if self.channel == "mix":
            return sound.samples.mean(axis=1), n_channels == 1
        if self.channel >= n_channels:
            raise DataError(f"{path}: no channel {self.channel}: it has {n_channels}, from 0")
        return sound.samples[:, self.channel], True

    def _gain(self, path: Path, samples: Array, bits: int) -> float:
        if np.abs(samples).max() < 2.0 ** (1 - bits):
            raise DataError(f"{path}: nothing but silence, which has no level: remove the file")
        if self.normalise == "peak":
            return float(1 / np.abs(samples).max())
        return float(_LEVEL / np.sqrt(np.mean(np.square(samples))))

    def _frames(self, path: Path, samples: Array, rate: int) -> tuple[Array, int]:
        """Frames ``(T, D_raw)`` and the samples from one to the next."""
        needed = self.frame_length if self.kind in _WAVES else self.n_fft // 2 + 1
        if len(samples) < needed:
            raise DataError(
                f"{path}: {len(samples)} samples where a frame needs {needed}: remove the file"
            )
        if self.kind in _WAVES:
            n = len(samples) // self.frame_length
            samples = samples[: n * self.frame_length]
            if self.kind != "waveform":
                samples = analyse(samples, self.predictor_order, self.forgetting)
            if self.kind == "innovation":
                samples, log_scale = normalise(samples)
                log_jacobian = -log_scale.reshape(n, -1).sum(1)
                frames = np.column_stack([samples.reshape(n, -1), log_jacobian])
                return frames, self.frame_length
            return samples.reshape(n, -1), self.frame_length
        frames = self._mel(rate).log_mel(samples)
        if self.kind == "mfcc":
            frames = cepstra(frames, self.n_mfcc)
        if self.deltas:
            frames = np.concatenate([frames, deltas(frames)], axis=-1)
        return frames, self.hop_length

    def _mel(self, rate: int) -> Mel:
        if rate in self._mels:
            return self._mels[rate]
        f_max = self.f_max if self.f_max is not None else rate / 2
        if not 0 <= self.f_min < f_max <= rate / 2:
            raise DataError(
                f"f_min {self.f_min:g} and f_max {f_max:g} Hz must lie in order between 0 and half"
                f" the sample rate ({rate / 2:g} Hz)"
            )
        sizes = (self.n_fft, self.win_length, self.hop_length, self.n_mels)
        mel = Mel(rate, *sizes, self.f_min, f_max)
        if mel.empty:
            raise DataError(
                f"{len(mel.empty)} of {self.n_mels} mel bands lie between two frequencies of the"
                f" transform: lower n_mels or raise n_fft ({self.n_fft})"
            )
        return self._mels.setdefault(rate, mel)

    def _names(self) -> list[str]:
        if self.kind in _WAVES:
            of = "sample" if self.kind == "waveform" else self.kind
            numbers = [f"{of}_{i}" for i in range(self.frame_length)]
            return numbers + [LOG_JACOBIAN] * (self.kind == "innovation")
        name, n = ("mel", self.n_mels) if self.kind == "log_mel" else ("mfcc", self.n_mfcc)
        names = [f"{name}_{i}" for i in range(n)]
        return names + [f"delta_{name}" for name in names] * self.deltas

    # Likelihood of integers

    @property
    def bit_depth(self) -> int | None:
        """Bits of the files' integer samples, if frames are those samples and nothing else."""
        whole = self.n_features == self.frame_length
        return self.layout["bits"] if whole else None

    @property
    def noise_scale(self) -> float:
        """Of a waveform of integers: noise of one step is in every sample."""
        standardiser, reference = self._fitted()
        bits = reference.layout["bits"]
        if self.kind != "waveform" or bits is None or not self.rescale:
            return 0.0
        return float(2.0 ** (1 - bits) / np.sqrt(12) / np.max(standardiser.std))

    def bits_per_sample(self, log_prob: float) -> float | None:
        """Bits that a sample of the files' integers takes under a model.

        With L samples a frame and b bits, an integer is ``2**(b - 1)`` times the amplitude, so

        ``bits = (-(log_prob - log_scale) / L + (b - 1) ln 2) / ln 2``.

        Args:
            log_prob: Mean log density of a standardised frame, in nats.

        Returns:
            Bits, or None for frames that are no integer samples: spectra, lossy or floating-point
            files, and what was resampled, mixed, or changed in level.
        """
        bits = self.bit_depth
        if bits is None:
            return None
        nats = -(log_prob - self.log_scale) / self.frame_length
        return float(nats / np.log(2) + bits - 1)

    def references(
        self, known: Sequence[FrameSequence], test: Sequence[FrameSequence]
    ) -> dict[str, list[torch.Tensor]]:
        """Of samples: the predictor, its residuals as Student's t of a scale that follows them."""
        if self.kind not in _WAVES:
            return {}
        seen, new = (
            [self._residuals(self.destandardise(x.frames)) for x in part] for part in (known, test)
        )
        density = AdaptiveStudent(seen)
        log_p = [density.log_prob(r).reshape(-1, self.frame_length).sum(1) for r in new]
        name = f"RLS({self.predictor_order}), adaptive Student"
        return {name: [torch.from_numpy(x) + self.log_scale for x in log_p]}

    def _residuals(self, raw: Array) -> Array:
        """What the predictor leaves of the samples ``(N,)`` of raw frames, whatever their kind."""
        numbers = raw[:, : self.frame_length].reshape(-1)
        if self.kind == "waveform":
            return analyse(numbers, self.predictor_order, self.forgetting)
        return restore(numbers) if self.kind == "innovation" else numbers

    # Frames to a file

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Writes ``.wav`` (16-bit) and ``.png`` with waveform and spectrogram."""
        rate = self.layout["sample_rate"]
        if self.kind in _WAVES:
            samples = raw[:, : self.frame_length].reshape(-1)
            if self.kind != "waveform":
                samples = synthesise(self._residuals(raw), self.predictor_order, self.forgetting)
        elif self.kind == "log_mel":
            samples = self._mel(rate).samples(raw[:, : self.n_mels])
        else:
            samples = self._mel(rate).samples(from_cepstra(raw[:, : self.n_mfcc], self.n_mels))
        # The last suffix is added, not replaced: a stem such as "epoch.3" keeps its dot.
        wav, png = (stem.with_name(f"{stem.name}.{kind}") for kind in ("wav", "png"))
        write_picture(png, write_sound(wav, samples, rate), rate)
        return [wav, png]


def _noise(samples: Array) -> Array:
    """Uniform on (-1/2, 1/2), one for each sample, a function of the samples."""
    key = zlib.crc32(np.ascontiguousarray(samples).tobytes())
    return np.random.default_rng([key, len(samples)]).random(len(samples)) - 0.5

"""Sound files: read whole or refused, written so that they play without clicks or wrap-around.

Conventions:
    Samples are float64 with full scale 1: the integer k of b bits is ``k / 2**(b - 1)``. A sound is
    ``(N, C)`` as read, channels last, and ``(N,)`` where there is one. Rates are in Hz.
"""

import re
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import soundfile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pytorch_lightning.utilities import rank_zero_warn

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.sound.mp3 import mp3_fault

EXTENSIONS = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc", ".sf",
)  # fmt: skip
"""Endings of what libsndfile reads without being told rate and format."""

_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "ALAC_16": 16, "ALAC_24": 24}
_RATES = (1000, 768_000)
_LOUDEST = 1e6  # times full scale; more is damage
_BLOCK = 1 << 16  # frames read at a time, so that a damaged header cannot ask for memory
_FADE = 0.003  # seconds
_SHORT = re.compile(r"(RIFF|riff|Riff size|data|FORM|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")
_NIST_COUNT = re.compile(rb"\nsample_count -i (\d+)\n")
_STRAY = re.compile(
    r"\*\*\* .*(?:Exiting parser|not equal to frame count|does not match)|truncated file"
)
"""What libsndfile says of a file whose parts do not follow on each other, and reads on."""


class Sound(NamedTuple):
    """A sound file's content.

    Attributes:
        samples: ``(N, C)``.
        rate: Samples per second.
        bits: Bits of an integer sample; None if the file stores none (lossy, floating point).
    """

    samples: Array
    rate: int
    bits: int | None


def read_sound(path: Path) -> Sound:
    """Reads a whole sound file.

    Raises:
        DataError: No sound, damaged, truncated, without samples, or with one that is no number.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty: get it again")
    blocks: list[Array] = []
    n_read = 0
    try:
        with soundfile.SoundFile(path) as file:
            rate, declared, log = file.samplerate, file.frames, file.extra_info
            bits, container, kind = _BITS.get(file.subtype), file.format, file.subtype
            if not _RATES[0] <= rate <= _RATES[1]:
                raise DataError(f"{path}: the header tells {rate} samples a second: repair it")
            while len(block := file.read(_BLOCK, dtype="float64", always_2d=True)):
                blocks.append(block)
                n_read += len(block)
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).split(": ", 1)[-1].strip(" .") or type(error).__name__
        where = f"after sample {n_read} " if n_read else ""
        raise DataError(f"{path}: cannot be read {where}({reason}): get it again") from None
    if container == "OGG" and not _ogg_ends(path):
        raise DataError(f"{path}: truncated after sample {n_read}: get it again")
    for part, promised, found in _SHORT.findall(log):
        # Programs that write to a pipe leave a length near 2 or 4 GiB: the file's end is the end.
        # The last byte of the whole may be padding.
        least = int(promised) - (part in ("RIFF", "riff", "Riff size", "FORM"))
        if int(found) < least and int(promised) < 0x7FFF0000:
            raise DataError(f"{path}: truncated: {found} bytes of {promised}: get it again")
    if n_read == 0:
        raise DataError(f"{path}: holds no samples: remove the file")
    if _STRAY.search(log):
        raise DataError(
            f"{path}: damaged: its {n_read} samples are not followed by what its header tells,"
            " as if bytes had been put in or added: save it again"
        )
    if container == "NIST" and (count := _NIST_COUNT.search(path.read_bytes()[:1024])):
        declared = int(count[1])  # which libsndfile does not look at
    if kind == "MPEG_LAYER_III":
        if fault := mp3_fault(path.read_bytes(), n_read, declared):
            raise DataError(f"{path}: {fault}")
    elif n_read < declared:
        raise DataError(f"{path}: truncated: {n_read} samples of {declared}: get it again")
    samples = np.concatenate(blocks)
    with np.errstate(invalid="ignore"):
        for i, c in np.argwhere(~(np.abs(samples) < _LOUDEST))[:1]:
            where = f"sample {i} ({i / rate:.3f} s), channel {c}"
            raise DataError(f"{path}: {where} is {samples[i, c]:g}: repair or remove the file")
    return Sound(samples, rate, bits)


def write_sound(path: Path, samples: Array, rate: int) -> Array:
    """Writes 16-bit PCM with faded edges; what would clip is made quieter, and that is said.

    Returns:
        The samples written.
    """
    faded, n = samples.copy(), min(round(_FADE * rate), len(samples) // 2)
    ramp = np.sin(0.5 * np.pi * (np.arange(n) + 0.5) / max(n, 1)) ** 2
    faded[:n] *= ramp
    faded[len(faded) - n :] *= ramp[::-1]
    peak, full = float(np.abs(faded).max()), 1 - 2.0**-15
    if peak > full:
        faded *= full / peak
    if peak > 1.01:  # else it is not heard
        rank_zero_warn(f"{path.name}: {20 * np.log10(peak):.1f} dB quieter, so as not to clip")
    pcm = np.round(faded * 2.0**15).astype(np.int16)
    with whole_file(path) as part:
        soundfile.write(part, pcm, rate, subtype="PCM_16", format="WAV")
    return faded


def write_picture(path: Path, samples: Array, rate: int) -> None:
    """Draws the waveform above its spectrogram (80 dB)."""
    figure = Figure(figsize=(10, 5), dpi=100, layout="constrained")
    wave, spectrum = figure.subplots(2, 1, sharex=True)
    seconds = len(samples) / rate
    step = max(len(samples) // 2000, 1)  # of the envelope: lowest and highest of every so many
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
    with whole_file(path) as part:
        FigureCanvasAgg(figure).print_png(part)


def _ogg_ends(path: Path) -> bool:
    """Whether the last page of an Ogg file is marked as the last."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - (1 << 17), 0))  # a page is below 64 KiB
        end = file.read()
    page = end.rfind(b"OggS")
    return page >= 0 and len(end) > page + 5 and bool(end[page + 5] & 4)

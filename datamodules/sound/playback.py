"""Samples as files that can be played and looked at: WAV, and a picture with the spectrogram.

Conventions:
    Samples are ``(N,)``, full scale 1; rates in samples per second.
"""

from collections.abc import Mapping
from pathlib import Path

import librosa
import numpy as np
import soundfile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pytorch_lightning.utilities import rank_zero_warn

from rnade_lightning.datamodules.core import Array

_FADE = 0.003  # seconds
_FULL = 1 - 2.0**-15  # the largest sample of 16 bits
_HEARD = 1.01  # times full scale; less is not worth a word


def write_integers(path: Path, samples: Array, rate: int, bits: int) -> Array:
    """Write integers as they are, as PCM of 16 bits or, where they have more, of 24.

    Args:
        path: WAV file to write.
        samples: ``(N,)``, full scale 1, multiples of ``2**(1 - bits)``; those that are none are
            rounded, and those beyond full scale clipped.
        rate: samples per second.
        bits: bits of the integers, 24 at most.

    Returns:
        The samples written, ``(N,)``.
    """
    full = 2.0 ** (bits - 1)
    integers = np.clip(np.round(samples * full), -full, full - 1).astype(np.int64)
    width, kind = (16, np.int16) if bits <= 16 else (32, np.int32)  # of which 24 are written
    subtype = "PCM_16" if bits <= 16 else "PCM_24"
    pcm = (integers << (width - bits)).astype(kind)
    soundfile.write(path, pcm, rate, subtype=subtype, format="WAV")
    return integers / full


def write_sound(path: Path, samples: Array, rate: int, bits: int | None = None) -> Array:
    """Write 16-bit PCM with faded edges.

    From the first sample that would clip on the sound is made quieter, by as much as each sample
    that is louder than all before it takes; what stands before, such as a prefix, stays as it is.

    Args:
        path: WAV file to write.
        samples: ``(N,)``, full scale 1.
        rate: samples per second.
        bits: of the integers that samples are with noise, if they are: below 16, the noise spans
            several steps of the file, and is taken off by rounding.

    Returns:
        The samples written, ``(N,)``.
    """
    if bits is not None and bits < 16:
        samples = np.round(samples * 2.0 ** (bits - 1)) * 2.0 ** (1 - bits)
    faded, n = samples.copy(), min(round(_FADE * rate), len(samples) // 2)
    ramp = np.sin(0.5 * np.pi * (np.arange(n) + 0.5) / max(n, 1)) ** 2
    faded[:n] *= ramp
    faded[len(faded) - n :] *= ramp[::-1]
    # Half a step beyond full scale is still the noise of an integer of 16 bits.
    sizes = np.abs(faded) - 1.5 * 2.0**-15
    gain = np.minimum.accumulate(_FULL / np.maximum(sizes, _FULL))
    if gain[-1] < 1 / _HEARD:
        where = f"from {np.argmax(gain < 1) / rate:.2f} s on up to "
        quieter = -20 * np.log10(gain[-1])
        rank_zero_warn(f"{path.name}: {where}{quieter:.1f} dB quieter, so as not to clip")
    pcm = np.clip(np.round(faded * gain * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)
    soundfile.write(path, pcm, rate, subtype="PCM_16", format="WAV")
    return faded * gain


def write_picture(
    path: Path, samples: Array, rate: int, mels: Mapping[str, Array] | None = None
) -> None:
    """Draw the waveform above its spectrogram (80 dB), and log mel power ``(T, n_mels)`` below, by
    what is said of it, on one scale."""
    mels = mels or {}
    figure = Figure(figsize=(10, 5 + 2 * len(mels)), dpi=100, layout="constrained")
    wave, spectrum, *below = figure.subplots(2 + len(mels), 1, sharex=True)
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
    loudest = max((float(mel.max()) for mel in mels.values()), default=0.0)
    for axes, (name, mel) in zip(below, mels.items(), strict=True):
        image = axes.imshow(
            10 / np.log(10) * (mel.T - loudest),
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, mel.shape[1]),
            vmin=-80,
            vmax=0,
            cmap="magma",
        )
        axes.set(xlabel="time (seconds)", ylabel=f"band, {name}")
        figure.colorbar(image, ax=axes, label="dB")
    FigureCanvasAgg(figure).print_png(path)

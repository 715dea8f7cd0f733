"""No kind of sound takes more bytes than in FLAC at its highest level."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rnade_lightning.coding import channels
from rnade_lightning.coding.channels import Integers
from rnade_lightning.coding.coder import Coder, Model, digest_of
from rnade_lightning.coding.container import BLOCK, Codec, Stream, write
from rnade_lightning.kernels.experts import NO_NET

N = 4000
RNG = np.random.default_rng(0)
T = np.arange(N)
SAW = 2 * (T * 110.3 / 48_000 % 1) - 1
NOISE = RNG.normal(size=N)


def integers(x: np.ndarray, bits: int, how: np.ufunc = np.rint) -> Integers:
    half = 1 << (bits - 1)
    return np.clip(how(x * half), -half, half - 1).astype(np.int64)


NOISE_16, NOISE_24 = integers(0.1 * NOISE, 16), integers(0.1 * NOISE, 24)
SOUNDS = {
    "sawtooth": (integers(0.5 * SAW, 24), 24),
    "sawtooth, cut off": (integers(0.3 * SAW, 16, np.floor), 16),
    "sawtooth of 8 bits": (integers(0.7 * SAW, 8), 8),
    "triangle": (integers(abs(SAW), 24), 24),
    "square": (integers(0.8 * np.sign(SAW), 16), 16),
    "two sawtooths": (integers(0.3 * SAW + 0.2 * (T * 0.0031 % 1), 24), 24),
    "sine": (integers(0.5 * np.sin(0.1234 * T), 24), 24),
    "frequency modulation": (integers(0.5 * np.sin(0.1 * T + 3 * np.sin(0.002 * T)), 16), 16),
    "silence": (np.zeros(N, np.int64), 16),
    "one click": (np.where(T == 2000, 30_000, 0), 16),
    "constant": (np.full(N, 1234), 16),
    "white": (RNG.integers(-(1 << 15), 1 << 15, N), 16),
    "clipped": (integers(2 * NOISE, 16), 16),
    "held": (np.repeat(NOISE_16[: N // 4], 4), 16),
    "16 bits in 24": (NOISE_16 << 8, 24),
    "16 bits in 24, all but one": ((NOISE_16 << 8) + (T == 100), 24),
    "16 bits, then 24": (np.where(T < 3072, NOISE_24 >> 8 << 8, NOISE_24), 24),
    "left alone": (np.stack([NOISE_16, 0 * T], 1), 16),
    "right alone": (np.stack([0 * T, NOISE_24], 1), 24),
    "against each other": (np.stack([NOISE_16, -NOISE_16], 1), 16),
    "nothing in common": (np.stack([integers(0.4 * SAW, 16), NOISE_16], 1), 16),
    "other zero bits": (np.stack([NOISE_16 << 8, integers(0.5 * SAW, 24)], 1), 24),
}
for n in (1, 5, 50, 500):
    SOUNDS[f"{n} samples of a sawtooth"] = integers(0.5 * SAW[:n], 24), 24
    SOUNDS[f"{n} samples of noise"] = RNG.integers(-(1 << 15), 1 << 15, n), 16


def bytes_of_flac(path: Path) -> int:
    """Return the size of a file without room for metadata, as `flac --no-padding` writes it."""
    data, at, spare, last = path.read_bytes(), 4, 0, 0
    while not last:
        last, kind, length = data[at] >> 7, data[at] & 127, int.from_bytes(data[at + 1 : at + 4])
        spare += 4 + length if kind == 1 else 0
        at += 4 + length
    return len(data) - spare


@pytest.mark.parametrize("name", SOUNDS)
def test_no_sound_takes_more_than_in_flac(name: str, tmp_path: Path) -> None:
    """By the bank alone, which knows no kind of sound beforehand."""
    x, bits = SOUNDS[name]
    x, wav, flac = x.reshape(len(x), -1), tmp_path / "a.wav", tmp_path / "a.flac"
    wide = (x << (32 - bits)).astype(np.int32)
    soundfile.write(wav, wide, 48_000, {8: "PCM_U8"}.get(bits, f"PCM_{bits}"))
    subtype = {8: "PCM_S8"}.get(bits, f"PCM_{bits}")
    soundfile.write(flac, wide, 48_000, subtype, compression_level=1.0)
    model = Model(NO_NET, digest_of(NO_NET))
    codec = Codec(functools.partial(Coder, model), model.digest)
    signal, file = channels.measure(wav), io.BytesIO()
    write(file, signal, channels.read(wav, signal, BLOCK), codec)
    assert len(file.getvalue()) <= bytes_of_flac(flac)
    file.seek(0)
    back = np.concatenate(list(Stream(file, wav).samples(codec)))
    np.testing.assert_array_equal(back, x)

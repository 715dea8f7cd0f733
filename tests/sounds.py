"""Sounds and data modules of sound for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from rnade_lightning.datamodules import AudioDataModule

RATE, STEP = 16_000, 2.0**-15

HARD = {
    "silence": np.zeros(200_000),  # forgotten 1e-520 times
    "hiss": 1e-9 * np.random.default_rng(0).standard_normal(20_000),
    "square wave": np.sign(np.sin(np.arange(20_000) * 0.05)),
    "sine": np.sin(np.arange(20_000) * 0.05),
    "steps": np.repeat([0, 1, 0, -1, 1e-6, 0.5, 0, 1], 3000),
    "impulse after silence": np.eye(1, 20_000, 10_000)[0],
    "alternating": np.tile([1.0, -1.0], 10_000),
    "damage": 1e6 * np.random.default_rng(0).standard_normal(20_000),
    "past all floating-point sense": np.geomspace(1e-300, 1e300, 5000),
}
"""Sounds that are hard for a recursion."""


def audio_module(root: Path | None = None, **kwargs: Any) -> AudioDataModule:
    """Return a data module with short windows."""
    return AudioDataModule(str(root) if root else None, **{"window": 8, "warmup": 1, **kwargs})


def tone(path: Path, rate: int = RATE, n: int = 8000, **kwargs: Any) -> Path:
    """Write 440 Hz on the first channel, 880 Hz on the second."""
    t = np.arange(n) / rate
    both = 0.2 * np.sin(2 * np.pi * np.stack([440 * t, 880 * t], axis=-1))
    soundfile.write(path, both if kwargs.pop("stereo", False) else both[:, 0], rate, **kwargs)
    return path


def strongest(samples: np.ndarray, rate: int) -> float:
    """Return the frequency of the largest component, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def autoregressive(n: int, seed: int = 0, scale: float = 1000 * STEP) -> np.ndarray:
    """Return x_t = 1.2 x_{t-1} - 0.6 x_{t-2} + Gaussian noise of this scale."""
    noise = scale * np.random.default_rng(seed).standard_normal(n)
    return np.asarray(lfilter([1], [1, -1.2, 0.6], noise))


def parquet(path: Path, table: dict[str, list[Any]], **kwargs: Any) -> Path:
    """Write a table, or skip the test where the extra is not installed."""
    pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(table), path, **kwargs)
    return path

"""Small corpora, and a cache of frames that only these tests use."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE, STEP, autoregressive

from rnade_lightning.datamodules.sound.speechlike import speechlike


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def utterance() -> np.ndarray:
    return speechlike(seed=0, seconds=1.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return seven short utterances, 16-bit, 16 kHz; three of them are readings of one prompt."""
    folder = tmp_path_factory.mktemp("corpus")
    for i, name in enumerate(("a1_x", "a1_y", "a1_z", "a2_x", "a3_x", "a4_x", "a4_y")):
        soundfile.write(folder / f"{name}.wav", speechlike(i, 1.0), RATE, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def linear_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return four files of a linear autoregressive source, whose entropy rate is known."""
    folder = tmp_path_factory.mktemp("autoregressive")
    for i in range(4):
        x = np.round(autoregressive(2 * RATE, i) / STEP).astype(np.int16)
        soundfile.write(folder / f"{i}.flac", x, RATE)
    return folder

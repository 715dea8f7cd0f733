"""Excitations carry the mel of their sound, which is given and never modelled."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sounds import RATE, audio_module

from rnade_lightning.datamodules import AudioDataModule, DataError
from rnade_lightning.datamodules.sound.kinds.excitation import Excitation
from rnade_lightning.datamodules.sound.speechlike import speechlike

KIND = Excitation(16, 512, None, 128, 40, 0.0, None, 32)


def module(root: Path | None, **kwargs: object) -> AudioDataModule:
    options = {"kind": "excitation", "frame_length": 16, "predictor_order": 32, "n_fft": 512}
    return audio_module(root, **{**options, "hop_length": 128, "n_mels": 40, **kwargs})


def test_frames_in_pieces_are_those_of_the_whole() -> None:
    x = speechlike(0, 1.0)
    whole = KIND.to_frames(x, RATE)
    parts = np.concatenate(list(KIND.pieces(np.split(x, [5, 700, 9001]), RATE)))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    mel = KIND.mel(RATE).log_mel(x)
    np.testing.assert_allclose(KIND.log_mel(whole)[::8], mel[: len(whole[::8])], atol=2.0**-11)


def test_the_mel_is_given_without_being_asked_for(corpus: Path) -> None:
    data = module(corpus)
    assert data.n_features == 16
    assert data.given is not None
    assert data.given.names == [f"mel_{i}" for i in range(40)]
    assert data.n_context == [40]
    assert (data.bit_depth, data.bits_name) == (16, "bits_per_sample_given")
    assert any("code nothing" in line for line in data.caveats)
    other = audio_module(corpus, kind="waveform")
    assert other.bits_name == "bits_per_sample"
    assert not other.caveats


def test_what_is_drawn_gets_its_mel_and_true_frames_stay_as_they_are(corpus: Path) -> None:
    data = module(corpus)
    sequence = data.sequences("test")[0]
    true = data.destandardise(sequence.with_context())
    whole, _ = soundfile.read(corpus / f"{sequence.name}.wav")
    as_read = data.to_samples(true)
    assert np.abs(as_read - whole[: len(as_read)]).max() <= 2.0**-15 * 0.51  # the noise's
    drawn = torch.randn(sequence.frames.shape, generator=torch.Generator().manual_seed(0))
    raw = data.destandardise(drawn, sequence.context)
    given = data._kind.mel(RATE).log_mel(whole)[4:-8]
    plain, finished = data._kind.to_samples(raw, RATE), data.to_samples(raw)
    far, near = (
        np.abs(data._kind.mel(RATE).log_mel(x)[4 : 4 + len(given)] - given).mean()
        for x in (plain, finished)
    )
    assert near < 0.25 * far
    half = raw.copy()
    half[: len(half) // 2] = true[: len(half) // 2]
    begun = data.to_samples(half)
    np.testing.assert_allclose(begun[:7000], as_read[:7000], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_mels": 400}, "mel bands lie between two frequencies of the transform: lower n_mels"),
        ({"sample_rate": 8000, "f_max": 7000.0}, "must lie in order between 0 and half"),
    ],
)
def test_a_mel_that_there_is_not_is_refused(corpus: Path, options: dict, match: str) -> None:
    with pytest.raises(DataError, match=match):
        module(corpus, **options).setup()


def test_a_file_of_another_rate_gives_no_mel(corpus: Path, tmp_path: Path) -> None:
    data = module(corpus)
    data.setup()
    soundfile.write(tmp_path / "b.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    with pytest.raises(
        DataError, match=r"it has 8000 samples a second, not 16000 \(set sample_rate"
    ):
        data.controls(str(tmp_path / "b.wav"), None, 100)

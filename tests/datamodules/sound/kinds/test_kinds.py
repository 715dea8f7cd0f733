"""Every kind of sound frames in the package keeps its promises. A new one is tested because it is
there."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from exact import Exact
from sounds import RATE, audio_module

from rnade_lightning.__main__ import main
from rnade_lightning.class_paths import trusting
from rnade_lightning.datamodules import AudioDataModule, DataError
from rnade_lightning.datamodules.core.standardise import LOG_JACOBIAN
from rnade_lightning.datamodules.sound import kinds
from rnade_lightning.datamodules.sound.audio import make_kind
from rnade_lightning.datamodules.sound.kinds import Kind, kind_names
from rnade_lightning.datamodules.sound.kinds.waveform import Waveform
from rnade_lightning.datamodules.sound.spectra import log_spectral_distance
from rnade_lightning.datamodules.sound.speechlike import speechlike

every_kind = pytest.mark.parametrize("name", kind_names())
OPTIONS: dict[str, Any] = {**AudioDataModule().hparams, "n_mels": 40}


def make(name: str, **options: Any) -> Kind:
    return make_kind(name, OPTIONS | options)


def numbers_of(kind: Kind, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the modelled numbers of frames ``(T, D)``, and their log-Jacobian ``(T,)``."""
    names, own = kind.feature_names, frames[:, modelled(kind)]
    if LOG_JACOBIAN not in names:
        return own, np.zeros(len(frames))
    return own, frames[:, names.index(LOG_JACOBIAN)]


def modelled(kind: Kind) -> list[int]:
    """Return the places of the features that are neither given nor a log-Jacobian."""
    apart = {LOG_JACOBIAN, *kind.given_names}
    return [i for i, name in enumerate(kind.feature_names) if name not in apart]


def sound_for(kind: Kind, samples: np.ndarray) -> np.ndarray:
    """Return samples of full scale 1 as a kind takes them."""
    return np.round(samples * 2.0**15) if kind.of_integers else samples


def log_determinant(kind: Kind, samples: np.ndarray, step: float = 1e-9) -> float:
    """Return log |d numbers / d samples| by central differences."""

    def numbers(x: np.ndarray) -> np.ndarray:
        return numbers_of(kind, kind.to_frames(x, RATE))[0].reshape(-1)

    units = step * np.eye(len(samples))
    columns = [(numbers(samples + u) - numbers(samples - u)) / (2 * step) for u in units]
    return float(np.linalg.slogdet(np.stack(columns, 1))[1])


def log_determinant_given(kind: Kind, frames: np.ndarray, step: float = 1e-6) -> float:
    """Return log |d numbers / d samples| where what is given stays as it is, by central differences
    of the way back."""
    columns = []
    for t in range(len(frames)):
        for i in modelled(kind):
            sides = []
            for sign in (1, -1):
                moved = frames.copy()
                moved[t, i] += sign * step
                sides.append(kind.to_samples(moved, RATE))
            columns.append((sides[0] - sides[1]) / (2 * step))
    return -float(np.linalg.slogdet(np.stack(columns, 1))[1])


def check_density(kind: Kind) -> None:
    """Check that frames are a one-to-one function of samples, some of them perhaps given, with the
    log-Jacobian that they carry."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(4 * kind.samples_per_frame)
    frames = kind.to_frames(samples, RATE)
    numbers, log_jacobian = numbers_of(kind, frames)
    assert numbers.size == samples.size
    np.testing.assert_allclose(kind.to_samples(frames, RATE), samples, atol=1e-9)
    given = bool(kind.given_names)
    found = log_determinant_given(kind, frames) if given else log_determinant(kind, samples)
    assert found == pytest.approx(log_jacobian.sum(), abs=1e-4)
    np.testing.assert_allclose(kind.log_jacobian(frames, RATE), log_jacobian, atol=1e-9)


def check_integers(kind: Kind) -> None:
    """Check that frames lose nothing of integers, and that the way back needs the features
    alone."""
    samples = np.random.default_rng(0).integers(-300, 300, 40 * kind.samples_per_frame + 3)
    frames = kind.to_frames(samples.astype(float), RATE)
    features = frames[:, : len(kind.feature_names)]
    for found in (kind.to_samples(frames, RATE), kind.to_samples(features, RATE)):
        np.testing.assert_array_equal(found, samples[: len(found)])
        assert len(found) >= len(samples) - kind.samples_per_frame


class Louder(Waveform):
    """A planted fault: it stretches samples and does not say so."""

    def to_frames(self, samples: np.ndarray, rate: int) -> np.ndarray:
        return 2 * super().to_frames(samples, rate)

    def to_samples(self, frames: np.ndarray, rate: int) -> np.ndarray:
        return super().to_samples(frames, rate) / 2


class Even(Exact):
    """A planted fault: it loses the last bit."""

    def to_frames(self, samples: np.ndarray, rate: int) -> np.ndarray:
        return super().to_frames(2 * np.floor(samples / 2), rate)


def test_those_that_are_shipped_are_found() -> None:
    assert {"waveform", "residual", "innovation", "log_mel", "mfcc"} <= set(kind_names())


@every_kind
@pytest.mark.parametrize("deltas", [False, True])
@pytest.mark.slow
def test_frames_are_as_wide_as_their_names_and_as_many_as_told(name: str, deltas: bool) -> None:
    kind = make(name, deltas=deltas)
    for n_samples in (kind.min_samples, 5000):
        frames = kind.to_frames(sound_for(kind, speechlike(0, 1.0)[:n_samples]), RATE)
        assert frames.dtype == np.float64
        assert len(kind.feature_names) == len(set(kind.feature_names))
        assert frames.shape[1] == len(kind.feature_names) * (1 + len(kind.side_names))
        assert abs(len(frames) - n_samples / kind.samples_per_frame) <= 1
        assert len(frames) >= 1
        assert np.isfinite(frames).all()


@every_kind
@pytest.mark.slow
def test_a_sound_of_one_sample_less_than_a_frame_is_refused(name: str, tmp_path: Path) -> None:
    least = make(name).min_samples
    for n_samples in (least, least - 1):
        soundfile.write(tmp_path / f"{n_samples}.wav", speechlike(0, 1.0)[:n_samples], RATE)
    data = audio_module(kind=name, n_mels=40)
    assert len(data.read(tmp_path / f"{least}.wav").frames[""]) >= 1
    with pytest.raises(DataError, match=rf"{least - 1}\.wav: .* where a frame needs {least}"):
        data.read(tmp_path / f"{least - 1}.wav")


@every_kind
def test_a_density_of_frames_is_one_of_samples_or_says_that_it_is_not(name: str) -> None:
    mel = {"n_fft": 64, "hop_length": 16, "n_mels": 8}  # where one is given, of short frames
    kind = make(name, frame_length=10, predictor_order=3, forgetting=0.99, **mel)
    if kind.of_integers:
        check_integers(kind)
    elif kind.invertible:
        check_density(kind)
        assert kind.rank_tolerance <= 1e-6
    else:
        assert LOG_JACOBIAN not in kind.feature_names
        assert kind.noise_scale(2.0**-15, np.ones(3)) == 0


def test_an_integer_that_is_lost_is_seen() -> None:
    check_integers(Exact(10))
    with pytest.raises(AssertionError):
        check_integers(Even(10))


def test_a_log_jacobian_that_is_left_out_is_seen() -> None:
    check_density(Waveform(10, 3, 0.99))
    with pytest.raises(AssertionError):
        check_density(Louder(10, 3, 0.99))


@pytest.mark.slow
@every_kind
def test_frames_of_a_file_are_written_as_its_sound(name: str, corpus: Path, tmp_path: Path) -> None:
    data = audio_module(corpus, kind=name, n_mels=40, deltas=True)
    sequence = data.sequences("test")[0]
    frames = sequence.with_context()  # by feature it is left out
    wav, png = data.render(frames, tmp_path / "sample.1")
    assert (wav.name, png.name) == ("sample.1.wav", "sample.1.png")
    samples, rate = soundfile.read(wav)
    original, _ = soundfile.read(corpus / f"{sequence.name}.wav")
    assert rate == RATE
    assert abs(len(samples) - len(original)) <= 256
    most = 0.5 if make(name).invertible or make(name).of_integers else 10
    assert log_spectral_distance(samples, original) < most
    assert not list(tmp_path.glob(".*"))
    data.render(frames[:1], tmp_path / "short")


@every_kind
def test_what_is_turned_back_from_the_start_takes_whole_files(name: str, corpus: Path) -> None:
    options: dict[str, Any] = {"kind": name, "n_mels": 40, "frame_length": 20}
    whole = audio_module(corpus, **options)
    if make(name).from_start:
        with pytest.raises(DataError, match=rf"kind {name} .* set split to file"):
            audio_module(corpus, split="tail", **options)
    else:
        ends = audio_module(corpus, split="tail", **options)
        assert len(ends.sequences("test")) > len(whole.sequences("test"))


@pytest.mark.slow
@every_kind
def test_no_density_takes_fewer_bits_than_uniform_noise_has(name: str, tmp_path: Path) -> None:
    """Two densities are tried: a Gaussian of the standardised frames, and the kind's own
    references. A Gaussian of uniform noise takes 0.254 bits more than the noise has. Where log p is
    a log mass, a Gaussian's is none."""
    rng = np.random.default_rng(0)
    for i in range(4):
        noise = rng.integers(-128, 128, 40_000) / 128
        soundfile.write(tmp_path / f"{i}.wav", noise, RATE, subtype="PCM_U8")
    data = audio_module(tmp_path, kind=name, frame_length=20, n_mels=40)
    known, test = data.sequences("train"), data.sequences("test")
    log_p = {"normal": [-0.5 * (x.frames**2 + np.log(2 * np.pi)).sum(1) for x in test]}
    log_p = {} if data.log_mass else log_p
    log_p |= data.references(known, test)
    for rival, found in log_p.items():
        added = [x.log_jacobian.double() for x in test] if rival == "normal" else [0.0] * len(test)
        mean = np.concatenate([(p + a).numpy() for p, a in zip(found, added, strict=True)]).mean()
        bits = data.bits_per_sample(float(mean))
        if not make(name).invertible and not data.log_mass:
            assert bits is None
            continue
        assert bits is not None
        assert 8 < bits < 8.8, rival


@pytest.mark.slow
def test_what_samples_have_to_beat_is_the_same_for_all_their_kinds(corpus: Path) -> None:
    """The reference is a density of samples, whatever their frames are."""
    found: dict[str, list[float]] = {}
    for name in kind_names():
        if make(name).invertible:
            data = audio_module(corpus, kind=name, frame_length=50)
            known, test = data.sequences("train"), data.sequences("test")
            for rival, log_p in data.references(known, test).items():
                mean = np.concatenate([x.numpy() for x in log_p]).mean()
                found.setdefault(rival, []).append(data.bits_per_sample(mean) or np.nan)
    assert len(found["RLS(24), adaptive Student"]) >= 3
    for bits in found.values():
        np.testing.assert_allclose(bits, bits[0], atol=1e-3)


# A kind of the user's own

OWN = """
import numpy as np
from rnade_lightning.datamodules.sound.kinds import Kind

class Pairs(Kind):
    '''Sums and differences of two samples.'''
    invertible = True
    {version}

    def __init__(self, frame_length, scale=1.0):
        self.half, self.scale = frame_length // 2, scale

    @property
    def feature_names(self):
        return [f"pair_{{i}}" for i in range(2 * self.half)]

    @property
    def samples_per_frame(self):
        return 2 * self.half

    @property
    def min_samples(self):
        return 2 * self.half

    def to_frames(self, samples, rate):
        x = samples[: len(samples) // (2 * self.half) * 2 * self.half].reshape(-1, self.half, 2)
        both = np.stack([x.sum(-1), x[..., 0] - x[..., 1]], -1) / np.sqrt(2)
        return {times} * both.reshape(len(x), -1)

    def to_samples(self, frames, rate):
        x = frames.reshape(-1, 2) / {times}
        return (np.stack([x.sum(-1), x[:, 0] - x[:, 1]], -1) / np.sqrt(2)).reshape(-1)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder to import from, and remove every trace of it after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in ("my_kinds", "rnade_lightning.datamodules.sound.kinds.pairs"):
        sys.modules.pop(name, None)


def write_kind(path: Path, times: int = 1, version: str = "") -> None:
    path.write_text(OWN.format(times=times, version=version))
    sys.modules.pop("my_kinds", None)


@pytest.mark.slow
def test_a_kind_of_the_users_own_is_named_by_its_path(own: Path, corpus: Path) -> None:
    write_kind(own / "my_kinds.py")
    check_density(make("my_kinds.Pairs", frame_length=10))
    data = audio_module(corpus, kind="my_kinds.Pairs", frame_length=20)
    assert (data.n_features, data.frame_rate, data.bit_depth) == (20, RATE / 20, 16)
    assert data.feature_names[3] == "pair_3"
    frames = data.score_input(corpus / "a1_x.wav").frames
    written = soundfile.read(data.render(frames, own / "back")[0])[0]
    source = soundfile.read(corpus / "a1_x.wav")[0]
    assert np.abs(written - source)[100:-100].max() <= 2.0**-15 * 1.01


@pytest.mark.slow
def test_a_kind_of_the_users_own_is_fitted_from_the_command_line(own: Path, corpus: Path) -> None:
    write_kind(own / "my_kinds.py")
    data = ["--data=AudioDataModule", f"--data.root={corpus}", "--data.kind=my_kinds.Pairs"]
    data += ["--data.frame_length=20", "--data.window=16", "--data.split=file"]
    small = ["--model.init_args.n_hidden=4", "--model.init_args.n_recurrent=4"]
    run = [f"--trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]
    run += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    logger = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={own / 'logs'}"]
    table = ["--trainer.callbacks=Comparison", "--trainer.callbacks.n_samples=2"]
    main(["fit", *data, *small, *run, *logger, *table])
    (written,) = own.rglob("comparison.csv")
    assert "bits_per_sample" in written.read_text()


def test_a_kind_that_only_a_checkpoint_names_is_imported_if_it_is_trusted(own: Path) -> None:
    write_kind(own / "my_kinds.py")
    with trusting(()), pytest.raises(DataError, match=r"my_kinds\.Pairs.* give --trust my_kinds"):
        audio_module(kind="my_kinds.Pairs")
    assert "my_kinds" not in sys.modules
    with trusting("my_kinds"):
        assert audio_module(kind="my_kinds.Pairs").kind == "my_kinds.Pairs"


@pytest.mark.parametrize(("version", "kept"), [("", False), ("reader_version = 1", True)])
def test_frames_of_a_kind_without_a_version_are_read_anew(
    version: str, kept: bool, own: Path, corpus: Path
) -> None:
    """A kind with a version has to raise it when it changes."""
    largest = []
    for times in (1, 10):
        write_kind(own / "my_kinds.py", times, version)
        data = audio_module(corpus, kind="my_kinds.Pairs", cache_dir=str(own / "cache"))
        largest.append(
            max(np.abs(data.destandardise(x.frames)).max() for x in data.sequences("test"))
        )
    assert largest[1] / largest[0] == pytest.approx(1 if kept else 10)


def test_the_kind_in_the_documentation_is_one() -> None:
    page = Path(__file__).parents[4] / "docs" / "audio.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(code, names)
    check_density(names["Reversed"](10))


def test_a_kind_in_a_file_of_the_package_has_its_name(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "pairs" not in kind_names()
    write_kind(own / "pairs.py")
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(own)])
    assert "pairs" in kind_names()
    assert type(make("pairs")).__name__ == "Pairs"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (
            "wavform",
            "'wavform' is none of the kinds excitation, experts, innovation, level_mel, log_mel, m",
        ),
        ("gone.Kind", r"gone\.Kind: cannot be imported"),
        ("pathlib.Path", r"pathlib\.Path is not a subclass of .*Kind"),
        (f"{Kind.__module__}.Kind", "does not define feature_names, which every kind needs"),
        ("my_kinds.Odd", r"kind my_kinds\.Odd takes n_bins, which is no option"),
    ],
)
def test_what_is_no_kind_is_refused(name: str, match: str, own: Path) -> None:
    write_kind(own / "my_kinds.py")
    with (own / "my_kinds.py").open("a") as file:
        file.write("\nclass Odd(Pairs):\n    def __init__(self, n_bins):\n        pass\n")
    with pytest.raises(DataError, match=match) as caught:
        audio_module(kind=name)
    assert "\n" not in str(caught.value)

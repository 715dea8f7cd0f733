"""The adaptive predictor: textbook least squares, causal, its Jacobian 1, its inverse stable."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from rnade_lightning.datamodules.sound import predictor
from rnade_lightning.datamodules.sound.audio import AudioDataModule
from rnade_lightning.datamodules.sound.predictor import analyse, synthesise
from rnade_lightning.datamodules.sound.speechlike import speechlike

RATE, STEP = 16_000, 2.0**-15
ORDER, FORGETTING = 24, 0.994  # the data module's


def autoregressive(n: int, seed: int = 0, scale: float = 1000 * STEP) -> np.ndarray:
    """x_t = 1.2 x_{t-1} - 0.6 x_{t-2} + Gaussian noise of this scale."""
    noise = scale * np.random.default_rng(seed).standard_normal(n)
    return np.asarray(lfilter([1], [1, -1.2, 0.6], noise))


def least_squares(x: np.ndarray, order: int, forgetting: float) -> np.ndarray:
    """Residuals by solving, before every sample, for the weights w that minimise the sum of
    ``forgetting**age (x_t - w'h_t)**2``, the ridge coming in one weight at a time."""
    ridge, padded = 1e-6, np.concatenate([np.zeros(order), x])
    A, b, e = ridge * np.eye(order), np.zeros(order), np.zeros(len(x))
    for t in range(len(x)):
        h = padded[t : t + order][::-1]  # x_{t-1}, x_{t-2}, ..
        w = np.linalg.solve(A, b)
        e[t] = x[t] - np.clip(0.97 ** np.arange(1, order + 1) * w @ h, -1, 1)
        A, b = forgetting * A + np.outer(h, h), forgetting * b + h * x[t]
        lag = order - 1 - t % order
        A[lag, lag] += (1 - forgetting) * order * ridge
    return e


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


@pytest.mark.parametrize(("order", "forgetting"), [(1, 0.9), (3, 0.99), (24, 0.994)])
def test_residuals_are_those_of_least_squares(order: int, forgetting: float) -> None:
    x = autoregressive(400) + speechlike(0, 1.0)[4000:4400]
    expected = least_squares(x, order, forgetting)
    np.testing.assert_allclose(analyse(x, order, forgetting), expected, atol=1e-9)
    other = least_squares(x, order, forgetting + 0.001)  # the fault, were it there
    assert np.abs(analyse(x, order, forgetting) - other).max() > 1e-6


def test_a_sample_changes_no_earlier_residual_and_its_own_by_as_much() -> None:
    x = speechlike(0, 1.0)[4000:4600]
    e = analyse(x, ORDER, FORGETTING)
    for t in (0, 1, 23, 300, 599):
        changed = x.copy()
        changed[t] += 0.125
        difference = analyse(changed, ORDER, FORGETTING) - e
        assert not difference[:t].any()
        assert difference[t] == pytest.approx(0.125, abs=1e-15)
        assert t > 590 or np.abs(difference[t + 1 : t + 9]).max() > 1e-3


def test_jacobian_is_triangular_with_ones() -> None:
    x, step = autoregressive(40), 1e-6
    jacobian = np.stack(
        [
            (analyse(x + step * unit, 3, 0.99) - analyse(x - step * unit, 3, 0.99)) / (2 * step)
            for unit in np.eye(40)
        ],
        axis=1,
    )
    np.testing.assert_allclose(np.triu(jacobian), np.eye(40), atol=1e-8)
    assert np.abs(np.tril(jacobian, -1)).max() > 0.1
    assert np.linalg.slogdet(jacobian)[1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_sound_comes_back(seed: int) -> None:
    x = speechlike(seed) + STEP * (np.random.default_rng(seed).random(2 * RATE) - 0.5)
    e = analyse(x, ORDER, FORGETTING)
    assert np.std(e) < 0.5 * np.std(x)
    exact = synthesise(e, ORDER, FORGETTING)
    assert np.abs(exact - x).max() < 1e-10
    rounded = synthesise(e.astype(np.float32), ORDER, FORGETTING)
    assert np.abs(rounded - x).max() < 0.1 * STEP


def test_without_bandwidth_expansion_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "_EXPANSION", 1.0)
    x = speechlike(0) + STEP * (np.random.default_rng(0).random(2 * RATE) - 0.5)
    back = synthesise(analyse(x, ORDER, FORGETTING), ORDER, FORGETTING)
    assert np.abs(back - x).max() > 100 * STEP


@pytest.mark.parametrize("name", HARD)
def test_any_sound_gives_numbers_both_ways(name: str) -> None:
    x = HARD[name]
    with np.errstate(over="ignore"):
        e = analyse(x, ORDER, FORGETTING)
        assert np.abs(e - x).max() <= 1.0 + 1e-9 * np.abs(x).max()  # a prediction's bound
        back = synthesise(e, ORDER, FORGETTING)
        assert np.isfinite(back).all()
        driven = synthesise(x, ORDER, FORGETTING)  # as residuals, which they are not
    assert np.abs(driven - x).max() <= 1.0 + 1e-9 * np.abs(x).max()


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 0.1, 10.0])
def test_noise_stays_as_loud_as_it_is(scale: float) -> None:
    """Nothing to predict: what a model might draw comes out at nearly its own level."""
    noise = scale * np.random.default_rng(0).standard_normal(5 * RATE)
    for out in (synthesise(noise, ORDER, FORGETTING), analyse(noise, ORDER, FORGETTING)):
        assert 0.9 < np.std(out) / scale < 1.6


# Frames


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("autoregressive")
    for i in range(4):
        x = np.round(autoregressive(2 * RATE, i) / STEP).astype(np.int16)
        soundfile.write(folder / f"{i}.flac", x, RATE)
    return folder


def module(root: Path, **kwargs: object) -> AudioDataModule:
    given = {"kind": "residual", "frame_length": 20, "window": 8, "warmup": 1, **kwargs}
    return AudioDataModule(str(root), **given)  # type: ignore[arg-type]


def test_bits_per_sample_are_the_entropy_rate(corpus: Path) -> None:
    """A Gaussian of the source's noise on its residuals takes what the noise takes; on the samples
    themselves a Gaussian takes more."""
    rate = 0.5 * np.log2(2 * np.pi * np.e * 1000**2)
    bits = {}
    for kind in ("residual", "waveform"):
        data = module(corpus, kind=kind, predictor_order=2, forgetting=0.999)
        raw = data.destandardise(data.score_input(corpus / "0.flac").frames)[50:] / STEP
        scale = 1000 if kind == "residual" else np.std(raw)
        log_prob = -0.5 * (raw / scale) ** 2 - np.log(np.sqrt(2 * np.pi) * scale * STEP)
        found = data.bits_per_sample(float(log_prob.sum(-1).mean()) + data.log_scale)
        assert found is not None
        bits[kind] = found
    assert bits["residual"] == pytest.approx(rate, abs=0.02)
    assert bits["waveform"] > rate + 0.5


def test_bits_are_told_of_the_files_own_integers_only(corpus: Path) -> None:
    assert module(corpus).bit_depth == 16
    assert module(corpus, sample_rate=8000).bits_per_sample(-1.0) is None
    assert module(corpus, normalise="peak").bits_per_sample(-1.0) is None


@pytest.mark.parametrize("n_frames", [50, 1600])
def test_frames_from_the_beginning_are_written_as_the_sound_they_are(
    corpus: Path, tmp_path: Path, n_frames: int
) -> None:
    data = module(corpus)
    frames = data.score_input(corpus / "1.flac").frames[:n_frames]
    wav, _ = data.render(frames, tmp_path / "start")
    written, source = soundfile.read(wav)[0], soundfile.read(corpus / "1.flac")[0]
    assert len(written) == 20 * n_frames
    inside = slice(100, len(written) - 100)  # without the fades
    assert np.abs(written - source[: len(written)])[inside].max() <= STEP * 1.01
    later = data.render(frames[10:], tmp_path / "later")[0]  # the fault, were a start left out
    assert np.abs(soundfile.read(later)[0][100:400] - source[300:600]).max() > 100 * STEP

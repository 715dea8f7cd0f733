"""Innovation frames: their density is that of the samples, wherever a likelihood is told."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from pytorch_lightning.loggers import CSVLogger
from sounds import STEP

from rnade_lightning.callbacks import Comparison, Likelihood
from rnade_lightning.commands import score
from rnade_lightning.datamodules import AudioDataModule, DataError
from rnade_lightning.datamodules.sound.gain import AdaptiveStudent
from rnade_lightning.datamodules.sound.predictor import analyse, synthesise
from rnade_lightning.lightning_module import RNNRNADEModule


def module(root: Path, **kwargs: object) -> AudioDataModule:
    given = {"kind": "innovation", "frame_length": 20, "window": 8, "warmup": 1, **kwargs}
    return AudioDataModule(str(root), **given)  # type: ignore[arg-type]


def log_scales(residuals: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return the log scales by the module's equations, one step at a time: the averages are of
    residuals of integers, with the mean over their noise."""
    floor, reference = STEP / np.sqrt(12), 2.0**-10
    averages, found = {0.8: reference, 0.98: reference}, []
    of_integers = (np.round(samples / STEP) * STEP - (samples - residuals)) / STEP
    for r in np.abs(of_integers):
        size = STEP * (r if r >= 0.5 else r * r + 0.25)
        fast, slow = (np.log(v + floor) for v in averages.values())
        found.append(0.6 * fast + 0.3 * slow + 0.1 * np.log(reference))
        averages = {phi: phi * v + (1 - phi) * min(size, 1) for phi, v in averages.items()}
    return np.array(found)


@pytest.mark.slow
def test_density_of_innovations_is_that_of_residuals(linear_corpus: Path) -> None:
    """A Gaussian of the scale of each residual, taken sample by sample, takes the same bits."""
    plain, scaled = (
        module(linear_corpus, kind=kind, seed=1) for kind in ("residual", "innovation")
    )
    path = linear_corpus / "0.flac"
    r = plain.destandardise(plain.score_input(path).frames).reshape(-1)
    scales = log_scales(r, synthesise(r, 24, 0.994))
    expected = -0.5 * (r / np.exp(scales)) ** 2 - scales - 0.5 * np.log(2 * np.pi)
    sequence = scaled.score_input(path)
    assert scaled.n_features == 20
    assert scaled.dropped == {}
    e = scaled.destandardise(sequence.frames)[:, :20]
    log_p = (-0.5 * e**2 - 0.5 * np.log(2 * np.pi)).sum(1) + sequence.log_jacobian.numpy()
    np.testing.assert_allclose(log_p, expected.reshape(-1, 20).sum(1), atol=2e-3)
    mean = expected.mean() * 20
    bits = [data.bits_per_sample(mean + data.log_scale) for data in (plain, scaled)]
    assert bits[0] == pytest.approx(bits[1], abs=1e-9)


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.slow
def test_batches_carry_the_log_jacobian(linear_corpus: Path, stateful: bool) -> None:
    data = module(linear_corpus, kind="innovation", stateful=stateful)
    whole = {s.frames.numpy().tobytes(): s.log_jacobian for s in data.sequences("test")}
    (key,), (expected,) = whole.keys(), whole.values()
    found = [(b["frames"], b["log_jacobian"], b["mask"]) for b in data.test_dataloader()]
    frames, log_jacobian, mask = (torch.cat(x, 1) for x in zip(*found, strict=True))
    assert frames[mask].numpy().tobytes() == key
    assert torch.equal(log_jacobian[mask], expected)
    assert expected.std() > 0
    assert not log_jacobian[~mask].any()
    waves = module(linear_corpus, kind="waveform")
    assert not any(batch["log_jacobian"].any() for batch in waves.test_dataloader())


@pytest.mark.slow
def test_frames_from_the_beginning_are_the_sound_they_are(
    linear_corpus: Path, tmp_path: Path
) -> None:
    data = module(linear_corpus, kind="innovation")
    frames = data.score_input(linear_corpus / "1.flac").frames[:200]
    written = soundfile.read(data.render(frames, tmp_path / "start")[0])[0]
    source = soundfile.read(linear_corpus / "1.flac")[0][: len(written)]
    assert np.abs(written - source)[100:-100].max() <= STEP * 1.01


def after_test(data: AudioDataModule, folder: Path) -> tuple[dict[str, float], dict[str, Any], Any]:
    """Return the figures of a short training, the table after its test by name, and its trainer."""
    torch.manual_seed(0)
    model = RNNRNADEModule(data.n_features, 4, 5, 2)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=CSVLogger(folder), enable_progress_bar=False,
        callbacks=[Likelihood(), Comparison(n_samples=2, n_mean=1)], enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    told = {k: float(v) for k, v in trainer.callback_metrics.items()}
    trainer.test(model, datamodule=data, verbose=False)
    told |= {k: float(v) for k, v in trainer.callback_metrics.items()}
    with open(Path(str(trainer.log_dir), "comparison.csv")) as file:
        return told, {row["name"]: row for row in csv.DictReader(file)}, trainer


@pytest.mark.slow
def test_likelihood_is_of_the_signal_wherever_it_is_told(
    linear_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = module(linear_corpus, kind="innovation", warmup=3)
    told, table, trainer = after_test(data, tmp_path)
    model = trainer.lightning_module.model
    (held_out,) = data.sequences("test")
    with torch.no_grad():
        log_p = model.log_prob(held_out.frames[None])[0] + held_out.log_jacobian
    mean = log_p[3:].mean().item()
    assert told["test/nll"] == pytest.approx(-mean, abs=1e-3)
    assert told["val/nll"] == pytest.approx(-mean, abs=5)  # another file of the same source
    assert float(table["RNNRNADE"]["log_prob"]) == pytest.approx(mean, abs=1e-3)
    bits = data.bits_per_sample(mean)
    assert float(table["RNNRNADE"]["bits_per_sample"]) == pytest.approx(bits, abs=1e-4)
    with open(Path(trainer.log_dir) / "likelihood" / "by_frame.csv") as file:
        rows = list(csv.DictReader(file))
    by_frame = [float(row["log_prob"]) for row in rows]
    np.testing.assert_allclose(by_frame, log_p, atol=1e-3)
    for key, name in (("var", "VAR"), ("copy_last", "copy the last frame")):
        assert np.mean([float(row[key]) for row in rows[3:]]) == pytest.approx(
            float(table[name]["log_prob"]), abs=1e-3
        )
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    capsys.readouterr()
    name = next(p for p in sorted(linear_corpus.iterdir()) if held_out.name.startswith(p.stem))
    score(str(tmp_path / "m.ckpt"), str(name))
    scored = [float(row["log_prob"]) for row in csv.DictReader(capsys.readouterr().out.split("\n"))]
    np.testing.assert_allclose(scored, log_p, atol=1e-3)
    predicted = trainer.predict(trainer.lightning_module, data.predict_dataloader())
    np.testing.assert_allclose(predicted[0]["log_prob"][0], log_p, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["waveform", "residual", "innovation"])
def test_the_predictor_alone_is_a_row_of_the_table(
    linear_corpus: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    """Its bits do not depend on the kind of the model's frames. They are about those of the source,
    a Gaussian of 1000 steps. The model's own row and the others have bits too."""
    data = module(linear_corpus, kind=kind, warmup=3, predictor_order=2, forgetting=0.999)
    table = after_test(data, tmp_path)[1]
    bits = {name: float(row["bits_per_sample"]) for name, row in table.items()}
    assert list(bits)[3:] == ["RLS(2), adaptive Student"]
    rate = 0.5 * np.log2(2 * np.pi * np.e * 1000**2)
    assert rate < bits["RLS(2), adaptive Student"] < rate + 0.15
    path = next(
        p for p in sorted(linear_corpus.iterdir()) if p.stem == data.sequences("test")[0].name
    )
    x = soundfile.read(path)[0]
    x += STEP * (np.random.default_rng(1).random(len(x)) - 0.5)  # other noise
    log_p = AdaptiveStudent([analyse(x, 2, 0.999)]).log_prob(analyse(x, 2, 0.999))[60:]
    expected = -log_p.mean() / np.log(2) + 15
    assert bits["RLS(2), adaptive Student"] == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_a_log_jacobian_that_is_left_out_is_seen(
    linear_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forgotten(self: Any, raw: Any, *args: Any) -> torch.Tensor:
        return torch.zeros(len(raw))

    monkeypatch.setattr(
        "rnade_lightning.datamodules.core.standardise.Standardiser.log_jacobian", forgotten
    )
    bits = float(
        after_test(module(linear_corpus, kind="innovation"), tmp_path)[1]["RNNRNADE"][
            "bits_per_sample"
        ]
    )
    assert bits > 16  # more than the samples have


def test_the_log_jacobian_of_frames_is_known_from_them_alone(linear_corpus: Path) -> None:
    """So of what a model drew as well: the gallery's figures include it."""
    data = module(linear_corpus)
    sequence = data.score_input(linear_corpus / "0.flac")
    found = data.log_jacobian(sequence.frames)
    np.testing.assert_allclose(found, sequence.log_jacobian, atol=1e-4)
    assert sequence.log_jacobian.std() > 0.1
    assert not module(linear_corpus, kind="residual").log_jacobian(sequence.frames).any()


def test_a_code_length_below_zero_is_refused(linear_corpus: Path) -> None:
    """A density of one step of the integers takes 0 bits: 4 standard errors below is too few."""
    data = module(linear_corpus, kind="waveform")
    zero = 20 * 15 * np.log(2) + data.log_scale
    noise = np.random.default_rng(0).normal(size=400)
    noise -= noise.mean()
    data.check_likelihood("a", zero + noise)
    data.check_likelihood("a", zero + noise + 3 / 20)
    with pytest.raises(DataError, match=r"a: -0\.\d+ bits per sample, and no code is shorter"):
        data.check_likelihood("a", zero + noise + 5 / 20)
    module(linear_corpus, kind="log_mel", n_mels=40).check_likelihood("a", 1e9 + noise)

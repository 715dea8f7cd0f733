"""Kinds of integers and of side information: nothing is lost, and bits are those of a mass."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from exact import DiscreteLogistic, ExactModule, integers, side_of, write_integers
from sounds import RATE, audio_module, tone
from toy import refused

from rnade_lightning.__main__ import main
from rnade_lightning.callbacks.fitted_baselines import FittedBaselines
from rnade_lightning.datamodules import AudioDataModule, DataError
from rnade_lightning.ensemble import Ensemble
from rnade_lightning.lightning_module import RNNRNADEModule

L, LENGTHS = 10, (1500, 1403, 1209, 1000, 1307)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_integers(tmp_path_factory.mktemp("integers"), LENGTHS)


def module(root: Path, kind: str = "exact.Exact", **kwargs: Any) -> AudioDataModule:
    return audio_module(root, kind=kind, frame_length=L, **kwargs)


# Integers, all the way


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact.Exact", "exact.Plain"])
@pytest.mark.parametrize("bits", [8, 16, 24])
def test_integers_are_read_and_written_exactly(tmp_path: Path, kind: str, bits: int) -> None:
    root = write_integers(tmp_path / "in", LENGTHS, bits)
    data = module(root, kind)
    whole = data.score_input(root / "1.wav")
    kept = integers(LENGTHS[1], 1, bits)[: LENGTHS[1] // L * L]
    assert whole.frames.dtype == torch.float32
    np.testing.assert_array_equal(whole.frames.double().reshape(-1), kept)
    wav, png = data.render(whole.frames, tmp_path / "out", context=whole.context)
    depth = {8: "int16", 16: "int16", 24: "int32"}[bits]
    written, source = (soundfile.read(x, dtype=depth)[0] for x in (wav, root / "1.wav"))
    np.testing.assert_array_equal(written, source[: len(written)])
    assert len(written) == len(kept)
    assert png.exists()
    assert (data.bit_depth, data.noise_scale, data.log_scale) == (bits, 0.0, 0.0)
    state = data.state_dict()["standardiser"]
    assert (state["mean"] == 0).all()
    assert (state["std"] == 1).all()


def test_no_feature_is_scaled_or_left_out_whatever_is_set(tmp_path: Path) -> None:
    """Digital silence on every second sample, and a file that is silent."""
    for i in range(5):
        x = integers(1000, i) * (np.arange(1000) % 2) * (i > 0)
        soundfile.write(tmp_path / f"{i}.wav", x.astype(np.int16), RATE)
    data = module(tmp_path, standardise=True)
    assert (data.n_features, data.dropped) == (L, {})
    assert data.units == "steps of the integers"
    assert not any(s.breaks for s in data.sequences("test"))


def test_samples_are_rounded_where_a_bit_depth_is_given(tmp_path: Path) -> None:
    for name, options in (
        ("float.wav", {"subtype": "FLOAT"}), ("lossy.mp3", {}), ("mixed.wav", {"stereo": True}),
    ):  # fmt: skip
        path = tone(tmp_path / name, **options)
        data = module(path, split="tail", bit_depth=12, normalise="peak", sample_rate=8000)
        frames = np.concatenate([s.frames for part in ("train", "val", "test")
                                 for s in data.sequences(part)])  # type: ignore[arg-type]  # fmt: skip
        np.testing.assert_array_equal(frames, np.round(frames))
        assert 2000 < np.abs(frames).max() <= 2048
        assert frames.max() <= 2047
        assert data.bit_depth == 12
    path = tone(tmp_path / "a.wav")
    exact, _ = soundfile.read(path)
    found = module(path, split="tail", bit_depth=8).score_input(path).frames.reshape(-1)
    np.testing.assert_array_equal(found, np.round(exact * 128))


def test_a_sound_whose_integers_frames_cannot_keep_is_refused_by_name(tmp_path: Path) -> None:
    """24 bits that jump by full scale: an innovation in float32 is that of another integer."""
    write_integers(tmp_path, LENGTHS)
    noise = np.random.default_rng(0).uniform(-0.99, 0.99, 4000)
    soundfile.write(tmp_path / "loud.wav", noise, RATE, subtype="PCM_24")
    said = r"loud\.wav: sample \d+ .* another integer: set bit_depth to 16"
    with pytest.raises(DataError, match=said):
        module(tmp_path, "experts").setup()
    data = module(tmp_path, "experts", bit_depth=16)
    frames = data.score_input(tmp_path / "loud.wav").frames
    samples, _ = soundfile.read(data.render(frames, tmp_path / "out")[0], dtype="int16")
    np.testing.assert_allclose(samples, noise[: len(samples)] * 2**15, atol=0.51)


@pytest.mark.parametrize(
    ("name", "wrote", "options", "said"),
    [
        ("float.wav", {"subtype": "FLOAT"}, {}, r"float\.wav: stores no integers .*set bit_depth"),
        ("lossy.mp3", {}, {}, r"lossy\.mp3: stores no integers \(lossy or floating-point\)"),
        ("both.wav", {"stereo": True}, {}, r"both\.wav: is mixed, resampled or normalised"),
        ("a.wav", {}, {"sample_rate": 8000}, r"a\.wav: is mixed, resampled or normalised, so that"),
        ("a.wav", {}, {"normalise": "rms"}, r"its integers are gone, .* or choose another kind"),
        ("wide.wav", {"subtype": "PCM_32"}, {}, r"wide\.wav: .*32 bits, .* set bit_depth 24 to"),
    ],
)
def test_files_without_integers_are_refused(
    tmp_path: Path, name: str, wrote: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    path = tone(tmp_path / name, **wrote)
    with pytest.raises(DataError, match=said) as caught:
        module(path, split="tail", **options).setup()
    assert "\n" not in str(caught.value)
    module(path, "waveform", split="tail", **options).setup()


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("exact.Plain", {"control": ["integer_0"]}, "models every integer .*: leave control out"),
        ("exact.Plain", {"ignore": ["integer_0"]}, "models every integer .*: leave ignore out"),
        ("exact.Exact", {"labels": "parent"}, "known of every feature: leave labels out"),
        ("exact.Guessed", {"control_files": "{name}.csv", "labels": "parent"},
         "known of every feature: leave labels and control_files out"),
        ("exact.Plain", {"bit_depth": 25}, "24 bits at most: set bit_depth to that or less"),
    ],
)  # fmt: skip
def test_options_that_contradict_the_kind_are_refused(
    kind: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=f"kind {kind} .*{said}"):
        module(Path("gone"), kind, **options)


def test_files_of_several_depths_are_brought_to_one(tmp_path: Path) -> None:
    write_integers(tmp_path, LENGTHS)
    soundfile.write(tmp_path / "wide.wav", np.zeros(900), RATE, subtype="PCM_24")
    with pytest.raises(DataError, match=r"wide\.wav: .*24 here and 16 there \(set bit_depth to ro"):
        module(tmp_path).setup()
    assert module(tmp_path, bit_depth=16).bit_depth == 16


# Bits


def test_bits_are_those_of_a_mass_and_never_below_zero(files: Path) -> None:
    data = module(files)
    assert data.log_mass
    assert data.bits_per_sample(-L * np.log(8)) == pytest.approx(3.0)  # each of 8 is as likely
    assert data.bits_per_sample(0.0) == data.bits_per_sample(1e-5) == 0.0
    assert data.bits_per_sample(-np.inf) == np.inf
    with pytest.raises(DataError, match=r"log p is 0\.7, .* is at most 0"):
        data.bits_per_sample(0.7)
    data.check_likelihood("a", np.array([-3.0, -np.inf, 1e-5]))
    with pytest.raises(DataError, match=r"1\.wav: log p is 2, .* is no log mass"):
        data.check_likelihood("1.wav", np.array([-50.0] * 99 + [2.0]))


def test_the_model_of_these_tests_is_a_mass() -> None:
    """Over all integers its masses add up to 1, so that the bits below are those of a code."""
    model = DiscreteLogistic(1).double()
    context = torch.tensor([3.0, 4.0], dtype=torch.float64).expand(1, 801, 2)
    frames = torch.arange(-400, 401).double()[None, :, None]
    assert float(model.log_prob(frames, context=context).exp().sum().detach()) == pytest.approx(
        1, abs=1e-9
    )


def test_bits_of_a_file_are_those_computed_by_hand(files: Path) -> None:
    data = module(files)
    model = DiscreteLogistic(data.n_features, 2)
    s = data.score_input(files / "2.wav")
    log_p = model.log_prob(s.frames[None], context=s.context[None])[0].detach()
    x = integers(LENGTHS[2], 2)[: LENGTHS[2] // L * L].astype(float)
    mean, scale = side_of(x).T
    low, high = ((half - np.abs(x - mean)) / scale for half in (-0.5, 0.5))  # it is symmetric
    mass = 1 / (1 + np.exp(-high)) - 1 / (1 + np.exp(-low))
    wanted = -np.log2(mass).mean()
    assert data.bits_per_sample(float(log_p.mean())) == pytest.approx(wanted, abs=1e-3)


# Side information


def test_side_information_is_that_of_its_samples(files: Path) -> None:
    data = module(files)
    s = data.score_input(files / "0.wav")
    assert (data.n_context, data.context_by_feature) == (2, True)
    wanted = side_of(s.frames.double().reshape(-1).numpy()).astype(np.float32)
    np.testing.assert_array_equal(s.context, wanted.reshape(-1, L, 2))


def test_frames_and_rivals_do_not_change_where_side_information_is_added(files: Path) -> None:
    plain, guessed = module(files, "waveform"), module(files, "exact.Guessed")
    ours, theirs = guessed.sequences("test")[0], plain.sequences("test")[0]
    assert torch.equal(ours.frames, theirs.frames)
    assert guessed.bits_per_sample(-1.0) == plain.bits_per_sample(-1.0)
    of_ours, of_theirs = (FittedBaselines(3, 1000).fitted(d, "test") for d in (guessed, plain))
    for one, other in zip(of_ours, of_theirs, strict=True):
        found = one.log_prob(ours.with_context(), 3)
        assert torch.equal(found, other.log_prob(theirs.with_context(), 3))


# Runs

RUN = (
    "--data=AudioDataModule", f"--data.frame_length={L}", "--data.window=16", "--data.warmup=3",
    "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
    "--trainer.logger=CSVLogger", "--trainer.logger.name=run",
    "--trainer.enable_model_summary=false",
)  # fmt: skip
CALLBACKS = ("--trainer.callbacks=Comparison", "--trainer.callbacks.n_samples=2",
             "--trainer.callbacks+=Likelihood", "--trainer.callbacks+=LastCheckpoint")  # fmt: skip


def run(files: Path, folder: Path, kind: str, *more: str) -> list[str]:
    where = (f"--data.root={files}", f"--data.kind={kind}", f"--trainer.logger.save_dir={folder}")
    return [*RUN, *where, *CALLBACKS, *more]


def table(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "run" / "version_0" / "comparison.csv") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.parametrize("stateful", ["false", "true"])
def test_a_model_of_a_mass_trains_and_prints_its_bits(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stateful: str
) -> None:
    model = (
        "--trainer.callbacks+=Samples",
        "--model=exact.ExactModule",
        f"--data.stateful={stateful}",
        "--optimizer.lr=0.1",
    )
    main(["fit", *run(files, tmp_path, "exact.Exact", *model)])
    said = capsys.readouterr().out
    rows = table(tmp_path)
    ours = rows.pop("DiscreteLogistic")
    data = module(files)
    bits = float(ours["bits_per_sample"])
    assert bits == pytest.approx(data.bits_per_sample(float(ours["log_prob"])))
    assert 8 < bits < 11  # of a sound whose innovations are 2**8 steps
    assert len(rows) == 2
    assert {row["bits_per_sample"] for row in rows.values()} == {""}  # of densities, no bits
    assert "that of copy and VAR a log density" in said
    checkpoint = tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt"
    pretrained = tmp_path / "pretrained"
    trained = ExactModule.load_from_checkpoint(checkpoint)
    trained.save_pretrained(pretrained)
    s = module(files).score_input(files / "3.wav")
    wanted = trained.model.log_prob(s.frames[None], context=s.context[None])[0].tolist()
    for source in (checkpoint, pretrained):
        out = tmp_path / "scores.csv"
        main(["score", f"--ckpt_path={source}", f"--files={files / '3.wav'}", f"--out={out}"])
        with out.open() as file:
            scored = list(csv.DictReader(file))
        assert [float(row["log_prob"]) for row in scored] == pytest.approx(wanted, rel=1e-6)
        assert all(float(row["bits_per_sample"]) >= 0 for row in scored)
        said = refused(capsys, "sample", f"--ckpt_path={source}", f"--out={tmp_path}")
        assert "no samples can be drawn" in said


@pytest.mark.slow
def test_a_net_given_side_information_trains_and_its_rivals_stay(
    files: Path, tmp_path: Path
) -> None:
    small = ("--model.n_hidden=4", "--model.n_recurrent=4")
    for name, kind in (("side", "exact.Guessed"), ("plain", "waveform")):
        main(["fit", *run(files, tmp_path / name, kind, *small)])
    ours, theirs = table(tmp_path / "side"), table(tmp_path / "plain")
    for name in ("VAR", "copy the last frame"):
        own = {key for key in ours[name] if "difference" not in key}  # which is to the model
        assert {key: ours[name][key] for key in own} == {key: theirs[name][key] for key in own}
    assert float(ours["RNNRNADE"]["log_prob"]) != float(theirs["RNNRNADE"]["log_prob"])
    path = tmp_path / "side" / "run" / "version_0" / "checkpoints" / "last.ckpt"
    arguments = torch.load(path, weights_only=True)["hyper_parameters"]
    assert (arguments["n_context"], arguments["context_by_feature"]) == (2, True)
    assert "C_mu" in RNNRNADEModule.load_from_checkpoint(path).model.state_dict()


def trainer(folder: Path) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=1, limit_train_batches=1, limit_val_batches=0, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_mass_and_a_density_are_not_taken_for_each_other(
    files: Path, tmp_path: Path, command: str
) -> None:
    exact, guessed = module(files), module(files, "exact.Guessed")
    density = RNNRNADEModule(L, 2, 2, 1, n_context=2, context_by_feature=True)
    mass = ExactModule(L, 2, True)
    with pytest.raises(ValueError, match="log p of RNNRNADE is no log mass of integers: give a mo"):
        getattr(trainer(tmp_path), command)(density, datamodule=exact)
    with pytest.raises(ValueError, match="DiscreteLogistic is a log mass of integers, and the fra"):
        getattr(trainer(tmp_path), command)(mass, datamodule=guessed)
    getattr(trainer(tmp_path), command)(mass, datamodule=exact)


def test_an_ensemble_is_of_masses_or_of_none() -> None:
    both = Ensemble([DiscreteLogistic(L), DiscreteLogistic(L)])
    assert both.log_mass
    assert both.context_by_feature
    frames, context = torch.randn(1, 4, L).round(), torch.rand(1, 4, L, 2) + 1
    one = both.members[0].log_prob(frames, context=context)
    torch.testing.assert_close(both.log_prob(frames, context=context), one)
    other = RNNRNADEModule(L, 2, 2, 1, n_context=2, context_by_feature=True).model
    with pytest.raises(ValueError, match="a log mass for some members"):
        Ensemble([DiscreteLogistic(L), other])

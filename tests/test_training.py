"""Training through the command line: what a run leaves, resumes, refuses and never changes."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from toy import ToyDataModule, write_toy_data

from rnade_lightning import callbacks
from rnade_lightning.__main__ import main
from rnade_lightning.lightning_module import RNNRNADEModule, load_checkpoint, load_model

SMALL = (
    "--model.n_hidden=4",
    "--model.n_recurrent=5",
    "--data=toy.ToyDataModule",
    "--data.window=16",
    "--data.batch_size=3",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)


def options(root: Path, runs: Path, *more: str) -> list[str]:
    logger = ("--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={runs}")
    return [*SMALL, f"--data.root={root}", *logger, "--trainer.logger.name=toy", *more]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fit(root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs ``fit`` and returns the run folder."""

    def run(*more: str, name: str = "a") -> Path:
        main(["fit", *options(root, tmp_path / name, "--trainer.max_epochs=2", *more)])
        return tmp_path / name / "toy" / "version_0"

    return run


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv") as file:
        return list(csv.DictReader(file))


def value(folder: Path, key: str) -> float:
    return float([row[key] for row in read_metrics(folder) if row.get(key)][-1])


def process(*args: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}  # it has its own
    environment = inherited | {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"}
    done = subprocess.run(
        [sys.executable, "-m", "rnade_lightning", *args],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert not ok or done.returncode == 0, done.stderr
    return done


def test_a_run_leaves_what_it_promises(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # the default loggers: CSV and W&B
    main(["fit", *SMALL, f"--data.root={root}", "--trainer.max_epochs=2"])
    folder = tmp_path / "runs" / "motion" / "version_0"
    for name in (
        "metrics.csv", "config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt",
        "comparison.csv", "comparison.md", "likelihood/by_frame.csv", "likelihood/by_feature.csv",
        "likelihood/likelihood.png", "samples/test_free.npy", "samples/test_continuation.npy",
        "samples/test_one_step.npy", "samples/index.html", "run.json", "gradcheck/by_step.csv",
        "gradcheck/table.md",
    ):  # fmt: skip
        assert (folder / name).stat().st_size > 0, name
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert not (tmp_path / "wandb").exists()
    printed = capsys.readouterr().out
    assert "VAR(3)" in printed
    assert "copy the last frame" in printed
    assert "runs/motion/version_0" in printed
    keys = set().union(*(row.keys() for row in read_metrics(folder)))
    assert {"train/nll", "val/nll", "val/nll_raw", "test/nll", "grad_norm/total"} <= keys
    assert {"gradcheck/algorithm", "gradcheck/difference"} <= keys


def test_checkpoint_round_trip(fit: Callable[..., Path], root: Path) -> None:
    path = fit() / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(str(path))
    data, model = ToyDataModule.from_checkpoint(checkpoint), load_model(checkpoint)
    frames = data.score_input(root / "take0.npy").frames[None]
    again = RNNRNADEModule.load_from_checkpoint(path, weights_only=True).eval()
    assert torch.equal(again(frames), model.log_prob(frames))
    assert same_bits(again.state_dict(), weights(path))


def test_nll_is_the_true_mean_over_frames_of_unequal_sequences(
    fit: Callable[..., Path], root: Path
) -> None:
    folder = fit("--data.batch_size=2", "--trainer.limit_train_batches=2")
    checkpoint = load_checkpoint(str(folder / "checkpoints" / "last.ckpt"))
    model = load_model(checkpoint)
    data = ToyDataModule(root=str(root), window=16)
    log_p = [model.log_prob(s.frames[None])[0, 3:] for s in data.sequences("val")]
    assert len({len(v) for v in log_p}) > 1
    assert value(folder, "val/nll") == pytest.approx(-torch.cat(log_p).mean().item(), rel=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_states_carried_through_windows_give_the_likelihood_of_whole_sequences(
    fit: Callable[..., Path], root: Path, cell: str
) -> None:
    stateful = ("--data.stateful=true", "--data.test_fraction=0.5", "--data.window=7")
    folder = fit(*stateful, f"--model.cell={cell}", "--trainer.max_epochs=3")
    model = load_model(load_checkpoint(str(folder / "checkpoints" / "best.ckpt")))
    data = ToyDataModule(root=str(root), window=7, test_fraction=0.5)
    log_p = torch.cat([model.log_prob(s.frames[None])[0, 3:] for s in data.sequences("test")])
    assert max(len(s.frames) for s in data.sequences("test")) > 40  # many windows
    assert value(folder, "test/nll") == pytest.approx(-log_p.mean().item(), rel=1e-4)


def test_killed_and_resumed_equals_never_killed(
    fit: Callable[..., Path], root: Path, tmp_path: Path
) -> None:
    noisy = ("--model=toy.NoisyModule", "--trainer.max_epochs=4")
    whole = fit(*noisy, name="whole")
    kill = (
        "--trainer.callbacks+=toy.KillAt",
        "--trainer.callbacks.step=9",
    )  # 4 or 5 steps an epoch
    killed = process("fit", *options(root, tmp_path / "killed", *noisy, *kill), ok=False)
    assert killed.returncode == -9
    last = tmp_path / "killed" / "toy" / "version_0" / "checkpoints" / "last.ckpt"
    assert 0 < torch.load(last, weights_only=True)["epoch"] + 1 < 4
    resumed = fit(*noisy, f"--ckpt_path={last}", name="resumed")
    expected = weights(whole / "checkpoints" / "last.ckpt")
    assert same_bits(expected, weights(resumed / "checkpoints" / "last.ckpt"))
    assert not same_bits(expected, weights(last))


def test_callbacks_change_no_weight(fit: Callable[..., Path]) -> None:
    noisy = "--model=toy.NoisyModule"
    often = ("--trainer.callbacks+=Samples", "--trainer.callbacks.every_n_epochs=1")
    checks = ("--trainer.callbacks+=GradientCheck", "--trainer.callbacks.every_n_steps=1")
    drawn = ("--trainer.callbacks+=Likelihood", "--trainer.callbacks.every_n_epochs=1")
    steps = "--trainer.log_every_n_steps=1"
    full = fit(noisy, *often, *checks, *drawn, steps, name="full")
    bare = fit(
        noisy,
        "--trainer.callbacks=ModelCheckpoint",
        "--trainer.callbacks.save_last=true",
        name="bare",
    )
    assert list((full / "samples").glob("epoch*"))
    assert list((full / "likelihood").glob("epoch*"))
    assert same_bits(
        weights(full / "checkpoints" / "last.ckpt"), weights(bare / "checkpoints" / "last.ckpt")
    )


def test_two_processes_give_the_likelihood_of_one(
    fit: Callable[..., Path], root: Path, tmp_path: Path
) -> None:
    path = fit() / "checkpoints" / "best.ckpt"
    odd = "--data.warmup=2"  # 33 scored frames: no even share for two
    for n in (1, 2):
        process(
            "test",
            *options(root, tmp_path / f"n{n}", f"--ckpt_path={path}", f"--trainer.devices={n}"),
            *("--trainer.strategy=ddp", odd),
        )
    one, two = (value(tmp_path / f"n{n}" / "toy" / "version_0", "test/nll") for n in (1, 2))
    assert two == pytest.approx(one, rel=1e-6)


def test_two_processes_take_the_steps_of_one(root: Path, tmp_path: Path) -> None:
    """The same global batches, the same mean over their frames: the same weights up to rounding."""
    for n, batch_size in ((1, 4), (2, 2)):
        more = (
            f"--trainer.devices={n}",
            "--trainer.strategy=ddp",
            f"--data.batch_size={batch_size}",
        )
        more += ("--model.dropout=0", "--model.input_noise=0", "--trainer.max_epochs=2")
        process("fit", *options(root, tmp_path / f"n{n}", *more))
    one, two = (
        weights(tmp_path / f"n{n}" / "toy" / "version_0" / "checkpoints" / "last.ckpt")
        for n in (1, 2)
    )
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-4), name


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(
    fit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        fit("--trainer.callbacks+=toy.SpoilAt", "--trainer.callbacks.step=7")
    assert "epoch 1, batch" in capsys.readouterr().err
    last = tmp_path / "a" / "toy" / "version_0" / "checkpoints" / "last.ckpt"
    assert all(torch.isfinite(w).all() for w in weights(last).values())


def test_a_wrong_gradient_stops_the_run_with_the_parameter(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = callbacks.gradient_check.rnn_rnade_gradients

    def planted(*args: Any, **kwargs: Any) -> Any:
        gradients, d_frames = right(*args, **kwargs)
        gradients["W_rec"] = gradients["W_rec"].T
        return gradients, d_frames

    monkeypatch.setattr(callbacks.gradient_check, "rnn_rnade_gradients", planted)
    with pytest.raises(SystemExit, match="1"):
        fit("--model.cell=tanh")
    assert "W_rec: algorithm and autograd differ" in capsys.readouterr().err


def test_the_module_trains_without_the_command_line(root: Path, tmp_path: Path) -> None:
    import pytorch_lightning as pl

    data = ToyDataModule(root=str(root), window=16)
    module = RNNRNADEModule(data.n_features, n_hidden=4, n_recurrent=5, cell="lstm")
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=CSVLogger(tmp_path), use_distributed_sampler=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    assert trainer.validate(module, data, verbose=False)[0]["val/nll"] < 20


@pytest.mark.parametrize(("size", "named"), [(torch.inf, "W_rec"), (1e38, "all parameters")])
def test_a_gradient_that_is_not_finite_is_named(size: float, named: str) -> None:
    module = RNNRNADEModule(3, n_hidden=4, n_recurrent=5, cell="tanh")
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    module.model.W_rec.grad = torch.full_like(module.model.W_rec, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RNNRNADEModule, "global_step", 7)
        with pytest.raises(FloatingPointError, match=f"gradient of {named}.* at step 7"):
            module.configure_gradient_clipping(module.configure_optimizers(), 1.0)


def test_averaged_weights_are_what_is_tested_and_kept(fit: Callable[..., Path], root: Path) -> None:
    averaged = ("--trainer.callbacks+=AveragedWeights", "--trainer.callbacks.decay=0.5")
    folder = fit("--trainer.callbacks+=AveragedWeights", *averaged)  # of two the last counts
    path = folder / "checkpoints" / "best.ckpt"
    saved = torch.load(path, weights_only=True)
    assert not same_bits(saved["state_dict"], saved["current_model_state"])
    model, data = load_model(load_checkpoint(str(path))), ToyDataModule(str(root), window=16)
    data.setup()
    log_p = [model.log_prob(x.frames[None])[0, data.warmup :] for x in data.sequences("test")]
    with torch.no_grad():
        nll = -torch.cat(log_p).mean().item()
    assert value(folder, "test/nll") == pytest.approx(nll, rel=1e-5)


def test_averaged_weights_go_on_where_they_were(fit: Callable[..., Path], tmp_path: Path) -> None:
    averaged = "--trainer.callbacks+=AveragedWeights"
    whole = fit(averaged, "--trainer.max_epochs=3") / "checkpoints" / "last.ckpt"
    half = fit(averaged, "--trainer.max_epochs=2", name="half") / "checkpoints" / "last.ckpt"
    again = fit(averaged, "--trainer.max_epochs=3", f"--ckpt_path={half}", name="again")
    assert same_bits(weights(whole), weights(again / "checkpoints" / "last.ckpt"))

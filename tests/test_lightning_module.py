"""Training: the loss over frames, windows and devices, and what stops a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset
from toy import (
    ToyDataModule,
    options,
    process,
    value,
    weights,
)

from rnade_lightning import RNNRNADE
from rnade_lightning.checkpoints import load_checkpoint, load_model
from rnade_lightning.densities import RNNDensity
from rnade_lightning.lightning_module import RNNDensityModule, RNNRNADEModule


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(root: Path, tmp_path: Path) -> None:
    """The global batches and the mean over their frames are the same, so the weights are, up to
    rounding."""
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


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_and_names_the_batch(
    fit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        fit("--trainer.callbacks+=toy.SpoilAt", "--trainer.callbacks.step=7")
    assert "epoch 1, batch" in capsys.readouterr().err
    last = tmp_path / "a" / "toy" / "version_0" / "checkpoints" / "last.ckpt"
    assert all(torch.isfinite(w).all() for w in weights(last).values())


def test_the_module_trains_without_the_command_line(root: Path, tmp_path: Path) -> None:

    data = ToyDataModule(root=str(root), window=16)
    module = RNNRNADEModule(data.n_features, n_hidden=4, n_recurrent=5, cell="lstm")
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=CSVLogger(tmp_path), use_distributed_sampler=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    assert trainer.validate(module, data, verbose=False)[0]["val/nll"] < 20


FRAMES = torch.randn(6, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
WHOLE = torch.ones(7, dtype=torch.bool)
LOADERS: dict[str, Any] = {
    "tensors": list(FRAMES),
    "tuples": TensorDataset(FRAMES),
    "dicts without a mask": [{"frames": x} for x in FRAMES],
    "tuples with a mask": TensorDataset(FRAMES, WHOLE.expand(6, 7)),
}


def trained_on(data: Any) -> list[torch.Tensor]:
    """Return the weights after two epochs, the figures of all stages and the predictions."""
    torch.manual_seed(0)
    module = RNNRNADEModule(3, n_hidden=4, n_recurrent=5, n_components=2, backend="torch").double()
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loader = DataLoader(data, 4)
    trainer.fit(module, loader, loader)
    figures = [
        trainer.validate(module, loader, verbose=False)[0]["val/nll"],
        trainer.test(module, loader, verbose=False)[0]["test/nll"],
    ]
    predicted = trainer.predict(module, loader)
    assert predicted is not None
    return [
        *module.parameters(),
        torch.tensor(figures),
        *(t for b in predicted for t in b.values()),
    ]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def of_full_batches() -> list[torch.Tensor]:
    return trained_on([{"frames": x, "mask": WHOLE, "scored": WHOLE} for x in FRAMES])


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_plain_loaders_train_as_full_batches_do(
    name: str, of_full_batches: list[torch.Tensor]
) -> None:
    for found, expected in zip(trained_on(LOADERS[name]), of_full_batches, strict=True):
        assert torch.equal(found, expected)


def test_padding_is_never_scored() -> None:
    module, mask = RNNRNADEModule(3, n_hidden=4, n_recurrent=5), torch.arange(7) < 4
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    padded = [{"frames": x, "mask": mask} for x in FRAMES]
    found = []
    for data in (padded, [batch | {"scored": torch.ones_like(mask)} for batch in padded]):
        (figures,) = trainer.validate(module, DataLoader(data, 4), verbose=False)
        found.append(figures["val/nll"])
    assert found[0] == found[1]


def test_frames_that_are_no_numbers_are_blamed_for_the_loss() -> None:
    frames = FRAMES.clone()
    frames[2, 3, 1] = torch.nan
    with pytest.raises(ValueError, match="frames of batch 0 hold nan or inf: mend the data"):
        trained_on(list(frames))


def test_a_loader_of_targets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not a batch of sequences; give frames"):
        trained_on(TensorDataset(FRAMES, FRAMES))


@pytest.mark.parametrize(("size", "named"), [(torch.inf, "W_rec"), (1e38, "all parameters")])
def test_a_gradient_that_is_not_finite_is_named(size: float, named: str) -> None:
    module = RNNRNADEModule(3, n_hidden=4, n_recurrent=5, cell="tanh")
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    spoilt = next(p for name, p in module.model.named_parameters() if name.endswith("W_rec"))
    spoilt.grad = torch.full_like(spoilt, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RNNRNADEModule, "global_step", 7)
        with pytest.raises(FloatingPointError, match=rf"gradient of \S*{named}.* at step 7"):
            module.configure_gradient_clipping(module.configure_optimizers(), 1.0)


# ------------------------------------------------------------------ hyperparameters


def test_hyperparameters_are_every_argument_that_counts() -> None:
    module = RNNRNADEModule(3, 4, 5, 2, "tanh", dropout=0.5, noise_scale=0.3)
    expected = {
        "n_features": 3, "n_hidden": 4, "n_recurrent": 5, "n_components": 2, "cell": "tanh",
        "dropout": 0.5, "noise_scale": 0.3, "floor": 0.3, "pretrain_epochs": 0, "lr": 1e-3,
    }  # fmt: skip
    assert {key: module.hparams[key] for key in expected} == expected
    parameters = inspect.signature(RNNRNADE.__init__).parameters
    assert set(parameters) - {"self", "kwargs"} <= set(module.hparams)
    again = RNNRNADEModule.from_hyperparameters(module.hparams)
    assert again.hparams == module.hparams
    assert again.model.floor == 0.3


def test_a_density_is_kept_as_its_path() -> None:
    density = {"class_path": "LowRankGaussian", "init_args": {"rank": 2}}
    module = RNNDensityModule(3, density, n_recurrent=4)
    path = "rnade_lightning.LowRankGaussian"
    assert module.hparams["density"] == density | {"class_path": path}
    assert isinstance(module.model, RNNDensity)
    assert module.model.density.rank == 2
    assert RNNDensityModule.from_hyperparameters(module.hparams).hparams == module.hparams


@pytest.mark.parametrize("density", ["Gauss", {"init_args": {}}, "_Parametric"])
def test_an_unknown_density_is_refused(density: Any) -> None:
    with pytest.raises(ValueError, match=r"is none of Gaussian, .*Flow|there is no class_path"):
        RNNDensityModule(3, density)


def test_a_wrong_argument_of_a_density_is_named() -> None:
    with pytest.raises(ValueError, match=r"density Gaussian: .*rank"):
        RNNDensityModule(3, {"class_path": "Gaussian", "init_args": {"rank": 2}})


def test_the_learning_rate_is_the_modules() -> None:
    optimizer = RNNRNADEModule(3, n_hidden=4, lr=0.25).configure_optimizers()
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]

"""A run starts where a linear predictor ends, and a resumed one where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.distributions import MultivariateNormal
from toy import ToyDataModule

from rnade_lightning.callbacks import LinearStart
from rnade_lightning.lightning_module import RNNRNADEModule
from rnade_lightning.rnade import RNADE


@pytest.mark.parametrize("linear", [True, False])
def test_rnade_starts_at_a_gaussian(linear: bool) -> None:
    """With one Gaussian component and no hidden units it is that Gaussian; without its linear path,
    the Gaussian of the features by themselves."""
    root = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    S = root @ root.T + 0.1 * torch.eye(4)
    rnade = RNADE(4, 0, 1, linear=linear).double()
    rnade.start_at(S)
    x = torch.randn(10, 4, dtype=torch.float64)
    whole = S if linear else S.diagonal().diag()
    expected = MultivariateNormal(torch.zeros(4, dtype=torch.float64), whole).log_prob(x)
    torch.testing.assert_close(rnade.log_prob(x), expected, rtol=1e-4, atol=1e-4)


def run(root: Path, callback: Any, ckpt_path: Path | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    data = ToyDataModule(str(root), window=16)
    module = RNNRNADEModule(
        3, 0, 4, 1, component="gaussian", lr=1e-9, conditioned=["mu"], **{"n_past": 2, **options}
    )
    trainer = pl.Trainer(
        max_epochs=1 if ckpt_path is None else 2, callbacks=[callback], logger=False,
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer, module, data


@pytest.mark.parametrize("order", [None, [2, 0, 1]])
def test_training_begins_at_the_linear_predictor(root: Path, order: Any) -> None:
    _, module, data = run(root, LinearStart(), feature_order=order)
    frames = [s.frames.double() for s in data.sequences("train")]
    model = module.model.double().eval()
    A = model.past_weights()
    left = torch.cat([x[2:] - x[1:-1] @ A[0].T - x[:-2] @ A[1].T for x in frames])
    S = left.T @ left / len(left)
    gaussian = MultivariateNormal(torch.zeros(3, dtype=torch.float64), S)
    with torch.no_grad():
        own = torch.cat([model.log_prob(x[None])[0, 2:] for x in frames])
    assert own.mean().item() == pytest.approx(gaussian.log_prob(left).mean().item(), abs=0.02)


@pytest.mark.parametrize("order", [None, [2, 0, 1]])
def test_a_model_that_whitens_starts_at_white_innovations(root: Path, order: Any) -> None:
    _, module, data = run(root, LinearStart(), feature_order=order, whiten=True)
    model = module.model.double().eval()
    white = torch.cat([
        model.unexplained(x[None], model.states(x[None])[0])[0, 2:]
        for x in (s.frames.double() for s in data.sequences("train"))
    ])  # fmt: skip
    torch.testing.assert_close(
        white.T @ white / len(white), torch.eye(3).double(), rtol=0.05, atol=0.05
    )
    assert (model.root.triu(1) == 0).all()
    assert model.floor == pytest.approx(0.01 * model.root.diagonal().min().item())


def test_a_features_own_past_may_have_a_ridge_of_its_own(root: Path) -> None:
    """The path is one regression for each feature if only its own past is free."""
    _, module, data = run(root, LinearStart(ridge=1e9, own_ridge=1e-6))
    A = module.model.past_weights().detach().double()
    off = A - torch.diag_embed(A.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 1e-4
    x = torch.cat([s.frames.double()[2:] for s in data.sequences("train")])
    past = torch.cat([
        torch.stack((s.frames.double()[1:-1], s.frames.double()[:-2]), -1)
        for s in data.sequences("train")
    ])  # fmt: skip
    for d in range(3):
        own = torch.linalg.lstsq(past[:, d], x[:, d, None]).solution[:, 0]
        torch.testing.assert_close(A[:, d, d], own, rtol=1e-3, atol=1e-3)


def test_a_resumed_run_is_left_alone(root: Path, tmp_path: Path) -> None:
    trainer, module, _ = run(root, LinearStart())
    with torch.no_grad():
        module.model.A.fill_(0.25)
    trainer.save_checkpoint(tmp_path / "at.ckpt")
    _, again, _ = run(root, LinearStart(), tmp_path / "at.ckpt")
    torch.testing.assert_close(again.model.A, torch.full((2, 3, 3), 0.25))


def test_arguments_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="ridge, own_ridge and context_ridge must be above 0"):
        LinearStart(ridge=0.0)
    with pytest.raises(ValueError, match="ridge, own_ridge and context_ridge must be above 0"):
        LinearStart(own_ridge=0.0)


@pytest.mark.parametrize(("callback", "n_past"), [(pl.Callback(), 2), (LinearStart(), 0)])
def test_a_model_that_whitens_says_that_it_lacks_its_units(
    root: Path, callback: Any, n_past: int
) -> None:
    with pytest.warns(UserWarning, match=r"model.whiten changes nothing .* LinearStart"):
        run(root, callback, whiten=True, n_past=n_past)

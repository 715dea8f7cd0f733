"""Averaged weights are what is tested and kept; training goes on from the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy import (
    ToyDataModule,
    same_bits,
    value,
    weights,
)

from rnade_lightning.checkpoints import load_checkpoint, load_model


@pytest.mark.slow
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


@pytest.mark.slow
def test_averaged_weights_go_on_where_they_were(fit: Callable[..., Path], tmp_path: Path) -> None:
    averaged = "--trainer.callbacks+=AveragedWeights"
    whole = fit(averaged, "--trainer.max_epochs=3") / "checkpoints" / "last.ckpt"
    half = fit(averaged, "--trainer.max_epochs=2", name="half") / "checkpoints" / "last.ckpt"
    fit(averaged, "--trainer.max_epochs=3", f"--ckpt_path={half}", name="half")  # in its folder
    assert same_bits(weights(whole), weights(half))

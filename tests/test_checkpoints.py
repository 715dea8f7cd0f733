"""Checkpoints: a round trip, classes of a person's own, trust, ensembles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from toy import (
    same_bits,
    weights,
)

from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.lightning_module import RNNRNADEModule


def test_checkpoint_round_trip(fit: Callable[..., Path], root: Path) -> None:
    path = fit() / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(str(path))
    data, model = load_data(checkpoint), load_model(checkpoint)
    frames = data.score_input(root / "take0.npy").frames[None]
    again = RNNRNADEModule.load_from_checkpoint(path, weights_only=True).eval()
    assert torch.equal(again(frames), model.log_prob(frames))
    assert same_bits(again.state_dict(), weights(path))

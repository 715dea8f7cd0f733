"""Declared noise, and nothing else, is added to frames."""

import pytest
import torch

from rnade_lightning.datamodules import MocapDataModule


def test_noise_is_as_large_as_declared_and_repeats() -> None:
    clean = MocapDataModule(representation="positions", noise=1e-9)
    noisy = MocapDataModule(representation="positions", noise=0.1)
    other = MocapDataModule(representation="positions", noise=0.1, seed=1)
    a, b, c = (d.sequences("test")[0].frames for d in (clean, noisy, other))
    assert (b - a).std().item() == pytest.approx(0.1, rel=0.02)
    assert torch.equal(b, noisy.sequences("test")[0].frames)
    assert not torch.equal(b, c)
    assert set(noisy.state_dict()["standardiser"]) == set(clean.state_dict()["standardiser"])

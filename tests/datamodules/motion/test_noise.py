"""Noise that is declared."""

import numpy as np
import torch

from rnade_lightning.datamodules.core.standardise import Standardiser
from rnade_lightning.datamodules.motion.noise import Noisy


def test_noise_depends_on_the_frames_and_the_seed_alone() -> None:
    raw = np.random.default_rng(0).normal(size=(4000, 3))
    clean = Standardiser.fit([raw], ["a", "b", "c"])
    noisy, other = (Noisy(**vars(clean), noise=0.1, seed=seed) for seed in (0, 1))
    added = noisy.forward(raw) - clean.forward(raw)
    assert torch.allclose(added.std(0), torch.full((3,), 0.1), rtol=0.1)
    assert torch.equal(noisy.forward(raw), noisy.forward(raw.copy()))
    assert not torch.equal(noisy.forward(raw), other.forward(raw))
    assert set(noisy.state()) == set(clean.state())

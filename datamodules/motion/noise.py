"""Noise that is declared for frames that obey constraints."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rnade_lightning.datamodules.core.standardise import Standardiser


@dataclass(frozen=True)
class Noisy(Standardiser):
    """Give frames noise, which depends on nothing but the frames and the seed."""

    noise: float = 0.0
    seed: int = 0

    def forward(self, raw: npt.ArrayLike) -> torch.Tensor:
        """Raw ``(..., D_raw)`` to standardised ``(..., D)`` with noise, float32."""
        frames = super().forward(raw)
        content = zlib.crc32(np.ascontiguousarray(raw).data)
        rng = np.random.default_rng([self.seed, content])
        drawn = self.noise * rng.standard_normal(frames.shape)
        return frames + torch.from_numpy(drawn.astype(np.float32))

    def state(self) -> dict[str, Any]:
        """The map without the noise, which the data module's arguments declare."""
        state = super().state()
        return {key: state[key] for key in state if key not in ("noise", "seed")}

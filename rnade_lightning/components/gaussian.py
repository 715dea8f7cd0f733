"""The Gaussian component (RNADE-MoG)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rnade_lightning.components import Component


class Gaussian(Component):
    """A Gaussian of mean mu and deviation sigma."""

    kernel = "gaussian"
    standard_variance = 1.0

    def log_standard(self, r: Tensor) -> Tensor:
        return -0.5 * r.square() - 0.5 * math.log(2 * math.pi)

    def slope(self, r: Tensor) -> Tensor:
        return -r

    def log_tail(self, r: Tensor) -> Tensor:
        wide = r if r.dtype == torch.float64 else r.float()  # torch has it for no narrower numbers
        return torch.special.log_ndtr(-wide).to(r.dtype)

    def noise(
        self, shape: Sequence[int], generator: torch.Generator | None, like: Tensor
    ) -> Tensor:
        return torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)

    def tilted(self, noise: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Move the draws by the slope."""
        noise = noise + slope
        return noise, 0.5 * slope.square() - slope * noise

r"""Several sequence models as one: the exact likelihood of their mixture, frame by frame.

$$p(x_t | x_{<t}) = \frac1M \sum_m p_m(x_t | x_{<t})$$

is a normalised density of a sequence whatever the members are: RNN-RNADEs that visit the features
in different orders (Uria, Murray, Larochelle 2014, arXiv 1310.1757, average orders of one net),
models of other seeds, or of other kinds.

Conventions:
    As in `sequence_model`. The state is that of all members side by side, and so is what a frame
    sees of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from rnade_lightning.density import FrameDensity
from rnade_lightning.sequence_model import SequenceModel


class Ensemble(SequenceModel):
    """A mixture of sequence models of the same frames, equally weighted at every frame.

    Args:
        members: the models.

    Examples:
        >>> from rnade_lightning import RNNRNADE
        >>> both = Ensemble([RNNRNADE(3, 8, 16, 2), RNNRNADE(3, 8, 16, 2, feature_order=1)])
        >>> both.log_prob(both.sample(n_frames=20, n_samples=4)[0]).shape
        torch.Size([4, 20])
    """

    def __init__(self, members: Sequence[SequenceModel]) -> None:
        nn.Module.__init__(self)
        sizes = {member.n_features for member in members}
        if len(sizes) != 1:
            raise ValueError(f"the members of an ensemble model {sorted(sizes)} features, not one")
        self._members = nn.ModuleList(members)
        self.n_features = sizes.pop()
        bounds = [0, *torch.tensor([member.n_history for member in members]).cumsum(0).tolist()]
        self._seen = [slice(*pair) for pair in pairwise(bounds)]

    @property
    def members(self) -> list[SequenceModel]:
        """The models."""
        return cast(list[SequenceModel], list(self._members))

    @property
    def density(self) -> FrameDensity:
        raise NotImplementedError("an ensemble has the densities of its members")

    @property
    def floor(self) -> float:
        return min(member.floor for member in self.members)

    @property
    def n_history(self) -> int:
        return self._seen[-1].stop

    def initial_state(self, batch_size: int) -> Tensor:
        return self._join([member.initial_state(batch_size) for member in self.members])

    def states(
        self, frames: Tensor, u: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        u = self.initial_state(len(frames)) if u is None else u
        pairs = [
            member.states(frames, own, mask)
            for member, own in zip(self.members, self._part(u), strict=True)
        ]
        seen, last = zip(*pairs, strict=True)
        return torch.cat(seen, -1), self._join(last)

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        parts = zip(self.members, self._part(u), strict=True)
        return self._join([member.step(x, own) for member, own in parts])

    def log_prob_given(self, seen: Tensor, frames: Tensor) -> Tensor:
        each = torch.stack(self._each(lambda m, own: m.log_prob_given(own, frames), seen))
        return torch.logsumexp(each, 0) - math.log(len(each))

    def feature_log_prob_given(self, seen: Tensor, frames: Tensor) -> Tensor:
        raise NotImplementedError("an ensemble has no terms by feature")

    def feature_cdf_given(self, seen: Tensor, frames: Tensor) -> Tensor:
        raise NotImplementedError("an ensemble has no order of features")

    def sample_given(
        self,
        seen: Tensor,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        draws = torch.stack(
            self._each(
                lambda m, own: m.sample_given(own, sample_shape, generator, temperature), seen
            )
        )  # (M, *sample_shape, ..., D)
        chosen = torch.randint(
            len(draws), draws.shape[1:-1], generator=generator, device=draws.device
        )
        return draws.gather(0, chosen[None, ..., None].expand(1, *draws.shape[1:]))[0]

    def mean_given(
        self, seen: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        means = self._each(lambda m, own: m.mean_given(own, n_samples, generator), seen)
        return torch.stack(means).mean(0)

    def _each(self, f: Callable[[SequenceModel, Tensor], Tensor], seen: Tensor) -> list[Tensor]:
        return [f(m, seen[..., own]) for m, own in zip(self.members, self._seen, strict=True)]

    # What frames see of the members' states stands first, side by side; what they do not, behind.

    def _join(self, states: Sequence[Tensor]) -> Tensor:
        n_history = [member.n_history for member in self.members]
        pairs = list(zip(states, n_history, strict=True))
        return torch.cat([u[:, :n] for u, n in pairs] + [u[:, n:] for u, n in pairs], -1)

    def _part(self, u: Tensor) -> list[Tensor]:
        sizes = [m.initial_state(1).shape[1] - m.n_history for m in self.members]
        hidden = u[:, self.n_history :].split(sizes, -1)
        return [torch.cat((u[:, own], h), -1) for own, h in zip(self._seen, hidden, strict=True)]

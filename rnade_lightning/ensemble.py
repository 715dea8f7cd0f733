r"""Several sequence models as one: the exact likelihood of their mixture, frame by frame.

$$p(x_t | x_{<t}) = \frac1M \sum_m p_m(x_t | x_{<t})$$

is a normalised density of a sequence whatever the members are: RNN-RNADEs that visit the features
in different orders (Uria, Murray, Larochelle 2014, arXiv 1310.1757, average orders of one net),
models of other seeds, or of other kinds.

Conventions:
    As in `density`. The state is that of all members side by side, and so is the history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from rnade_lightning import arguments
from rnade_lightning.density import SequenceDensity


class Ensemble(SequenceDensity):
    """A mixture of sequence models of the same frames, equally weighted at every frame.

    Args:
        members: the models.

    Examples:
        >>> from rnade_lightning import RNNRNADE
        >>> both = Ensemble([RNNRNADE(3, 8, 16, 2), RNNRNADE(3, 8, 16, 2, feature_order=1)])
        >>> both.log_prob(both.sample(n_frames=20, n_samples=4)[0]).shape
        torch.Size([4, 20])
    """

    def __init__(self, members: Sequence[SequenceDensity]) -> None:
        super().__init__()
        sizes = {member.n_features for member in members}
        if len(sizes) != 1:
            raise ValueError(f"the members of an ensemble model {sorted(sizes)} features, not one")
        self._members = nn.ModuleList(members)
        self.n_features = sizes.pop()
        bounds = [0, *torch.tensor([member.n_history for member in members]).cumsum(0).tolist()]
        self._histories = [slice(*pair) for pair in pairwise(bounds)]

    @property
    def members(self) -> list[SequenceDensity]:
        """Return the models."""
        return cast(list[SequenceDensity], list(self._members))

    @property
    def floor(self) -> float:
        return min(member.floor for member in self.members)

    @property
    def n_history(self) -> int:
        return self._histories[-1].stop

    def initial_state(self, batch_size: int) -> Tensor:
        return self._join([member.initial_state(batch_size) for member in self.members])

    def states(
        self, frames: Tensor, u: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        frames, u, mask = arguments.sequences(self, frames, u, mask)
        u = self.initial_state(len(frames)) if u is None else u
        pairs = [
            member.states(frames, own, mask)
            for member, own in zip(self.members, self._split(u), strict=True)
        ]
        history, last = zip(*pairs, strict=True)
        return torch.cat(history, -1), self._join(last)

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        x, u = arguments.one_frame(self, x, u)
        parts = zip(self.members, self._split(u), strict=True)
        return self._join([member.step(x, own) for member, own in parts])

    def log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        history, frames = arguments.after_history(self, history, frames)
        each = torch.stack(self._each(lambda m, own: m.log_prob_given(own, frames), history))
        return torch.logsumexp(each, 0) - math.log(len(each))

    def sample_given(
        self,
        history: Tensor,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        draws = torch.stack(
            self._each(
                lambda m, own: m.sample_given(own, sample_shape, generator, temperature), history
            )
        )  # (M, *sample_shape, ..., D)
        chosen = torch.randint(
            len(draws), draws.shape[1:-1], generator=generator, device=draws.device
        )
        return draws.gather(0, chosen[None, ..., None].expand(1, *draws.shape[1:]))[0]

    def mean_given(
        self, history: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        means = self._each(lambda m, own: m.mean_given(own, n_samples, generator), history)
        return torch.stack(means).mean(0)

    def _each(
        self, f: Callable[[SequenceDensity, Tensor], Tensor], history: Tensor
    ) -> list[Tensor]:
        history = arguments.history_of(self, history)
        return [
            f(m, history[..., own]) for m, own in zip(self.members, self._histories, strict=True)
        ]

    # The members' histories stand first, side by side; what else their states hold, behind.

    def _join(self, states: Sequence[Tensor]) -> Tensor:
        n_history = [member.n_history for member in self.members]
        pairs = list(zip(states, n_history, strict=True))
        return torch.cat([u[:, :n] for u, n in pairs] + [u[:, n:] for u, n in pairs], -1)

    def _split(self, u: Tensor) -> list[Tensor]:
        sizes = [m.initial_state(1).shape[1] - m.n_history for m in self.members]
        hidden = u[:, self.n_history :].split(sizes, -1)
        return [
            torch.cat((u[:, own], h), -1) for own, h in zip(self._histories, hidden, strict=True)
        ]

"""Answer what callbacks ask of data beside their frames, where nothing is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy.typing as npt
import torch

from rnade_lightning.datamodules.core.sequences import FrameSequence, Split


class Asked:
    """Answers of a kind of data; each kind overrides those that it knows better."""

    least_seconds = 0.0  # of a generated sequence that a person can judge
    settle_seconds = 0.0  # of a sequence generated from nothing, to be left out
    error_seconds: float | None = 1.0  # of a block of frames of the bootstrap; None for whole files
    measures_samples = False  # whether `sample_figures` has any
    measured_seconds = 60.0  # of a sample that `sample_figures` is to measure
    figures_note = ""  # below the table of these figures: how to read them
    plays_one_step = True  # whether the mean of every frame given those before it can be played

    @property
    def log_mass(self) -> bool:
        """Return whether frames are integers, left as they are, and log p of one is the log of
        their mass. The model's log p has to be one too (`SequenceDensity.log_mass`)."""
        return False

    def log_jacobian(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the log-Jacobian ``(T,)`` of standardised frames ``(T, D)`` from a beginning."""
        return torch.zeros(len(frames))

    def check_likelihood(self, name: str, log_prob: npt.ArrayLike) -> None:
        """Refuse log p ``(T,)`` of a sequence that no model of such data can have."""

    @property
    def noise_scale(self) -> float:
        """Return the standard deviation, in standardised units, that noise in place of the data's
        steps gives to every feature given all else; 0 where there is no such noise."""
        return 0.0

    def bits_per_sample(self, log_prob: float) -> float | None:
        """Return the bits that a sample of integer data takes under a model.

        Args:
            log_prob: mean log density of a frame as a model sees it, in nats.

        Returns:
            Bits, or None for data that are no integers.
        """
        return None

    @property
    def bits_name(self) -> str:
        """Return the name of bits per sample in tables: another one where they are of a model that
        is given what looks ahead, since such bits are no code length."""
        return "bits_per_sample"

    @property
    def caveats(self) -> list[str]:
        """Return what whoever reads results has to know of the data, for the card and the table."""
        return []

    def metrics(self, frames: torch.Tensor | npt.ArrayLike) -> dict[str, float]:
        """Return figures of standardised frames ``(T, D)`` by name, beside the likelihood. A figure
        that is known of the test data too has the same name with ``_of_data``."""
        return {}

    def leaves(self, frames: torch.Tensor) -> str | None:
        """Return how generated frames ``(T, D)`` leave the data, or None if they do not, as far as
        can be told of this kind of data."""
        return None if bool(torch.isfinite(frames).all()) else "they are no numbers"

    def sample_figures(
        self,
        samples: Mapping[str, Sequence[torch.Tensor]],
        one_step: Iterable[torch.Tensor] = (),
        split: Split = "test",
        prefixes: Mapping[str, Sequence[torch.Tensor]] | None = None,
    ) -> dict[str, dict[str, float]]:
        """Return figures of generated sequences, by set and by name, and of held-out ones.

        Args:
            samples: Sets of standardised sequences ``(T, D)`` by name.
            one_step: Pairs of frames ``(2 N, D)``: a true one, and the next one as it was drawn;
                drawn when they are asked for.
            split: Part of the data that is held out.
            prefixes: Frames ``(T, D)`` that each sequence of a set continues, by its name.

        Returns:
            A row of figures for each set, and the row "held-out data"; empty for kinds of data of
            which none are known.
        """
        return {}

    def process(
        self, frames: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Return log p ``(T,)``, mean and variance ``(T, D)`` of standardised frames under the
        process that made them; None where that process is not known."""
        return None

    def references(
        self, known: Sequence[FrameSequence], test: Sequence[FrameSequence]
    ) -> dict[str, list[torch.Tensor]]:
        """Return further rivals of a model of this kind of data: by name, log p ``(T,)`` of every
        test sequence under a predictor fitted to the known ones."""
        return {}

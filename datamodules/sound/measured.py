"""Turn frames back into sound and measure it: figures of samples beside those of data."""

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.sequences import Split
from rnade_lightning.datamodules.sound.kinds import Kind, MelTransform, SpectralFrames
from rnade_lightning.datamodules.sound.kinds.excitation import Excitation
from rnade_lightning.datamodules.sound.sample_figures import Sounds, figures

if TYPE_CHECKING:  # torchaudio takes time
    from rnade_lightning.datamodules.sound.spectra import Mel

_SECONDS = 300.0  # of a part of the data, at most, that are measured
_OF_EACH = 60.0  # of each of its sounds


class MeasuredDataModule(FrameDataModule, ABC):
    """Frames of sound, which can be measured."""

    _kind: Kind
    least_seconds = 3.0
    error_seconds = None
    measures_samples = True
    measured_seconds = 10.0
    figures_note = (
        "Levels and distances in dB; distances from held-out data, and of these from training data."
        " Clicks: a second. Auc: of a classifier that tells 1 s of samples from data, 0.5 at best."
    )

    def __init__(self, root: str | None = None, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self._measured: dict[Split, Sounds] = {}

    @property
    def plays_one_step(self) -> bool:  # type: ignore[override]
        """False where sound is turned back from its beginning: the mean of what no predictor
        tells, played, is noise."""
        return not self._kind.from_start

    @property
    def mel(self) -> "Mel | None":
        """Return the mel transform that frames are made by, or given; None where they are not."""
        kind = self._kind
        return kind.mel(self.layout["sample_rate"]) if isinstance(kind, MelTransform) else None

    @property
    def given_mel(self) -> list[str]:
        """Return the names of the mel bands that a model is given."""
        return self._kind.given_names

    def to_log_mel(self, raw: Array) -> Array:
        """Return the log mel power ``(T, n_mels)`` of raw spectral frames ``(T, D_raw)``."""
        assert isinstance(self._kind, SpectralFrames)
        return self._kind.to_log_mel(raw[:, : len(self._kind.static_names)])

    def context_of_mel(self, log_mel: Array) -> torch.Tensor:
        """Return what a model is given ``(n, C)`` for log mel power ``(T, n_mels)`` at the rate of
        mel frames."""
        assert isinstance(self._kind, Excitation)
        assert self._given is not None
        controls = self._kind.given(log_mel)
        return self._given.make(controls, len(controls), {})

    def to_samples(self, raw: Array) -> Array:
        """Return the samples ``(N,)``, full scale 1, of raw frames ``(T, D_raw)``."""
        rate = self.layout["sample_rate"]
        samples = self._kind.finished(self._kind.to_samples(raw, rate), raw, rate)
        return samples * 2.0 ** (1 - self.layout["bits"]) if self.log_mass else samples

    def sample_figures(
        self,
        samples: Mapping[str, Sequence[torch.Tensor]],
        one_step: Iterable[torch.Tensor] = (),
        split: Split = "test",
        prefixes: Mapping[str, Sequence[torch.Tensor]] | None = None,
    ) -> dict[str, dict[str, float]]:
        """Return the figures of `sample_figures` of each set of samples beside held-out data, and
        of held-out beside training data: sounds as their frames are written. What a sample
        continues is turned into sound with it, and cut off."""
        held_out, before = self._part(split), prefixes or {}
        found = {}
        for name, some in samples.items():
            pairs = zip(before.get(name) or [x[:0] for x in some], some, strict=True)
            made = [self._continued(prefix, x) for prefix, x in pairs]
            found[name] = figures(Sounds(made, held_out.rate), held_out)
        return found | {"held-out data": figures(held_out, self._part("train"))}

    def _continued(self, prefix: torch.Tensor, frames: torch.Tensor) -> Array:
        whole = self.to_samples(self.destandardise(torch.cat((prefix, frames))))
        return whole[len(prefix) * self._kind.samples_per_frame :]

    def _part(self, split: Split) -> Sounds:
        """Return sounds of a part of the data, spread over it, the first minute of each."""
        if split not in self._measured:
            sequences = self.sequences(split)
            most = max(int(_OF_EACH * self.frame_rate), 1)
            lengths = np.minimum(sequences.lengths, most)
            step = max(int(np.ceil(lengths.sum() / self.frame_rate / _SECONDS)), 1)
            picked = (sequences.stretch(i, 0, lengths[i]) for i in range(0, len(lengths), step))
            made = [self.to_samples(self.destandardise(x.with_context())) for x in picked]
            self._measured[split] = Sounds(made, self.layout["sample_rate"])
        return self._measured[split]

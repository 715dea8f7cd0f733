"""Turn mel frames that a model drew into sound, by a model of samples given their mel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.class_paths import Trust
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.given import listed
from rnade_lightning.datamodules.sound.audio import AudioDataModule


class Vocoder:
    """A model of samples given their mel; see `datamodules.sound.kinds.excitation`.

    Args:
        ckpt_path: its checkpoint.
        device: torch device.
        trust: packages whose classes the checkpoint may name.

    Raises:
        DataError: it is a model of something else.
    """

    def __init__(self, ckpt_path: str, device: str = "cpu", trust: Trust = ()) -> None:
        checkpoint = load_checkpoint(ckpt_path)
        data = load_data(checkpoint, trust)
        if not isinstance(data, AudioDataModule) or not data.given_mel:
            raise DataError(
                f"--vocoder {ckpt_path}: is no model of samples given their mel: train one with"
                " configs/vocoder.yaml"
            )
        if (names := data.given.names if data.given else []) != data.given_mel:
            raise DataError(
                f"--vocoder {ckpt_path}: is given {listed(set(names) - set(data.given_mel))} beside"
                " the mel, which mel frames do not tell: train one that is given the mel alone"
            )
        self.data, self.model = data, load_model(checkpoint, trust).to(device).eval()
        self._path = ckpt_path

    def check(self, data: FrameDataModule) -> AudioDataModule:
        """Return the data module of a model that draws mel frames which this vocoder takes.

        Raises:
            DataError: it draws other frames, or of another mel transform; names every option.
        """
        if not isinstance(data, AudioDataModule) or data.mel is None or data.given_mel:
            raise DataError(
                f"--vocoder {self._path}: the model draws no mel frames (data.kind log_mel,"
                " level_mel or mfcc): leave it out"
            )
        pairs = [(f.name, getattr(data.mel, f.name), getattr(self.data.mel, f.name))
                 for f in fields(data.mel)]  # fmt: skip
        if other := [f"{name} {ours:g}, not {theirs:g}" for name, theirs, ours in pairs
                     if ours != theirs]:  # fmt: skip
            raise DataError(
                f"--vocoder {self._path}: does not fit the mel of the model: it has"
                f" {', '.join(other)}: train it with the options of the model"
            )
        return data

    def render_of(
        self, data: FrameDataModule, generator: torch.Generator
    ) -> Callable[..., list[Path]]:
        """Return what writes frames ``(T, D)`` of a model's data module as sound, by this vocoder,
        in place of `FrameDataModule.render`."""
        of_mel = self.check(data)

        def render(
            frames: Tensor, stem: Path, given: Any = None, context: Tensor | None = None
        ) -> list[Path]:
            log_mel = of_mel.to_log_mel(of_mel.destandardise(frames, context))
            return self.render(log_mel, stem, generator)

        return render

    def render(self, log_mel: Array, stem: Path, generator: torch.Generator) -> list[Path]:
        """Write sound that has this log mel power ``(T, n_mels)``; return the files' paths."""
        context = self.data.context_of_mel(log_mel)[None]
        with torch.no_grad():
            own = context.to(generator.device)
            frames = self.model.sample(own.shape[1], generator=generator, context=own)[0, 0]
        return self.data.render(frames.cpu(), stem, context=context[0])

"""Watch over the linear path from past frames: an unstable one drives samples out of the data."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_info, rank_zero_warn

from rnade_lightning.checkpoint_files import load_checkpoint
from rnade_lightning.linear_path import make_stable, spectral_radius
from rnade_lightning.recurrent_model import RecurrentModel
from rnade_lightning.run_files import WholeCheckpoints

NAMES = ("A", "B", "kappa_logit")


class StablePath(pl.Callback):
    """Logs the spectral radius of the linear path with every validation (``path/spectral_radius``).
    Where it is 1 or more in the best checkpoint after training, samples would leave the data: the
    path is changed as little as it takes (see `linear_path`), and a line says so, or that it cannot
    be. The test that follows is of the changed path."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        paths = [A for _, model in _models(pl_module) if len(A := model.past_weights())]
        if paths and not trainer.sanity_checking and all(A.isfinite().all() for A in paths):
            pl_module.log("path/spectral_radius", max(map(spectral_radius, paths)))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if trainer.is_global_zero and best and Path(best).exists():
            self._mend(Path(best), pl_module)
        trainer.strategy.barrier("StablePath")

    def _mend(self, path: Path, pl_module: pl.LightningModule) -> None:
        checkpoint = load_checkpoint(str(path))
        weights = checkpoint["state_dict"]
        found = [
            make_stable({name: weights.get(f"{prefix}{name}") for name in NAMES}, model.kappa)
            for prefix, model in _models(pl_module)
        ]
        before = max((before for before, _ in found), default=0.0)
        if before < 1:
            return
        WholeCheckpoints().save_checkpoint(dict(checkpoint), path)
        if (after := max(after for _, after in found)) >= 1:
            rank_zero_warn(
                f"{path}: the linear path is unstable, of spectral radius {before:.4f}, since kappa"
                " is 1 but for rounding: samples may leave the data; train with a smaller"
                " model.kappa"
            )
            return
        rank_zero_info(
            f"{path}: the linear path was unstable, of spectral radius {before:.4f}; it is now "
            f"{after:.4g}"
        )


def _models(module: torch.nn.Module) -> list[tuple[str, RecurrentModel]]:
    """Return the recurrent models in a module, each with the prefix of its parameters' names."""
    return [
        (f"{name}." if name else "", part)
        for name, part in module.named_modules()
        if isinstance(part, RecurrentModel)
    ]

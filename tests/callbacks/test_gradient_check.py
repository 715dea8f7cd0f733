"""The check of gradients finds what is wrong, and nothing else."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from reference import spread, supplement
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from rnade_lightning import RNNRNADE
from rnade_lightning.callbacks.gradient_check import (
    GradientCheck,
    GradientError,
    format_table,
    gradient_table,
    require_correct,
)
from rnade_lightning.lightning_module import RNNRNADEModule

OPTIONS = list(
    itertools.product(
        ("sigmoid", "gru", "lstm"), ("gaussian", "laplace"), ("sigmoid", "relu"), (1, 3)
    )
)


@pytest.mark.parametrize(("cell", "component", "activation", "n_components"), OPTIONS)
def test_right_gradients_pass(
    cell: Any, component: Any, activation: Any, n_components: int
) -> None:
    model = supplement(
        4, 5, 6, n_components, cell, component=component, activation=activation, floor=0.1,
        linear=True, n_past=2, dropout=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    rows = gradient_table(spread(model), torch.randn(2, 5, 4))
    require_correct(rows)
    assert {row.parameter for row in rows} == {name for name, _ in model.named_parameters()}
    assert max(row.difference for row in rows) > 0  # measured, not assumed
    assert all(row.parameter in format_table(rows) for row in rows)


def test_small_gradients_at_the_start_of_training_pass() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        model = supplement(3, 4, 5, 2, "gru", ("mu", "sigma"), component="laplace", floor=0.01)
        require_correct(gradient_table(model, torch.randn(2, 4, 3), seed=seed))


class Detached(RNNRNADE):
    """Its autograd misses the path through the shift."""

    def shift(self, seen: Tensor) -> Tensor | float:
        shift = super().shift(seen)
        return shift.detach() if isinstance(shift, Tensor) else shift


def test_a_gradient_that_autograd_misses_is_found_by_differences() -> None:
    model = spread(Detached(3, 4, 5, 2, "gru", n_past=1))
    torch.manual_seed(0)
    rows = gradient_table(model, torch.randn(2, 5, 3))
    wrong = {row.parameter for row in rows if row.difference > 1e-5}
    assert wrong == {"A"}
    with pytest.raises(GradientError, match="A: autograd and central differences differ by"):
        require_correct(rows)


def test_a_gradient_that_is_not_finite_is_named() -> None:
    model = spread(supplement(3, 4, 5, 2))
    with torch.no_grad():
        model.rnade.b_sigma[1, 1] = torch.nan
    with pytest.raises(GradientError, match="is not finite"):
        require_correct(gradient_table(model, torch.randn(1, 3, 3)))


def test_gradients_are_checked_on_the_batches_of_a_plain_loader(tmp_path: Path) -> None:
    frames = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=CSVLogger(tmp_path), log_every_n_steps=1,
        callbacks=[GradientCheck()], enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(RNNRNADEModule(3, 4, 5, 2), DataLoader(TensorDataset(frames), 2))
    assert list(tmp_path.rglob("gradcheck/table.md"))

"""The check of gradients finds what is wrong, and nothing else."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from reference import NAMES, spread, supplement
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
from rnade_lightning.ensemble import Ensemble
from rnade_lightning.kernels import blocks, cpu, recurrent
from rnade_lightning.lightning_module import RNNRNADEModule

OPTIONS = list(
    itertools.product(
        ("sigmoid", "gru", "lstm"), ("gaussian", "laplace"), ("sigmoid", "relu"), (1, 3)
    )
)


@pytest.mark.slow
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
    assert [row.parameter for row in rows] == ["log p", *dict(model.named_parameters())]
    for measured in ("in_use", "allowed", "difference"):  # not assumed
        assert max(getattr(row, measured) for row in rows[1:]) > 0
    assert all(row.parameter in format_table(rows) for row in rows)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_gradient_that_autograd_misses_is_found_by_differences() -> None:
    model = spread(Detached(3, 4, 5, 2, "gru", n_past=1))
    torch.manual_seed(0)
    rows = gradient_table(model, torch.randn(2, 5, 3))
    wrong = {row.parameter for row in rows if row.difference > 1e-5}
    assert wrong == {"A"}
    with pytest.raises(GradientError, match="A: the path in use and central differences differ by"):
        require_correct(rows)


@pytest.mark.parametrize("distance", [0.0, 1e-9, -1e-9])
@pytest.mark.slow
def test_a_kink_nearer_than_every_step_is_no_fault(distance: float) -> None:
    model = supplement(1, 2, 2, 1, "gru", component="laplace").double()
    spread(model, 0.5)
    first = torch.zeros(1, 1, 1, dtype=torch.float64)
    mean = model.predictive_mean(first)  # of one component, at its kink
    require_correct(gradient_table(model, mean + distance))


class Cancelling(RNNRNADE):
    """Log p whose terms are large and cancel, as the units of white innovations may, beside what
    the frames say."""

    def log_prob(self, *args: Any, **kwargs: Any) -> Tensor:
        log_p = super().log_prob(*args, **kwargs)
        large = 1e7 * torch.tensor([1.0, -1.0]).to(log_p)[:, None]
        return log_p + large


@pytest.mark.parametrize("seed", range(3))
def test_the_rounding_of_terms_that_cancel_is_no_fault(seed: int) -> None:
    model = spread(Cancelling(3, 4, 5, 2, "gru", n_past=1).double(), 0.5, seed)
    torch.manual_seed(seed)
    rows = gradient_table(model, torch.randn(2, 5, 3), seed=seed)
    assert max(row.difference for row in rows if row.parameter != "log p") < 1e-5


@pytest.mark.slow
def test_a_resumed_run_keeps_the_checks_before_it(tmp_path: Path) -> None:
    def fit(n_steps: int, ckpt_path: Path | None = None) -> list[str]:
        torch.manual_seed(0)
        trainer = pl.Trainer(
            max_steps=n_steps, accelerator="cpu", logger=CSVLogger(tmp_path, "a", "b"),
            callbacks=[GradientCheck(1, 1, 1)], enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        module = RNNRNADEModule(2, 2, 2, 1)
        loader = DataLoader(TensorDataset(torch.ones(4, 3, 2)), batch_size=1)
        trainer.fit(module, loader, ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / f"{n_steps}.ckpt")
        rows = (tmp_path / "a" / "b" / "gradcheck" / "by_step.csv").read_text().splitlines()
        return sorted({row.split(",")[0] for row in rows[1:]})

    assert fit(2) == ["0", "1"]
    assert fit(4) == ["0", "1", "2", "3"]  # a new run begins anew
    assert fit(3, tmp_path / "2.ckpt") == ["0", "1", "2"]


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_named() -> None:
    model = spread(supplement(3, 4, 5, 2))
    with torch.no_grad():
        model.rnade.b_sigma[1, 1] = torch.nan
    with pytest.raises(GradientError, match="is not finite"):
        require_correct(gradient_table(model, torch.randn(1, 3, 3)))


@pytest.mark.slow
def test_gradients_are_checked_on_the_batches_of_a_plain_loader(tmp_path: Path) -> None:
    frames = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=CSVLogger(tmp_path), log_every_n_steps=1,
        callbacks=[GradientCheck()], enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(RNNRNADEModule(3, 4, 5, 2), DataLoader(TensorDataset(frames), 2))
    assert list(tmp_path.rglob("gradcheck/table.md"))


# ------------------------------------------------------------------ faults of compiled code

EVERYTHING: dict[str, Any] = {
    "n_past": 2, "n_layers": 2, "feature_order": 1, "dropout": 0.5, "input_noise": 0.1,
    "linear": True, "floor": 0.1, "scale_mean_gradient": True, "conditioned": NAMES,
}  # fmt: skip


def models(cell: str, component: str = "laplace") -> list[Any]:
    """A model in the dtype of a run, plainly; with every option on; and an ensemble of both."""
    plain = RNNRNADE(3, 4, 5, 2, cell, component=component)
    full = RNNRNADE(3, 4, 5, 2, cell, component=component, **EVERYTHING)
    both = [spread(model, 0.5, seed).train() for seed, model in enumerate((plain, full))]
    return [*both, Ensemble(both)]


def frames() -> Tensor:
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3))


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm", "minimal_gated"])
def test_no_fault_is_no_alarm_also_with_every_option_and_in_an_ensemble(cell: str) -> None:
    for model in models(cell):
        before = {name: t.clone() for name, t in model.state_dict().items()}
        mask = torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
        for dtype in (torch.float32, torch.float64):
            require_correct(gradient_table(model.to(dtype), frames().to(dtype), mask))
        assert model.training
        assert all(torch.equal(t, before[name]) for name, t in model.float().state_dict().items())


def scaled(i: int, factor: float) -> Any:
    """Plants a factor into one of the tensors that a kernel returns."""

    def planted(right: Any) -> Any:
        def wrong(*arguments: Any) -> Any:
            found = list(right(*arguments))
            found[i] = found[i] * factor
            return found

        return wrong

    return planted


def added(right: Any) -> Any:
    return lambda *arguments: right(*arguments) + 1


def gates(factor: float) -> Any:
    """Plants a factor into the gates' gradients, which are written in place."""

    def planted(right: Any) -> Any:
        def wrong(gates: Any, *arguments: Any) -> None:
            right(gates, *arguments)
            gates *= factor

        return wrong

    return planted


def states(right: Any) -> Any:
    """Plants a factor into the states, which are written in place."""

    def wrong(*arguments: Any) -> None:
        right(*arguments)
        arguments[-2][...] *= 1.01  # history

    return wrong


GROSS = [
    (cpu, "gradients", scaled(3, -1.0)),
    (cpu, "log_prob", added),
    (recurrent, "_backward", gates(1.5)),
    (recurrent, "_forward", states),
    (blocks, "log_prob", added),
    (blocks, "gradients", scaled(6, 1.5)),
]
SMALL = [
    *((module, "gradients", scaled(i, 1.001)) for module in (cpu, blocks) for i in range(8)),
    (recurrent, "_backward", gates(1.001)),
]
PLAIN, EVERY_OPTION, ENSEMBLE = range(3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "fault", "which"),
    [(*planted, which) for planted in GROSS for which in (PLAIN, EVERY_OPTION, ENSEMBLE)]
    + [(*planted, PLAIN) for planted in SMALL],
)
def test_a_fault_of_each_kernel_is_found(
    module: Any, name: str, fault: Any, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models("gru", "student_t" if module is blocks else "laplace")[which]
    monkeypatch.setattr(module, name, fault(getattr(module, name)))
    with pytest.raises(GradientError, match="the path in use"):
        require_correct(gradient_table(model, frames()))


@pytest.mark.slow
def test_a_gross_fault_is_found_in_the_dtype_of_the_run_alone() -> None:
    """In single precision as well: where a fault is in the code for that dtype only."""
    right = cpu.gradients
    for factor in (-1.0, 0.5, 1.5):
        model = models("gru")[0]

        def planted(problem: Any, weight: Tensor, factor: float = factor) -> Any:
            found = right(problem, weight)
            found[3] = found[3] * (factor if weight.dtype == torch.float32 else 1)
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu, "gradients", planted)
            with pytest.raises(GradientError, match=r"rnade.W: the path in use and its float64"):
                require_correct(gradient_table(model, frames()))


@pytest.mark.slow
def test_what_rounding_explains_is_small_and_holds_in_training() -> None:
    """From the start to scales at the floor, with numbers of the size of data."""
    for seed in range(4):
        torch.manual_seed(seed)
        model = RNNRNADE(20, 30, 40, 5)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.3 * seed * torch.randn_like(p) / p.shape[-1] ** 0.5)
            model.rnade.b_sigma.sub_(seed)
        rows = gradient_table(model, 3 * torch.randn(2, 4, 20), seed=seed)
        require_correct(rows)
        assert max(row.allowed for row in rows[:1]) < 1e-2

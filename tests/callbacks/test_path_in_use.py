"""The error that rounding explains of an error is an upper bound, and not much more."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from kernel_pairs import randn
from reference import spread

from rnade_lightning import RNNRNADE
from rnade_lightning.callbacks import path_in_use
from rnade_lightning.callbacks.path_in_use import LOG_P, gradients, measure
from rnade_lightning.commands import SHIPPED
from rnade_lightning.density import full_float32
from rnade_lightning.drawing import load
from rnade_lightning.lightning_module import RNNRNADEModule


def measured(dtype: torch.dtype, seed: int = 0, **options: Any) -> Any:
    exact = spread(RNNRNADE(3, 4, 5, 2, backend="torch", **options).double(), 0.5, seed)
    model = copy.deepcopy(exact).to(dtype)
    exact.load_state_dict(model.state_dict())  # the same weights, rounded
    x = randn(2, 4, 3, n=seed).to(dtype).double()
    yardstick = gradients(exact, exact.log_prob(x).sum())
    return measure(model, exact, x, None, yardstick, seed), yardstick


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.slow
def test_an_error_of_rounding_is_allowed(dtype: torch.dtype) -> None:
    for seed in range(5):
        found, yardstick = measured(dtype, seed)
        assert found.keys() == {LOG_P, *yardstick}
        assert all(0 <= row.error <= row.allowed for row in found.values())
        assert found[LOG_P].error > 0


def test_it_shrinks_with_the_dtype() -> None:
    single, double = measured(torch.float32)[0], measured(torch.float64)[0]
    for name, row in single.items():
        assert double[name].allowed < 1e-6 * row.allowed


def test_little_is_allowed() -> None:
    found, yardstick = measured(torch.float32)
    for name, g in yardstick.items():
        assert found[name].allowed < 1e-2 * g.norm()


def test_a_longer_chain_has_more_roundings() -> None:
    model = RNNRNADE(3, 4, 5, 2)
    few, many = (path_in_use.roundings(model, torch.zeros(1, T, 3)) for T in (1, 10))
    assert 5 < few < many
    assert path_in_use.roundings(RNNRNADE(3, 40, 5, 2), torch.zeros(1, 1, 3)) > few


def test_a_gpu_that_may_shorten_the_factors_of_products_rounds_to_them() -> None:
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True
        assert path_in_use.roundoff(torch.float32, "cuda") == 2**-11
        for dtype, device in ((torch.float32, "cpu"), (torch.float64, "cuda")):
            assert path_in_use.roundoff(dtype, device) == torch.finfo(dtype).eps / 2
        full_float32()
        assert path_in_use.roundoff(torch.float32, "cuda") == 2**-24
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_a_trainer_and_the_commands_choose_full_float32_and_no_model_does() -> None:
    before = torch.backends.cudnn.allow_tf32
    module = RNNRNADEModule(3, 4, 5, 2)
    try:
        torch.backends.cudnn.allow_tf32 = True
        RNNRNADE(3, 4, 5, 2).log_prob(torch.zeros(1, 2, 3)).sum().backward()
        assert torch.backends.cudnn.allow_tf32
        for choose in (lambda: module.setup("fit"), lambda: load(str(SHIPPED), "cpu", ())):
            torch.backends.cudnn.allow_tf32 = True
            choose()
            assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before

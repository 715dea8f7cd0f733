"""A run that was killed and resumed is the run that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy import (
    options,
    process,
    same_bits,
    weights,
)


@pytest.mark.slow
def test_killed_and_resumed_equals_never_killed(
    fit: Callable[..., Path], root: Path, tmp_path: Path
) -> None:
    noisy = ("--model=toy.NoisyModule", "--trainer.max_epochs=4")
    whole = fit(*noisy, name="whole")
    kill = (
        "--trainer.callbacks+=toy.KillAt",
        "--trainer.callbacks.step=9",
    )  # 4 or 5 steps an epoch
    killed = process("fit", *options(root, tmp_path / "killed", *noisy, *kill), ok=False)
    assert killed.returncode == -9
    last = tmp_path / "killed" / "toy" / "version_0" / "checkpoints" / "last.ckpt"
    assert 0 < torch.load(last, weights_only=True)["epoch"] + 1 < 4
    expected = weights(whole / "checkpoints" / "last.ckpt")
    assert not same_bits(expected, weights(last))
    fit(*noisy, f"--ckpt_path={last}", name="killed")  # in its folder
    assert same_bits(expected, weights(last))

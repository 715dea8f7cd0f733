"""All callbacks together keep their promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from toy import (
    same_bits,
    weights,
)


@pytest.mark.slow
def test_callbacks_change_no_weight(fit: Callable[..., Path]) -> None:
    noisy = "--model=toy.NoisyModule"
    often = ("--trainer.callbacks+=Samples", "--trainer.callbacks.every_n_epochs=1")
    checks = ("--trainer.callbacks+=GradientCheck", "--trainer.callbacks.every_n_steps=1")
    drawn = ("--trainer.callbacks+=Likelihood", "--trainer.callbacks.every_n_epochs=1")
    steps = "--trainer.log_every_n_steps=1"
    full = fit(noisy, *often, *checks, *drawn, steps, name="full")
    bare = fit(
        noisy,
        "--trainer.callbacks=ModelCheckpoint",
        "--trainer.callbacks.save_last=true",
        name="bare",
    )
    assert list((full / "samples").glob("epoch*"))
    assert list((full / "likelihood").glob("epoch*"))
    assert same_bits(
        weights(full / "checkpoints" / "last.ckpt"), weights(bare / "checkpoints" / "last.ckpt")
    )

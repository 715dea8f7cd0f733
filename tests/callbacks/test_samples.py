"""Generated sequences are written beside true ones, from draws of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.mark.slow
def test_samples_are_written_on_a_schedule_and_after_the_test(fit: Callable[..., Path]) -> None:
    more = ("--trainer.callbacks+=Samples", "--trainer.callbacks.every_n_epochs=1")
    folder = fit(*more, "--trainer.callbacks.n_frames=12", "--trainer.callbacks.n_prefix=5")
    names = {path.name for path in (folder / "samples").iterdir()}
    for stem in ("epoch0001", "epoch0002", "test"):
        assert {f"{stem}_{kind}.npy" for kind in ("free", "truth", "continuation")} <= names
    frames = {k: np.load(folder / "samples" / f"test_{k}.npy") for k in ("truth", "continuation")}
    np.testing.assert_allclose(frames["continuation"][:5], frames["truth"][:5], atol=1e-5)
    assert len(np.load(folder / "samples" / "test_free.npy")) == 12
    metrics = json.loads((folder / "samples" / "test_metrics.json").read_text())
    assert {"free", "truth", "continuation", "one_step"} <= set(metrics)
    assert all(np.isfinite(m["log_prob"]) for m in metrics.values())

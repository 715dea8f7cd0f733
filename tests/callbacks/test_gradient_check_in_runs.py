"""The check of gradients in a run: what it stops, logs and keeps."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy import (
    column,
    read_metrics,
)

from rnade_lightning import callbacks


@pytest.mark.slow
def test_a_wrong_gradient_stops_the_run_with_the_parameter(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = callbacks.gradient_check.rnn_rnade_gradients

    def planted(*args: Any, **kwargs: Any) -> Any:
        gradients, d_frames = right(*args, **kwargs)
        gradients["W_rec"] = gradients["W_rec"].T
        return gradients, d_frames

    monkeypatch.setattr(callbacks.gradient_check, "rnn_rnade_gradients", planted)
    with pytest.raises(SystemExit, match="1"):
        fit("--model.cell=tanh")
    assert "W_rec: algorithm and autograd differ" in capsys.readouterr().err


@pytest.mark.slow
def test_gradient_norms_add_up_and_clipped_steps_are_counted(fit: Any) -> None:
    folder = fit("--trainer.log_every_n_steps=2", "--trainer.gradient_clip_val=3.0")
    total = column(folder, "grad_norm/total")
    assert total.keys() == {step for step in range(20) if step % 2 and step in total}
    names = [k for k in read_metrics(folder)[0] if k.startswith("grad_norm/")]
    own = [
        column(folder, name)
        for name in names
        if name not in ("grad_norm/total", "grad_norm/clipped")
    ]
    assert len(own) > 10
    for step, value in total.items():
        squares = sum(norms[step] ** 2 for norms in own)
        assert squares**0.5 == pytest.approx(value, rel=1e-4)
    assert all(0 <= share <= 1 for share in column(folder, "grad_norm/clipped").values())
    never = fit("--trainer.gradient_clip_val=1e9", name="never")
    assert set(column(never, "grad_norm/clipped").values()) == {0.0}
    always = fit("--trainer.gradient_clip_val=1e-9", name="always")
    assert set(column(always, "grad_norm/clipped").values()) == {1.0}


@pytest.mark.slow
def test_every_gradient_check_is_kept(fit: Any) -> None:
    folder = fit("--trainer.callbacks=GradientCheck", "--trainer.callbacks.every_n_steps=3")
    with open(folder / "gradcheck" / "by_step.csv") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["step"]) for row in rows} == {0, 3, 6, 9} - {9 + 1}
    worst = column(folder, "gradcheck/difference")
    for step, value in worst.items():
        of_step = [float(r["difference"]) for r in rows if int(r["step"]) == step]
        assert value == max(x for x in of_step if not math.isnan(x))
    assert "| rnade.W |" in (folder / "gradcheck" / "table.md").read_text()

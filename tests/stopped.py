"""Runs that are stopped and go on: what their tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy import options, process, read_metrics, same_bits, weights

from rnade_lightning.__main__ import main

NOISY = ("--model=toy.NoisyModule", "--trainer.max_epochs=3", "--trainer.log_every_n_steps=1")
EVERY_STEP = ("--trainer.callbacks+=LastCheckpoint", "--trainer.callbacks.every_n_steps=1")
Fit = Callable[..., Path]


def run_of(runs: Path) -> Path:
    """The one run folder below a folder."""
    (folder,) = (runs / "toy").iterdir()
    return folder


def stop(root: Path, runs: Path, step: int, *more: str, by: str = "toy.CutAt") -> Path:
    """Start a run that ends before a step; return its last checkpoint."""
    at = ("--trainer.callbacks+=" + by, f"--trainer.callbacks.step={step}")
    command = ["fit", *options(root, runs, *more, *at)]
    if by == "toy.KillAt":
        assert process(*command, ok=False).returncode == -signal.SIGKILL
    else:
        with pytest.raises(SystemExit, match="1"):
            main(command)
    return run_of(runs) / "checkpoints" / "last.ckpt"


def same_run(one: Path, other: Path) -> None:
    """Two run folders hold the same weights, rows of metrics and table."""
    for name in ("last.ckpt", "best.ckpt"):
        paths = [folder / "checkpoints" / name for folder in (one, other)]
        assert paths[0].exists() == paths[1].exists()
        if paths[0].exists():
            assert same_bits(*map(weights, paths)), name
    assert read_metrics(one) == read_metrics(other)
    assert (one / "comparison.csv").read_text() == (other / "comparison.csv").read_text()


SIGNALLED = """
import os, signal, sys, time
import pytorch_lightning as pl
from rnade_lightning.__main__ import main

def send(self, trainer, *args):
    where = f"{trainer.state.fn.value} {trainer.current_epoch}"
    if where == os.environ["AT"] and not send.done:
        send.done = True
        os.kill(os.getpid(), int(os.environ["SIGNUM"]))

send.done = False
setattr(pl.Callback, os.environ["HOOK"], send)
main(sys.argv[1:])
"""


def signalled(signum: int, hook: str, at: str, *command: str, **env: str) -> Any:
    """Run a command that sends itself a signal at a hook."""
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    return subprocess.run(
        [sys.executable, "-c", SIGNALLED, *command], capture_output=True, text=True, timeout=900,
        env=os.environ | {"SIGNUM": str(int(signum)), "HOOK": hook, "AT": at, **env,
                          "PYTHONPATH": paths},
    )  # fmt: skip

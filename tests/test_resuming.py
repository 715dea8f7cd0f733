"""A run that was stopped and goes on is the run that was not: selected model, weights, metrics."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
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


def test_killed_twice_inside_epochs_and_gone_on_with(fit: Fit, root: Path, tmp_path: Path) -> None:
    more = (*NOISY, *EVERY_STEP)
    whole = fit(*more, name="whole")
    last = stop(root, tmp_path / "killed", 2, *more, by="toy.KillAt")
    state = torch.load(last, weights_only=True)
    assert (state["epoch"], state["global_step"]) == (0, 2)
    with pytest.raises(AssertionError):  # the check sees a run that is not whole
        same_run(whole, run_of(tmp_path / "killed"))
    stop(root, tmp_path / "killed", 7, *more, f"--ckpt_path={last}", by="toy.KillAt")
    fit(*more, f"--ckpt_path={last}", name="killed")
    same_run(whole, run_of(tmp_path / "killed"))


@pytest.mark.parametrize(
    "more",
    [
        ("--trainer.val_check_interval=2",),
        ("--trainer.accumulate_grad_batches=2",),
        ("--data.val_fraction=0",),
        ("--trainer.overfit_batches=3",),
        ("--model.pretrain_epochs=2",),
        ("--data.stateful=true",),
        ("--trainer.callbacks+=AveragedWeights",),
        ("--trainer.max_steps=11",),
        ("--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=val/nll",
         "--lr_scheduler.patience=0", "--lr_scheduler.factor=0.1"),
    ],
    ids=lambda more: more[0].removeprefix("--"),
)  # fmt: skip
@pytest.mark.parametrize("every", [(), EVERY_STEP], ids=["epochs", "steps"])
def test_whatever_the_options(
    more: tuple[str, ...], every: tuple[str, ...], fit: Fit, root: Path, tmp_path: Path
) -> None:
    more = (*NOISY, *every, *more)
    whole = fit(*more, name="whole")
    last = stop(root, tmp_path / "cut", 5, *more)
    fit(*more, f"--ckpt_path={last}", name="cut")
    same_run(whole, run_of(tmp_path / "cut"))


def test_the_best_checkpoint_can_be_gone_on_with_too(fit: Fit, root: Path, tmp_path: Path) -> None:
    whole = fit(*NOISY, name="whole")
    last = stop(root, tmp_path / "cut", 7, *NOISY)
    last.write_bytes(last.read_bytes()[:3000])
    best = last.with_name("best.ckpt")
    refused = process("fit", *options(root, tmp_path / "cut", f"--ckpt_path={last}"), ok=False)
    assert str(best) in refused.stderr
    fit(*NOISY, f"--ckpt_path={best}", name="cut")
    same_run(whole, run_of(tmp_path / "cut"))


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
        [sys.executable, "-c", SIGNALLED, *command], capture_output=True, text=True, timeout=300,
        env=os.environ | {"SIGNUM": str(int(signum)), "HOOK": hook, "AT": at, **env,
                          "PYTHONPATH": paths},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("signum", "hook", "at"),
    [
        (signal.SIGTERM, "on_train_batch_start", "fit 0"),
        (signal.SIGINT, "on_validation_batch_start", "fit 1"),
        (signal.SIGTERM, "on_test_batch_start", "test 3"),
    ],
)
def test_a_signal_ends_a_run_that_says_how_to_go_on(
    signum: signal.Signals, hook: str, at: str, fit: Fit, root: Path, tmp_path: Path
) -> None:
    whole = fit(*NOISY, name="whole")
    ended = signalled(signum, hook, at, "fit", *options(root, tmp_path / "cut", *NOISY))
    assert ended.returncode == 128 + signum, ended.stderr
    assert "Traceback" not in ended.stderr
    last = run_of(tmp_path / "cut") / "checkpoints" / "last.ckpt"
    line = ended.stderr.strip().splitlines()[-1]
    assert line.startswith(f"stopped by {signum.name}; to go on: ")
    assert line.endswith(f"--ckpt_path {last}")
    fit(*NOISY, f"--ckpt_path={last}", name="cut")
    same_run(whole, run_of(tmp_path / "cut"))


def test_a_time_limit_ends_where_a_run_can_go_on(fit: Fit, root: Path, tmp_path: Path) -> None:
    whole = fit(*NOISY, name="whole")
    slow = ("--trainer.callbacks+=toy.SlowAt", "--trainer.callbacks.step=6")
    limited = (*NOISY, "--trainer.max_time=00:00:00:20")
    folder = fit(*limited, *slow, name="limited")
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 7
    fit(*NOISY, f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}", name="limited")
    same_run(whole, folder)


def slurm(job: int, restarts: int = 0, **more: str) -> dict[str, str]:
    """The environment of a SLURM job of one process."""
    return {
        "SLURM_JOB_ID": str(job), "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "fit",
        "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost", "SLURM_RESTART_COUNT": str(restarts), **more,
    }  # fmt: skip


def test_a_job_that_slurm_starts_again_goes_on_by_itself(
    fit: Fit, root: Path, tmp_path: Path
) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    path = {"PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    whole = fit(*NOISY, name="whole")
    command = ("fit", *options(root, tmp_path / "job", *NOISY))
    hook = "on_train_batch_start"
    ended = signalled(signal.SIGUSR1, hook, "fit 1", *command, **slurm(7), **path)
    assert ended.returncode == 128 + signal.SIGUSR1
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    note = json.loads((run_of(tmp_path / "job") / "job.json").read_text())
    assert note == {"job": "7", "command": list(command)}
    again = signalled(signal.SIGUSR1, hook, "never", *command, **slurm(7, restarts=1), **path)
    assert again.returncode == 0, again.stderr
    same_run(whole, run_of(tmp_path / "job"))
    other = signalled(signal.SIGUSR1, hook, "never", *command, **slurm(8, restarts=1), **path)
    assert other.returncode == 0, other.stderr
    assert len(list((tmp_path / "job" / "toy").iterdir())) == 2

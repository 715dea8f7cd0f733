"""Signals end a run where it can be taken up again, with the status that is usual."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from stopped import NOISY, Fit, run_of, same_run, signalled
from toy import options

from rnade_lightning.signals import Interrupted, SignalWatch


@pytest.mark.slow
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


def test_a_signal_waits_while_a_model_trains_and_a_second_sigint_does_not() -> None:
    watch, before = SignalWatch(), signal.getsignal(signal.SIGINT)
    with watch.handled():
        with pytest.raises(Interrupted, match="SIGTERM") as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.value.status == 143
        watch.wait()
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.pending == signal.SIGINT
        assert watch.waited >= 0
        with pytest.raises(Interrupted, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted, match="SIGINT"):
            watch.go_on()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_forked_process_ends_by_the_signal_itself() -> None:
    watch = SignalWatch()
    with watch.handled():
        watch.wait()
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM

"""A run that was stopped and goes on is the run that was not: selected model, weights, metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kills import difference, killed_and_gone_on_with, newest, start
from stopped import EVERY_STEP, NOISY, Fit, run_of, same_run, stop
from toy import options, process, read_metrics, write_toy_data


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("--trainer.val_check_interval=2",),
        ("--trainer.check_val_every_n_epoch=2",),
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


@pytest.mark.slow
def test_two_processes_that_were_stopped_inside_an_epoch(root: Path, tmp_path: Path) -> None:
    """Each goes on with its own random state and its own share of the mean loss."""
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=2")
    more = (*NOISY, *EVERY_STEP, *two)
    process("fit", *options(root, tmp_path / "whole", *more))
    cut = ("--trainer.callbacks+=toy.CutAt", "--trainer.callbacks.step=5")
    assert process("fit", *options(root, tmp_path / "cut", *more, *cut), ok=False).returncode == 1
    last = run_of(tmp_path / "cut") / "checkpoints" / "last.ckpt"
    process("fit", *options(root, tmp_path / "cut", *more, f"--ckpt_path={last}"))
    same_run(run_of(tmp_path / "whole"), run_of(tmp_path / "cut"))


@pytest.mark.slow
def test_the_best_checkpoint_can_be_gone_on_with_too(fit: Fit, root: Path, tmp_path: Path) -> None:
    whole = fit(*NOISY, name="whole")
    last = stop(root, tmp_path / "cut", 7, *NOISY)
    last.write_bytes(last.read_bytes()[:3000])
    best = last.with_name("best.ckpt")
    refused = process("fit", *options(root, tmp_path / "cut", f"--ckpt_path={last}"), ok=False)
    assert str(best) in refused.stderr
    fit(*NOISY, f"--ckpt_path={best}", name="cut")
    same_run(whole, run_of(tmp_path / "cut"))


@pytest.mark.slow
def test_a_time_limit_ends_where_a_run_can_go_on(fit: Fit, root: Path, tmp_path: Path) -> None:
    whole = fit(*NOISY, name="whole")
    slow = ("--trainer.callbacks+=toy.SlowAt", "--trainer.callbacks.step=6")
    limited = (*NOISY, "--trainer.max_time=00:00:00:20")
    folder = fit(*limited, *slow, name="limited")
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 7
    fit(*NOISY, f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}", name="limited")
    same_run(whole, folder)


@pytest.mark.slow
def test_killed_while_files_are_written(tmp_path: Path) -> None:
    """A few of the points of ``tests/kills.py``."""
    write_toy_data(tmp_path / "data")
    start(tmp_path / "never")
    points = ("open:last.ckpt:3", "rename:best.ckpt:1", "open:metrics.csv:2", "open:index.html:1")
    killed_and_gone_on_with(tmp_path / "killed", points)
    assert not difference(newest(tmp_path / "never"), newest(tmp_path / "killed"))


def test_the_last_epoch_is_validated_however_rarely_others_are(fit: Fit) -> None:
    folder = fit("--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=7", name="rare")
    assert (folder / "checkpoints" / "best.ckpt").exists()
    assert [row["epoch"] for row in read_metrics(folder) if row["val/nll"]] == ["2"]

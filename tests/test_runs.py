"""The place where a run writes, what it is called, how it goes on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import yaml
from stopped import NOISY, Fit, run_of, same_run, signalled
from toy import SMALL, options, process

from rnade_lightning.__main__ import main
from rnade_lightning.runs import lost_process, wandb_cannot_write

QUICK = ("--trainer.max_epochs=1", "--test_after_fit=false")


def slurm(job: int, restarts: int = 0, **more: str) -> dict[str, str]:
    """The environment of a SLURM job of one process."""
    return {
        "SLURM_JOB_ID": str(job), "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "fit",
        "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost", "SLURM_RESTART_COUNT": str(restarts), **more,
    }  # fmt: skip


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_run_folder_lies_below_the_root_dir(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for more in ((), ("--trainer.logger=false",)):
        main(
            [
                "fit",
                *SMALL,
                f"--data.root={root}",
                "--trainer.default_root_dir=../out",
                *QUICK,
                *more,
            ]
        )
    assert not list((tmp_path / "here").iterdir())
    folders = sorted((tmp_path / "out" / "runs" / "toy").iterdir())
    assert [folder.name for folder in folders] == ["version_0", "version_1"]
    for folder in folders:
        assert (folder / "checkpoints" / "last.ckpt").is_file()
    typed = yaml.safe_load((folders[0] / "config.yaml").read_text())["trainer"]
    assert (
        typed["logger"][0]["init_args"]["save_dir"] == "runs"
    )  # a new run from it is a new folder


@pytest.mark.slow
def test_a_run_is_named_after_its_experiment_or_its_data(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    data = {"data": {"class_path": "toy.ToyDataModule", "init_args": {"root": str(root)}}}
    Path("swing.yaml").write_text(yaml.safe_dump(data))
    main(["fit", "--config=swing.yaml", *SMALL, *QUICK])
    main(["fit", *SMALL, f"--data.root={root}", *QUICK])
    main(["validate", "--config=runs/swing/version_0/config.yaml",
          "--ckpt_path=runs/swing/version_0/checkpoints/best.ckpt"])  # fmt: skip
    found = sorted(str(path.relative_to("runs")) for path in Path("runs").glob("*/*"))
    assert found == ["swing/version_0", "swing/version_1", "toy/version_0"]


@pytest.mark.slow
def test_predict_adds_to_the_run_of_its_checkpoint(fit: Fit, root: Path, tmp_path: Path) -> None:
    folder = fit(*QUICK)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    best = folder / "checkpoints" / "best.ckpt"
    main(["predict", *options(root, tmp_path / "other", f"--ckpt_path={best}")])
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    assert {path.parent.name for path in after.keys() - before.keys()} == {"predictions"}
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_full_disk_takes_no_run_along(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what it went without, and that the weights are lost is an error at the end."""

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rnade_lightning.run_files.os.fsync", full)
    with pytest.warns(UserWarning, match="No space left") as told, pytest.raises(SystemExit):
        fit("--trainer.max_epochs=2")
    said = capsys.readouterr()
    assert "VAR" in said.out
    line = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(line) == 1
    assert "last.ckpt: No space left on device" in line[0]
    without = " ".join(str(one.message) for one in told)
    for name in ("config.yaml", "run.json", "metrics.csv", "best.ckpt", "the table"):
        assert name in without, name


def test_wandb_is_left_out_where_it_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No such file" in wandb_cannot_write(tmp_path / "gone")
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))  # no folder can be made in it
    assert wandb_cannot_write(tmp_path) == ""
    assert os.environ.pop("WANDB_DATA_DIR") == str(tmp_path / "wandb")


def test_a_lost_process_is_told_from_other_errors() -> None:
    worker = "DataLoader worker (pid 417) is killed by signal: Killed. "
    assert "(pid 417)" in str(lost_process(RuntimeError(worker)))
    gloo = "[gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:1"
    assert "another process" in str(lost_process(RuntimeError(gloo)))
    assert lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_in_a_line(root: Path, tmp_path: Path) -> None:
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=50")
    kill = ("--trainer.callbacks+=toy.KillAt", "--trainer.callbacks.step=6",
            "--trainer.callbacks.rank=1")  # fmt: skip
    done = process("fit", *options(root, tmp_path, *two, *kill), ok=False)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "rank 1 has ended (SIGKILL); to go on: " in lines[0]
    assert "Traceback" not in done.stderr

"""The run card tells what a run was made of, and the W&B run it belongs to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from toy import (
    process,
    refused,
)
from wandb_run import WandbRun, arguments, offline_runs


def test_config_holds_options_data_code_and_environment(folder: Path, run: WandbRun) -> None:
    assert run.config["n_hidden"] == 4  # hyperparameters
    assert run.config["options"]["trainer"]["max_epochs"] == 2
    assert run.config["options"]["optimizer"]["class_path"] == "torch.optim.Adam"
    assert run.config["data"]["features"] == ["x0", "x1", "x2"]
    assert run.config["code"]["version"]
    assert set(run.config["code"]) == {"version", "commit"}
    assert "torch" in run.config["environment"]
    card = json.loads((folder / "toy" / "version_0" / "run.json").read_text())
    assert card["wandb_id"] == run.id
    assert card["data"] == run.config["data"]


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_same_wandb_run(
    folder: Path, run: WandbRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = folder.parent / "resumed"
    shutil.copytree(folder, runs, symlinks=True)  # a run goes on in its folder
    last = runs / "toy" / "version_0" / "checkpoints" / "last.ckpt"
    more = (f"--ckpt_path={last}", "--trainer.max_epochs=3")
    monkeypatch.setenv("WANDB_DATA_DIR", str(folder.parent / "staging"))
    process("fit", *arguments(runs, *more, log_model=True))
    _, resumed = offline_runs(runs)
    assert resumed.id == run.id
    assert min(resumed.steps("val/nll")) > max(run.steps("val/nll"))
    # and the checkpoint is an artifact on request
    assert (f"model-{run.id}", "model") in resumed.artifacts
    assert "model" not in [kind for _, kind in run.artifacts]


@pytest.mark.slow
def test_a_test_is_a_run_of_its_own(folder: Path, run: WandbRun) -> None:
    best = folder / "toy" / "version_0" / "checkpoints" / "best.ckpt"
    process("test", *arguments(folder.parent / "tested", f"--ckpt_path={best}"))
    (tested,) = offline_runs(folder.parent / "tested")
    assert tested.id != run.id
    assert tested.config["code"] == run.config["code"]


@pytest.mark.slow
def test_two_processes_are_one_run(folder: Path) -> None:
    runs = folder.parent / "two"
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1")
    process("fit", *arguments(runs, *two))
    (found,) = offline_runs(runs)
    assert not list(folder.parent.glob("**/wandb/run-*"))
    assert len(found.values("val/nll")) == 1
    assert len(found.values("comparison/table")) == 1


def test_an_artifact_of_an_offline_logger_is_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = arguments(folder.parent / "refused", log_model=True, offline=True)
    line = refused(capsys, "fit", *more)
    assert "leave offline out" in line
    assert len(line) < 250

"""The command line: what a run leaves, which options it takes, what it refuses in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy import (
    SMALL,
    options,
    process,
    read_metrics,
    refused,
    write_toy_data,
)

from rnade_lightning.__main__ import main

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
CONFIGS = [path for path in CONFIGS if path.stem != "sweep"]  # W&B's: see test_dashboard.py


def test_a_run_leaves_what_it_promises(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # the default loggers: CSV and W&B
    main(["fit", *SMALL, f"--data.root={root}", "--trainer.max_epochs=2"])
    folder = tmp_path / "runs" / "motion" / "version_0"
    for name in (
        "metrics.csv", "config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt",
        "comparison.csv", "comparison.md", "likelihood/by_frame.csv", "likelihood/by_feature.csv",
        "likelihood/likelihood.png", "samples/test_free.npy", "samples/test_continuation.npy",
        "samples/test_one_step.npy", "samples/index.html", "run.json", "gradcheck/by_step.csv",
        "gradcheck/table.md",
    ):  # fmt: skip
        assert (folder / name).stat().st_size > 0, name
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert not (tmp_path / "wandb").exists()
    printed = capsys.readouterr().out
    assert "VAR(3)" in printed
    assert "copy the last frame" in printed
    assert "runs/motion/version_0" in printed
    keys = set().union(*(row.keys() for row in read_metrics(folder)))
    assert {"train/nll", "val/nll", "val/nll_raw", "test/nll", "grad_norm/total"} <= keys
    assert {"gradcheck/algorithm", "gradcheck/difference"} <= keys


def test_the_checkpoint_brings_the_sizes_of_its_model(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = [o for o in options(root, tmp_path) if not o.startswith("--model")]
    main(["test", *without, f"--ckpt_path={checkpoint}"])
    assert "VAR(3)" in capsys.readouterr().out


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_runs(path: Path, root: Path, tmp_path: Path) -> None:
    """One batch of everything; data that are not shipped, or take long, are replaced."""
    toy = ["--data=toy.ToyDataModule", f"--data.root={root}", "--data.split=tail"]
    toy += ["--data.warmup=3", "--data.group=null", "--data.parts=null"]
    more = [] if path.stem in ("base", "motion", "trajectory") else toy
    main([
        "fit", f"--config={path}", *more, "--data.window=16", "--trainer.fast_dev_run=true",
        "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu",
    ])  # fmt: skip


def test_help_lists_every_command() -> None:
    text = process("--help").stdout
    for command in ("fit", "validate", "test", "predict", "sample", "score", "gradcheck"):
        assert command in text


def test_help_of_fit_fits_the_model_and_the_data_on_a_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help"])
    text = capsys.readouterr().out
    for option in ("--model.n_hidden", "--data.root", "--trainer.devices", "--ckpt_path"):
        assert option in text
    assert len(text.splitlines()) < 200


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "fit", *options(tmp_path / "nowhere", tmp_path))
    assert "nowhere" in line


def test_a_missing_checkpoint_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "none.ckpt" in refused(capsys, "sample", "--ckpt_path=none.ckpt", f"--out={tmp_path}")
    assert "none.ckpt" in refused(capsys, "test", *options(root, tmp_path, "--ckpt_path=none.ckpt"))
    assert not list(tmp_path.iterdir())


def test_a_truncated_checkpoint_is_named(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(checkpoint.read_bytes()[:3000])
    assert "cut.ckpt is not a readable checkpoint" in refused(
        capsys, "score", f"--ckpt_path={cut}", "--files=x.npy"
    )
    assert "cut.ckpt" in refused(capsys, "fit", *options(root, tmp_path, f"--ckpt_path={cut}"))


def test_a_checkpoint_of_other_data_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_toy_data(tmp_path / "other", n_features=4)
    line = refused(capsys, "test", *options(other, tmp_path, f"--ckpt_path={checkpoint}"))
    assert "checkpoint does not fit" in line
    line = refused(capsys, "score", f"--ckpt_path={checkpoint}", f"--files={other}")
    assert "take0.npy" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_without_cuda_is_refused(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda = [o for o in options(root, tmp_path) if "accelerator" not in o]
    assert "CUDA" in refused(capsys, "fit", *cuda, "--trainer.accelerator=cuda")
    assert "CUDA" in refused(capsys, "sample", f"--ckpt_path={checkpoint}", "--device=cuda")


def test_a_wrong_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "n_hiden" in refused(capsys, "fit", *SMALL, "--model.n_hiden=3")


def test_of_two_callbacks_of_ours_the_last_counts(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--trainer.callbacks+=Samples", "--trainer.callbacks.n_samples=3")
    main(["fit", *options(root, tmp_path, "--trainer.max_epochs=1", *more)])
    samples = tmp_path / "toy" / "version_0" / "samples"
    assert (samples / "test_free_3.npy").is_file()
    assert (tmp_path / "toy" / "version_0" / "checkpoints" / "last.ckpt").is_file()

"""The other commands, and what bad input gets: one line that names it, no traceback."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import SMALL, options, process
from toy import write_toy_data

from rnade_lightning.__main__ import main

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
CONFIGS = [path for path in CONFIGS if path.stem != "sweep"]  # W&B's: see test_wandb.py


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def checkpoint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    main(["fit", *options(root, runs, "--trainer.max_epochs=1")])
    return runs / "toy" / "version_0" / "checkpoints" / "best.ckpt"


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line that a refused command says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(list(args))
    assert error.value.code not in (0, None)
    lines = capsys.readouterr().err.strip().splitlines()
    said = [line for line in lines if line.startswith("error: ")]
    assert len(said) == 1, lines
    assert not any("Traceback" in line for line in lines)
    return said[0]


def test_sample_writes_new_sequences(checkpoint: Path, tmp_path: Path) -> None:
    main(
        [
            "sample",
            f"--ckpt_path={checkpoint}",
            f"--out={tmp_path}",
            "--n_samples=2",
            "--n_frames=7",
        ]
    )
    assert [np.load(p).shape for p in sorted(tmp_path.glob("*.npy"))] == [(7, 3), (7, 3)]


def test_sample_continues_a_file(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    prefix = root / "take1.npy"
    main([
        "sample", f"--ckpt_path={checkpoint}", f"--out={tmp_path}", f"--prefix={prefix}",
        "--n_samples=1", "--n_prefix=20", "--n_frames=5",
    ])  # fmt: skip
    (found,) = tmp_path.glob("continuation_of_take1*.npy")
    assert np.load(found).shape == (25, 3)
    np.testing.assert_allclose(np.load(found)[:20], np.load(prefix)[:20], atol=1e-5)


def test_score_gives_every_frame(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    main(["score", f"--ckpt_path={checkpoint}", f"--files={root}", f"--out={out}"])
    with open(out) as file:
        rows = list(csv.DictReader(file))
    assert [r["file"] for r in rows] == ["take0"] * 90 + ["take1"] * 61 + ["take2"] * 47
    assert all(np.isfinite(float(r["log_prob"])) for r in rows)


def test_predict_writes_means_and_log_p(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    main(["predict", *options(root, tmp_path, f"--ckpt_path={checkpoint}")])
    found = sorted((tmp_path / "toy" / "version_0" / "predictions").glob("*.npz"))
    assert len(found) == 3
    with np.load(found[0]) as saved:
        assert saved["mean"].shape == saved["frames"].shape == (len(saved["log_prob"]), 3)


def test_the_checkpoint_brings_the_sizes_of_its_model(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = [o for o in options(root, tmp_path) if not o.startswith("--model")]
    main(["test", *without, f"--ckpt_path={checkpoint}"])
    assert "VAR(3)" in capsys.readouterr().out


@pytest.mark.parametrize("extra", [(), ("--cell=tanh",), ("--cell=gru", "--n_components=1")])
def test_gradcheck_prints_every_parameter(
    extra: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["gradcheck", *extra])
    printed = capsys.readouterr().out
    for name in (
        "rnade.W",
        "rnade.c",
        "rnade.rho",
        "rnade.V_sigma",
        "rnade.b_alpha",
        "W_mu",
        "u_0",
    ):
        assert f"\n{name} " in printed


def test_gradcheck_of_a_checkpoint(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["gradcheck", f"--ckpt_path={checkpoint}"])
    assert "rnade.V_mu" in capsys.readouterr().out


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_runs(path: Path, root: Path, tmp_path: Path) -> None:
    """One batch of everything; data that are not shipped, or take long, are replaced."""
    toy = ["--data=toy.ToyDataModule", f"--data.root={root}", "--data.split=tail"]
    toy += ["--data.warmup=3", "--data.group=null", "--data.parts=null"]
    more = [] if path.stem in ("base", "trajectory") else toy
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


@pytest.mark.parametrize("command", ["sample", "score", "gradcheck"])
def test_help_of_a_command_names_its_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert "--ckpt_path" in capsys.readouterr().out


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


def test_too_short_a_prefix_is_named(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(
        capsys, "sample", f"--ckpt_path={checkpoint}", f"--prefix={root / 'take2.npy'}",
        "--n_prefix=1000", f"--out={tmp_path}",
    )  # fmt: skip
    assert "take2.npy has 47 frames" in line


def test_of_two_callbacks_of_ours_the_last_counts(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--trainer.callbacks+=Samples", "--trainer.callbacks.n_samples=3")
    main(["fit", *options(root, tmp_path, "--trainer.max_epochs=1", *more)])
    samples = tmp_path / "toy" / "version_0" / "samples"
    assert (samples / "test_free_3.npy").is_file()
    assert (tmp_path / "toy" / "version_0" / "checkpoints" / "last.ckpt").is_file()

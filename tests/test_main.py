"""The command line: the files that a run leaves, the options it takes, the mistakes it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from jsonargparse import ArgumentParser
from toy import (
    SMALL,
    options,
    read_metrics,
    refused,
    write_toy_data,
)

from rnade_lightning.__main__ import main
from rnade_lightning.checkpoints import load_checkpoint, load_model
from rnade_lightning.datamodules import AudioDataModule
from rnade_lightning.lightning_module import RNNRNADEModule

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
CONFIGS = [path for path in CONFIGS if path.stem != "sweep"]  # W&B's: see test_dashboard.py


@pytest.mark.slow
def test_a_run_leaves_what_it_promises(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # the default loggers: CSV and W&B
    main(["fit", *SMALL, f"--data.root={root}", "--trainer.max_epochs=2"])
    folder = tmp_path / "runs" / "toy" / "version_0"  # of ToyDataModule
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
    assert "VAR" in printed
    assert "copy the last frame" in printed
    assert "runs/toy/version_0" in printed
    keys = set().union(*(row.keys() for row in read_metrics(folder)))
    assert {"train/nll", "val/nll", "val/nll_raw", "test/nll", "grad_norm/total"} <= keys
    assert {"gradcheck/algorithm", "gradcheck/difference"} <= keys


@pytest.mark.slow
def test_prepare_leaves_no_run_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty WANDB_MODE counts as unset and does not stop the command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "")
    main(["prepare", *SMALL, f"--data.root={root}"])
    assert '"n_files": 3' in capsys.readouterr().out
    assert os.environ["WANDB_MODE"] == "offline"
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_checkpoint_brings_the_sizes_of_its_model(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = [o for o in options(root, tmp_path) if not o.startswith("--model")]
    main(["test", *without, f"--ckpt_path={checkpoint}"])
    assert "VAR" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_runs(path: Path, root: Path, tmp_path: Path) -> None:
    """One batch of everything runs. Data that are not shipped, or take long, are replaced."""
    toy = ["--data=toy.ToyDataModule", f"--data.root={root}", "--data.split=tail"]
    toy += ["--data.warmup=3", "--data.group=null", "--data.parts=null", "--data.only=null"]
    toy += ["--data.labels=null", "--data.control=null", "--data.ignore=null"]
    more = [] if path.stem in ("base", "motion", "steered", "trajectory") else toy
    if path.stem == "speech_bits":  # whose model takes integers of sound alone
        for i in range(6):
            x = np.cumsum(np.random.default_rng(i).normal(size=2000)) * 40
            soundfile.write(tmp_path / f"{i}.wav", x.astype(np.int16), 8000)
        more = [f"--data.root={tmp_path}/*.wav", "--data.group=null", "--data.warmup=3"]
    main([
        "fit", f"--config={path}", *more, "--data.window=16", "--trainer.fast_dev_run=true",
        "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu",
    ])  # fmt: skip


def test_help_of_fit_fits_the_model_and_the_data_on_a_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help"])
    text = capsys.readouterr().out
    for option in ("--model.n_hidden", "--data.root", "--trainer.devices", "--ckpt_path"):
        assert option in text
    assert len(text.splitlines()) < 220


@pytest.mark.slow
def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "fit", *options(tmp_path / "nowhere", tmp_path))
    assert "nowhere" in line


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_wrong_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "n_hiden" in refused(capsys, "fit", *SMALL, "--model.n_hiden=3")


@pytest.mark.slow
def test_of_two_callbacks_of_ours_the_last_counts(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--trainer.callbacks+=Samples", "--trainer.callbacks.n_samples=3")
    main(["fit", *options(root, tmp_path, "--trainer.max_epochs=1", *more)])
    samples = tmp_path / "toy" / "version_0" / "samples"
    assert (samples / "test_free_3.npy").is_file()
    assert (tmp_path / "toy" / "version_0" / "checkpoints" / "last.ckpt").is_file()


# ------------------------------------------------------------------ defaults and what is chosen


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[dict[str, Any], str]:
    """Return the options that a command would use, and its other output."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main([*args, "--print_config"])
    said = capsys.readouterr()
    return yaml.safe_load(said.out), said.err


def defaults_of(kind: type) -> dict[str, Any]:
    parser = ArgumentParser()
    parser.add_class_arguments(kind, "it", fail_untyped=False)
    return vars(parser.get_defaults().it)


@pytest.mark.slow
def test_without_data_the_shipped_motion_is_run_and_said_to_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options_, said = printed(capsys, "fit", "--model.n_hidden=7")
    assert "configs/motion.yaml" in said
    assert len(said.strip().splitlines()) == 1
    tuned = yaml.safe_load((CONFIGS[0].parent / "motion.yaml").read_text())
    model = options_["model"]["init_args"]
    assert model["n_hidden"] == 7
    for key in ("dropout", "input_noise", "past"):
        assert model[key] == tuned["model"]["init_args"][key]
    assert options_["data"]["class_path"].endswith("MocapDataModule")


@pytest.mark.slow
@pytest.mark.parametrize(
    "named", [("--data.root=x",), ("--data", "BallsDataModule"), ("--config=DATA",)]
)
def test_where_data_are_named_the_defaults_are_those_of_the_classes(
    named: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.yaml").write_text("data: {init_args: {window: 20}}\n")
    args = [option.replace("DATA", str(tmp_path / "data.yaml")) for option in named]
    options_, said = printed(capsys, "fit", *args)
    assert "motion.yaml" not in said
    expected = defaults_of(RNNRNADEModule)
    for key, found in options_["model"]["init_args"].items():
        assert found == (list(expected[key]) if key == "conditioned" else expected[key]), key


@pytest.mark.slow
def test_another_class_takes_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--data=AudioDataModule", "--data.kind=innovation")
    data = printed(capsys, "fit", *more)[0]["data"]
    expected = defaults_of(AudioDataModule) | {"kind": "innovation"}
    assert data["init_args"] == expected
    # what was written down survives, where the other class takes it
    config = CONFIGS[0].parent / "mocap_mat.yaml"
    more = (f"--config={config}", "--model=RNNDensityModule")
    model = printed(capsys, "fit", *more)[0]["model"]["init_args"]
    written = yaml.safe_load(config.read_text())["model"]["init_args"]
    assert {k: model[k] for k in ("n_past", "dropout")} == {
        k: written[k] for k in ("n_past", "dropout")
    }
    assert model["n_recurrent"] == 100


@pytest.mark.slow
def test_the_learning_rate_is_the_optimisers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "fit", "--data=toy.ToyDataModule", "--model.lr=0.1")
    assert "--optimizer.lr" in line
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help"])
    assert "--model.lr" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_density_is_chosen_in_yaml(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of this package is chosen by its name or path, one of a person's own by its path."""
    (tmp_path / "own_density.py").write_text(
        "from rnade_lightning.densities import Gaussian\n\n\nclass Wide(Gaussian):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    quick = [o for o in options(root, tmp_path) if not o.startswith("--model")]
    quick += ["--trainer.max_epochs=1", "--test_after_fit=false"]
    for i, density in enumerate((
        "Gaussian",
        "rnade_lightning.densities.LowRankGaussian",
        {"class_path": "GaussianMixture", "init_args": {"n_components": 3}},
        {"class_path": "own_density.Wide", "init_args": {"floor": 0.25}},
    )):  # fmt: skip
        spec = {"class_path": "RNNDensityModule", "init_args": {"density": density}}
        (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": spec}))
        main(["fit", f"--config={tmp_path / 'model.yaml'}", "--model.n_recurrent=4", *quick])
        path = tmp_path / "toy" / f"version_{i}" / "checkpoints" / "best.ckpt"
        model = load_model(load_checkpoint(str(path)))
        main(["test", *quick[:-2], f"--ckpt_path={path}", f"--trainer.logger.save_dir={path}.t"])
    assert type(model).__name__ == "RNNDensity"
    assert model.floor == 0.25


@pytest.mark.slow
def test_an_unknown_density_is_refused_with_the_list(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = [o for o in options(root, tmp_path) if not o.startswith("--model")]
    line = refused(capsys, "fit", *some, "--model=RNNDensityModule", "--model.density=Gauss")
    assert "none of Gaussian, LowRankGaussian, GaussianMixture, Flow" in line
    assert len(line) < 300


def test_help_has_all_options_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help"])
    text = capsys.readouterr().out
    for name in ("n_hidden", "censor_at", "n_past", "dropout", "feature_order", "pretrain_epochs"):
        assert f"--model.{name}" in text


def test_a_hostile_configuration_runs_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, file = tmp_path / "mark", tmp_path / "hostile.yaml"
    file.write_text(f"data: {{root: !!python/object/apply:os.mkdir ['{mark}']}}\n")
    refused(capsys, "fit", f"--config={file}", *options(root, tmp_path))
    assert not mark.exists()
    yaml.unsafe_load(file.read_text())  # the payload does work
    assert mark.exists()

"""The start of a run: weights of another run, or the end of the same one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import options, refused, same_bits, value, weights, write_toy_data

from rnade_lightning.__main__ import main
from rnade_lightning.checkpoints import load_checkpoint
from rnade_lightning.lightning_module import SequenceModule

Fit = Callable[..., Path]
NO_TEST = "--test_after_fit=false"


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def goes_on(folder: Path) -> tuple[str, str]:
    """Return the options by which a run goes on."""
    return f"--config={folder / 'config.yaml'}", f"--ckpt_path={last(folder)}"


def without_model(root: Path, runs: Path) -> list[str]:
    """Return the options of a run that takes its model from weights."""
    return [o for o in options(root, runs) if not o.startswith("--model")]


@pytest.mark.slow
def test_a_new_run_starts_from_weights_and_from_nothing_else(
    fit: Fit, root: Path, tmp_path: Path
) -> None:
    first = fit(NO_TEST)
    sizes = without_model(root, tmp_path / "b")
    quick = (*sizes, "--trainer.max_epochs=1", "--optimizer.lr=0", NO_TEST)
    main(["fit", *quick, f"--weights_from={last(first)}", "--model.dropout=0.5"])
    second = tmp_path / "b" / "toy" / "version_0"
    assert same_bits(weights(last(first)), weights(last(second)))
    one, two = (load_checkpoint(last(folder)) for folder in (first, second))
    assert (one["epoch"], two["epoch"]) == (1, 0)
    assert two["hyper_parameters"]["n_hidden"] == one["hyper_parameters"]["n_hidden"] == 4
    assert (one["hyper_parameters"]["dropout"], two["hyper_parameters"]["dropout"]) == (0.0, 0.5)
    assert value(first, "val/nll") == pytest.approx(value(second, "val/nll"), abs=1e-5)
    # and goes on as any other, though its configuration names the weights
    main(["fit", *goes_on(second), "--trainer.max_epochs=2"])
    assert load_checkpoint(last(second))["epoch"] == 1


@pytest.mark.slow
def test_frames_are_scaled_as_the_weights_were(
    fit: Fit, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data in other units are not scaled to those of the weights in silence."""
    first = fit(NO_TEST)
    wide = tmp_path / "wide"
    wide.mkdir()
    for path in root.glob("*.npy"):
        np.save(wide / path.name, 10 * np.load(path))
    for folder in (tmp_path / "b", tmp_path / "c"):
        module = SequenceModule.load_from_checkpoint(last(first))
        module.save_pretrained(folder / "model")
        source = last(first) if folder.name == "b" else folder / "model"
        sizes = [o for o in options(wide, folder) if not o.startswith("--model")]
        main(["fit", *sizes, "--trainer.max_epochs=1", NO_TEST, f"--weights_from={source}"])
        found = load_checkpoint(last(folder / "toy" / "version_0"))["ToyDataModule"]
        known = load_checkpoint(last(first))["ToyDataModule"]
        assert torch.equal(found["standardiser"]["std"], known["standardiser"]["std"])
        assert found["parts"] != known["parts"]
    other = options(write_toy_data(tmp_path / "other", n_features=4), tmp_path)
    for option in (f"--weights_from={last(first)}", f"--ckpt_path={last(first)}"):
        line = refused(capsys, "fit", *other, option)
        assert "the checkpoint does not fit these data: it has other features" in line


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_model_only(
    fit: Fit, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = last(fit(NO_TEST))
    fit(f"--ckpt_path={path}", "--trainer.max_epochs=3", NO_TEST, name="same")
    assert load_checkpoint(path)["epoch"] == 2  # in its own folder
    some = options(root, tmp_path, f"--ckpt_path={path}")
    line = refused(capsys, "fit", *some, "--model.floor=0.3")
    assert "--model.floor is 0.3, and 0.01 in checkpoint" in line
    assert "--weights_from" in line
    (tmp_path / "other.yaml").write_text("model: {n_hidden: 9}\n")
    line = refused(capsys, "fit", f"--config={tmp_path / 'other.yaml'}", *some[2:])
    assert "--model.n_hidden is 9, and 4 in checkpoint" in line
    sizeless = [o for o in some if not o.startswith("--model")]
    line = refused(capsys, "fit", *sizeless, "--model=RNNDensityModule")
    assert "of another model" in line
    assert "RNNRNADEModule" in line
    line = refused(capsys, "fit", *sizeless, "--model.n_dreams=1")
    assert "--model.n_dreams" in line
    main(["test", *some, "--model.floor=0.3"])  # is of the checkpoint's model, whatever is said
    alone = value(tmp_path / "toy" / "version_0", "test/nll")
    main(["test", *sizeless])
    assert value(tmp_path / "toy" / "version_1", "test/nll") == alone
    line = refused(capsys, "test", *sizeless[:-1], f"--weights_from={path}")
    assert "--ckpt_path" in line


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_data_only(
    fit: Fit, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = last(fit(NO_TEST))
    moved = write_toy_data(tmp_path / "moved")
    main(["fit", *options(moved, tmp_path / "m", f"--ckpt_path={path}", NO_TEST)])
    files = sorted(moved.glob("*.npy"))
    frames = np.load(files[0])
    frames[0] += 1e-3
    np.save(files[0], frames)
    line = refused(capsys, "fit", *options(moved, tmp_path, f"--ckpt_path={path}"))
    assert "other data than the checkpoint's: train is 3 sequences" in line
    parts = ("--data.val_fraction=0.2", "--data.test_fraction=0.1")
    line = refused(capsys, "fit", *options(root, tmp_path, f"--ckpt_path={path}", *parts))
    assert "other data than the checkpoint's: val is" in line
    main(["test", *options(moved, tmp_path / "t", f"--ckpt_path={path}")])  # of other data: fine


@pytest.mark.slow
def test_a_folder_is_no_run_to_go_on_with(
    fit: Fit, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SequenceModule.load_from_checkpoint(last(fit(NO_TEST))).save_pretrained(tmp_path / "model")
    some = options(root, tmp_path, f"--ckpt_path={tmp_path / 'model'}")
    line = refused(capsys, "fit", *some)
    assert "no state of training" in line
    assert "--weights_from" in line


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_optimiser_only(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its state takes no notice of other options, and so they are refused; others are told."""
    folder = fit(NO_TEST)
    on = ("fit", *goes_on(folder), NO_TEST)
    for typed, name in (
        (("--optimizer.lr=0.5",), "--optimizer.lr is 0.5, and"),
        (("--optimizer=torch.optim.SGD", "--optimizer.lr=0.1"), "--optimizer is 'torch.optim.SGD'"),
    ):
        line = refused(capsys, *on, "--trainer.max_epochs=3", *typed)
        assert name in line
        assert "--weights_from" in line
    main([*on, "--trainer.max_epochs=3", "--trainer.gradient_clip_val=0.125"])
    assert "other than before: trainer.gradient_clip_val 0.125 (" in capsys.readouterr().err
    assert load_checkpoint(last(folder))["epoch"] == 2


@pytest.mark.slow
def test_weights_that_do_not_fit_name_the_option_that_was_typed(
    fit: Fit, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit(NO_TEST)
    sizes = without_model(root, tmp_path / "b")
    line = refused(capsys, "fit", *sizes, f"--weights_from={last(first)}", "--model.n_hidden=9")
    assert line.endswith("--model.n_hidden may be what it does not fit")

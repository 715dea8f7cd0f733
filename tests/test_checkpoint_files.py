"""A checkpoint that does not fit is refused in one line; what is hostile runs nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from misfits import MISFITS, OF_DATA, misfits, trained, walks
from toy import refused

from rnade_lightning.__main__ import main
from rnade_lightning.checkpoint_files import load_checkpoint, package_version
from rnade_lightning.checkpoints import load_data, load_model
from rnade_lightning.datamodules import ArrayDataModule
from rnade_lightning.lightning_module import RNNRNADEModule


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def good(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def one_line(error: pytest.ExceptionInfo[ValueError], file: Path) -> None:
    said = str(error.value)
    assert str(file) in said
    assert len(said.splitlines()) == 1
    assert len(said) < 800
    assert said.count(";") or said.count(":") > 1  # what to do stands behind


@pytest.mark.slow
def test_what_fits_is_loaded(good: dict[str, Any], tmp_path: Path) -> None:
    assert good["package_version"] == package_version()
    torch.save(good, file := tmp_path / "same.ckpt")
    checkpoint = load_checkpoint(file)
    assert load_model(checkpoint).floor == 0.3
    assert load_data(checkpoint).n_features == 3
    with open(file, "rb") as opened:
        assert RNNRNADEModule.load_from_checkpoint(opened).model.floor == 0.3


@pytest.mark.parametrize("name", MISFITS)
def test_a_misfit_of_the_model_is_said(name: str, good: dict[str, Any], tmp_path: Path) -> None:
    ((_, checkpoint, said),) = misfits(good, {name: MISFITS[name]})
    torch.save(checkpoint, file := tmp_path / "misfit.ckpt")
    with pytest.raises(ValueError, match=said) as error:
        load_model(load_checkpoint(file))
    one_line(error, file)
    with pytest.raises(ValueError, match=said if "class of" not in name else "misfit") as error:
        RNNRNADEModule.load_from_checkpoint(file)
    one_line(error, file)


@pytest.mark.parametrize("name", OF_DATA)
def test_a_misfit_of_the_data_is_said(name: str, good: dict[str, Any], tmp_path: Path) -> None:
    ((_, checkpoint, said),) = misfits(good, {name: OF_DATA[name]})
    torch.save(checkpoint, file := tmp_path / "misfit.ckpt")
    with pytest.raises(ValueError, match=said) as error:
        load_data(load_checkpoint(file))
    one_line(error, file)


def test_the_version_that_wrote_it_is_said(good: dict[str, Any], tmp_path: Path) -> None:
    ((_, checkpoint, _),) = misfits(good, {"": MISFITS["argument less (floor)"]})
    torch.save(checkpoint | {"package_version": "0.0.9"}, file := tmp_path / "old.ckpt")
    with pytest.raises(ValueError, match=r"version 0\.0\.9 of this package wrote it, this is"):
        load_model(load_checkpoint(file))


COMMANDS = {
    "sample": ["--n_frames=2", "--n_samples=1"],
    "score": ["--files=gone.npz"],
    "gradcheck": [],
    "combine": [],
    "test": [],
    "validate": [],
    "predict": [],
    "fit": [],
}
SOME = ["all nan", "one nan", "argument less (floor)", "argument of another type", "weight less"]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_it(
    command: str, good: dict[str, Any], path: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    which = {name: MISFITS[name] for name in SOME}
    for _, checkpoint, said in misfits(good, which):
        torch.save(checkpoint, "misfit.ckpt")
        named = f"--ckpt_paths=['{path}','misfit.ckpt']"
        options = [named if command == "combine" else "--ckpt_path=misfit.ckpt", *COMMANDS[command]]
        if len(COMMANDS[command]) == 0 and command not in ("combine", "gradcheck"):
            options += ["--data=ArrayDataModule", "--data.root=gone", "--trainer.logger=false"]
        line = refused(capsys, command, *options)
        assert "misfit.ckpt" in line
        with pytest.raises(AssertionError, match="no match"):  # planted: another reason is found
            assert_says(line, "no such reason")
        assert_says(line, said)
    assert not list(tmp_path.glob("ensemble*"))


def assert_says(line: str, said: str) -> None:
    import re

    assert re.search(said, line), f"no match of {said} in {line}"


@pytest.mark.slow
def test_a_trainer_says_it_too(good: dict[str, Any], tmp_path: Path) -> None:
    which = {name: MISFITS[name] for name in (*SOME, "no states")} | {
        name: OF_DATA[name] for name in ("nan mean", "statistics less", "no frame rate")
    }
    module = RNNRNADEModule(3, n_hidden=4, n_recurrent=5, floor=0.3)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    for name, checkpoint, said in misfits(good, which):
        torch.save(checkpoint, file := tmp_path / "misfit.ckpt")
        said = {"argument less (floor)": "its floor is None, here", "argument of another type":
                "its n_hidden is 'eight'"}.get(name, said)  # fmt: skip
        with pytest.raises(ValueError, match=said):
            trainer.test(module, ArrayDataModule(walks(), window=16), ckpt_path=file, verbose=False)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"no checkpoint"])
def test_a_damaged_file_is_said(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "cut.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"cut\.ckpt is not a (readable )?checkpoint"):
        load_checkpoint(file)
    assert "cut.ckpt" in refused(capsys, "sample", f"--ckpt_path={file}")


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.slow
def test_a_hostile_checkpoint_runs_nothing(
    good: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, file = tmp_path / "mark", tmp_path / "hostile.ckpt"
    for place in ("", "hyper_parameters", "state_dict", "states"):
        hostile = good | ({place: {"x": Payload(mark)}} if place else {"more": Payload(mark)})
        torch.save(hostile, file)
        for load in (load_checkpoint, RNNRNADEModule.load_from_checkpoint):
            with pytest.raises(ValueError, match=r"hostile\.ckpt is not a readable.*mkdir"):
                load(file)
        refused(capsys, "sample", f"--ckpt_path={file}")
        refused(capsys, "test", f"--ckpt_path={file}", "--data=ArrayDataModule", "--data.root=x")
        assert not mark.exists()
        torch.load(file, weights_only=False)  # the payload does work
        assert mark.exists()
        mark.rmdir()
    file.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(ValueError, match="not a readable"):
        load_checkpoint(file)
    assert not mark.exists()
    pickle.loads(file.read_bytes())
    assert mark.exists()


def test_a_class_that_a_checkpoint_names_is_not_imported(
    good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "hostile_package.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    name = "hostile_package.Thing"
    inner = {"class_path": name, "init_args": {}}
    for changed in (
        {"module_class": name},
        {"hyper_parameters": good["hyper_parameters"] | {"component": inner}},
        {"hyper_parameters": good["hyper_parameters"] | {"cell": name}},
        {"data_class": name, "Thing": good["ArrayDataModule"]},
    ):
        torch.save(good | changed, file := tmp_path / "hostile.ckpt")
        checkpoint = load_checkpoint(file)
        with pytest.raises(ValueError, match=r"hostile\.ckpt.*--trust hostile_package"):
            (load_data if "data_class" in changed else load_model)(checkpoint)
        assert not mark.exists()
    with pytest.raises(ValueError, match="no class"):
        load_data(load_checkpoint(file), trust="hostile_package")
    assert mark.exists()  # it does run where it is trusted


def test_a_folder_or_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such checkpoint$"):
        load_checkpoint(tmp_path / "best.ckpt")
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(ValueError, match=r"no such checkpoint; beside it there is last\.ckpt"):
        load_checkpoint(tmp_path / "best.ckpt")
    with pytest.raises(ValueError, match=r"a folder without config\.json; name the \.ckpt"):
        load_checkpoint(tmp_path)


@pytest.mark.slow
def test_gradcheck_takes_a_checkpoint_that_fits(path: Path) -> None:
    main(["gradcheck", f"--ckpt_path={path}", "--n_frames=2"])

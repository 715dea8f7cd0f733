"""A pretrained folder is a checkpoint without its training: the same numbers, and nothing runs."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from misfits import trained, walks
from toy import refused

from rnade_lightning import pretrained
from rnade_lightning.__main__ import main
from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.datamodules import ArrayDataModule
from rnade_lightning.lightning_module import RNNDensityModule, RNNRNADEModule, SequenceModule

pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def folder(path: Path, tmp_path: Path) -> Path:
    SequenceModule.load_from_checkpoint(path).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_holds_all_of_a_checkpoint_but_its_training(path: Path, folder: Path) -> None:
    whole, kept = load_checkpoint(path), load_checkpoint(folder)
    for key in ("hyper_parameters", "datamodule_hyper_parameters", "module_class", "data_class"):
        assert kept[key] == whole[key]
    assert kept["state_dict"].keys() == whole["state_dict"].keys()
    assert all(torch.equal(w, kept["state_dict"][k]) for k, w in whole["state_dict"].items())
    one, two = load_data(whole), load_data(kept)
    raw = walks()[0]
    assert torch.equal(one.standardise(raw), two.standardise(raw))
    assert np.array_equal(one.destandardise(raw), two.destandardise(raw))
    assert "optimizer_states" not in kept
    text = json.loads((folder / "config.json").read_text())
    assert text["ArrayDataModule"]["standardiser"]["names"] == [f"feature_{d}" for d in range(3)]


def test_from_pretrained_is_the_model_and_is_saved_again(folder: Path, tmp_path: Path) -> None:
    frames = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    expected = load_model(load_checkpoint(folder)).log_prob(frames)
    module = RNNRNADEModule.from_pretrained(folder)
    assert not module.training
    assert torch.equal(module(frames), expected)
    assert type(SequenceModule.from_pretrained(str(folder))) is RNNRNADEModule
    module.save_pretrained(tmp_path / "again")
    assert torch.equal(load_model(load_checkpoint(tmp_path / "again")).log_prob(frames), expected)
    assert load_data(load_checkpoint(tmp_path / "again")).feature_names[0] == "feature_0"
    with pytest.raises(ValueError, match=r"holds a .*RNNRNADEModule, not a .*RNNDensityModule"):
        RNNDensityModule.from_pretrained(folder)


def test_a_module_that_never_trained_is_saved_with_its_data(tmp_path: Path) -> None:
    data = ArrayDataModule(walks(), window=16)
    RNNRNADEModule(data.n_features, n_hidden=4).save_pretrained(tmp_path / "a", data)
    assert load_data(load_checkpoint(tmp_path / "a")).feature_names == data.feature_names
    RNNRNADEModule(3, n_hidden=4).save_pretrained(tmp_path / "b")
    with pytest.raises(ValueError, match="holds no data module"):
        load_data(load_checkpoint(tmp_path / "b"))


@pytest.mark.slow
def test_every_command_takes_a_folder(
    folder: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", walks()[0])
    for source in (folder, path):
        main(["score", f"--ckpt_path={source}", "--files=a.npy", f"--out={source.stem}.csv"])
    assert Path("model.csv").read_text() == Path(f"{path.stem}.csv").read_text()
    main(["sample", f"--ckpt_path={folder}", "--n_frames=3", "--n_samples=1"])
    main(["gradcheck", f"--ckpt_path={folder}", "--n_frames=2"])
    main(["combine", f"--ckpt_paths=['{folder}','{path}']", "--out=both.ckpt"])
    SequenceModule.load_from_checkpoint("both.ckpt").save_pretrained("both")
    some = ("--data=ArrayDataModule", "--data.root=a.npy", "--data.window=16")
    quiet = ("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")
    nats = []
    for source in (folder, path, "both", "both.ckpt"):
        capsys.readouterr()
        main(["validate", *some, *quiet, "--trainer.logger=false", f"--ckpt_path={source}"])
        printed = capsys.readouterr().out
        nats.append(next(line for line in printed.splitlines() if "val/nll" in line))
    assert len(set(nats)) == 1
    logged = (*quiet, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=runs")
    for command in ("test", "predict"):
        main([command, *some, *logged, f"--ckpt_path={folder}"])


OWN = """
from rnade_lightning.lightning_module import RNNRNADEModule

class Own(RNNRNADEModule):
    def __init__(self, n_features: int, units: int = 6) -> None:
        super().__init__(n_features, n_hidden=units, n_recurrent=units)
"""


def test_a_model_of_ones_own_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_pretrained.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    import own_pretrained  # type: ignore[import-not-found]

    own_pretrained.Own(3, units=4).save_pretrained(tmp_path / "model")
    del sys.modules["own_pretrained"]
    with pytest.raises(ValueError, match="--trust own_pretrained"):
        SequenceModule.from_pretrained(tmp_path / "model")
    assert "own_pretrained" not in sys.modules
    found = SequenceModule.from_pretrained(tmp_path / "model", trust="own_pretrained")
    assert found.hparams["units"] == 4


def test_a_folder_is_whole_at_every_moment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop after each single step of writing leaves the old model or the new one."""
    before = load_model(load_checkpoint(folder)).state_dict()
    module = RNNRNADEModule.from_pretrained(folder)
    with torch.no_grad():
        module.model.rnade.b_mu += 1
    replace, done = os.replace, []

    class Killed(BaseException):
        pass

    def stops(at: int) -> Any:
        def step(source: Any, target: Any) -> None:
            if len(done) == at:
                raise Killed
            done.append(target)
            replace(source, target)

        return step

    for at in range(2):
        done.clear()
        monkeypatch.setattr(os, "replace", stops(at))
        with pytest.raises(Killed):
            module.save_pretrained(folder)
        now = load_model(load_checkpoint(folder)).state_dict()
        assert all(torch.equal(before[k], now[k]) for k in before)
    monkeypatch.undo()
    module.save_pretrained(folder)
    now = load_model(load_checkpoint(folder)).state_dict()
    assert torch.equal(now["rnade.b_mu"], before["rnade.b_mu"] + 1)
    assert len(list(folder.iterdir())) == 2


def test_a_damaged_folder_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, (weights,) = folder / "config.json", folder.glob("*.safetensors")
    text, numbers = config.read_text(), weights.read_bytes()
    content = json.loads(text)
    flipped = bytearray(numbers)
    flipped[-1] ^= 1

    def says(what: str) -> None:
        line = refused(capsys, "sample", f"--ckpt_path={folder}")
        assert what in line
        assert str(folder) in line

    for changed in (numbers[:-5], b"", bytes(flipped)):
        weights.write_bytes(changed)
        says("is not the file that config.json names")
    weights.write_bytes(numbers)
    for cut in ("", text[:50], "[]", "[" * 100_000):
        config.write_text(cut)
        says("config.json")
    for changed_content, said in (
        ({"weights": "../secret"}, "names no file of weights beside it"),
        ({"weights": "gone.safetensors"}, "damaged"),
        ({"format": 7}, "its format is 7"),
        ({"hyper_parameters": content["hyper_parameters"] | {"n_dreams": 1}}, "n_dreams"),
        ({"ArrayDataModule": {"x": {"dtype": "load", "shape": [], "values": 0}}}, "no type"),
    ):
        config.write_text(json.dumps(content | changed_content))
        says(said)
    weights.unlink()
    config.write_text(text)
    says("damaged")


def test_values_that_a_folder_does_not_keep_are_said(tmp_path: Path) -> None:
    for value in (object(), {1: 2}, np.zeros(3)):
        with pytest.raises(ValueError, match=r"more\.x (holds|has the key)"):
            pretrained.write({"state_dict": {}, "more": {"x": value}}, tmp_path / "a")
    assert not (tmp_path / "a" / "config.json").exists()


def test_without_the_extra_the_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"owner/name: no such folder.*rnade-lightning\[hub\]"):
        SequenceModule.from_pretrained("owner/name")


def test_the_hub_is_asked_for_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline: a stand-in for the library, and the library itself where it is installed."""
    asked = []

    def snapshot_download(name: str, revision: Any, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        return str(folder)

    stand_in = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
    found = SequenceModule.from_pretrained("owner/name", revision="v1")
    assert found.hparams["n_hidden"] == 4
    assert asked == [("owner/name", "v1", ["config.json", "weights-*.safetensors"])]
    monkeypatch.undo()
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"owner/none: no such folder, and the Hugging Face Hub"):
        SequenceModule.from_pretrained("owner/none")

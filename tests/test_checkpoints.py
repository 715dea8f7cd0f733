"""Checkpoints: a round trip, classes of a person's own, trust, ensembles."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from toy import fitted, options, refused, same_bits, value, weights

from rnade_lightning.__main__ import main
from rnade_lightning.checkpoints import (
    _equal,
    combine_checkpoints,
    load_checkpoint,
    load_data,
    load_model,
)
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.lightning_module import RNNDensityModule, RNNRNADEModule

OWN = """
from pathlib import Path
import numpy as np
from rnade_lightning import RNNRNADE
from rnade_lightning.datamodules import FrameDataModule, Recording
from rnade_lightning.densities import Gaussian
from rnade_lightning.lightning_module import RNNRNADEModule

class OwnData(FrameDataModule):
    extensions = (".npy",)

    def __init__(self, root: str | None = None, times: float = 1.0, **kwargs) -> None:
        super().__init__(root, **kwargs)
        self.times = times

    def read(self, path: Path) -> Recording:
        return Recording({{"": {scale} * self.times * np.load(path)}}, list("xyz"), 10.0, {{}})

    def write(self, raw, stem: Path) -> list[Path]:
        np.save(path := stem.with_name(stem.name + ".npy"), raw)
        return [path]

class Quiet(RNNRNADE):
    loudness = 1.0

    def stream(self, *args, **kwargs):
        for frame in super().stream(*args, **kwargs):
            yield self.loudness * frame

class OwnModule(RNNRNADEModule):
    def __init__(self, n_features: int, loudness: float = 1.0, units: int = 6) -> None:
        super().__init__(n_features, n_hidden=units, n_recurrent=units)
        self.model = Quiet(n_features, units, units, 2)
        self.model.loudness = loudness

class Forwarding(RNNRNADEModule):
    def __init__(self, n_features: int, units: int = 6, note: object = None, **kwargs) -> None:
        super().__init__(n_features, n_hidden=units, **kwargs)
        self.save_hyperparameters(ignore=["note"])

class OwnDensity(Gaussian):
    pass
"""


def forget(*names: str) -> None:
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Import one of two modules whose classes have the same names, but different frames."""
    for name, scale in (("own_one", 1.0), ("own_two", 100.0)):
        (tmp_path / f"{name}.py").write_text(OWN.format(scale=scale))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module
    forget("own_one", "own_two")


def own_options(*replaced: str) -> tuple[str, ...]:
    """Return options that replace those of a small run: data and model of one's own."""
    return ("--data=own_one.OwnData", "--data.window=16", *replaced)


def plain_loader() -> Any:
    frames = torch.randn(4, 10, 3, generator=torch.Generator().manual_seed(0))
    batches = [{"frames": x, "mask": torch.ones(10, dtype=torch.bool)} for x in frames]
    return torch.utils.data.DataLoader(batches, 2)  # type: ignore[arg-type]


def same_model(one: Any, other: Any) -> None:
    frames = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    assert type(one) is type(other)
    assert torch.equal(one.eval().log_prob(frames), other.eval().log_prob(frames))


@pytest.mark.slow
def test_checkpoint_round_trip(fit: Callable[..., Path], root: Path) -> None:
    path = fit() / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(str(path))
    data, model = load_data(checkpoint), load_model(checkpoint)
    frames = data.score_input(root / "take0.npy").frames[None]
    again = RNNRNADEModule.load_from_checkpoint(path, weights_only=True).eval()
    assert torch.equal(again(frames), model.log_prob(frames))
    assert same_bits(again.state_dict(), weights(path))


@pytest.mark.slow
def test_classes_are_named_by_their_public_path(fit: Callable[..., Path]) -> None:
    checkpoint = load_checkpoint(str(fit() / "checkpoints" / "last.ckpt"))
    assert checkpoint["module_class"] == "rnade_lightning.lightning_module.RNNRNADEModule"
    assert checkpoint["data_class"] == "toy.ToyDataModule"
    assert checkpoint["hyper_parameters"]["lr"] == 0.002  # that of the optimiser's options


def test_a_density_of_ones_own_reloads(tmp_path: Path, own: Callable[[str], Any]) -> None:
    own("own_one")
    module = RNNDensityModule(3, {"class_path": "own_one.OwnDensity", "init_args": {"floor": 0.1}})
    path = fitted(module, tmp_path, plain_loader())
    same_model(load_model(load_checkpoint(path)), module.model)
    forget("own_one")
    with pytest.raises(ValueError, match=r"own_one\.OwnDensity.*--trust own_one"):
        load_model(load_checkpoint(path))
    with pytest.raises(ValueError, match=r"--trust own_one"):
        RNNDensityModule.load_from_checkpoint(path)
    assert load_model(load_checkpoint(path), trust=["own_one"]).floor == 0.1
    assert RNNDensityModule.load_from_checkpoint(path, trust="own_one").model.floor == 0.1


@pytest.mark.parametrize("name", ["OwnModule", "Forwarding"])
def test_a_module_of_ones_own_reloads(name: str, tmp_path: Path, own: Callable[[str], Any]) -> None:
    kind = getattr(own("own_one"), name)
    module = kind(3, units=4)
    path = fitted(module, tmp_path, plain_loader())
    checkpoint = load_checkpoint(path)
    assert checkpoint["module_class"] == f"own_one.{name}"
    assert checkpoint["data_class"] is None
    same_model(load_model(checkpoint), module.model)
    same_model(kind.load_from_checkpoint(path).model, module.model)
    with pytest.raises(ValueError, match="holds no data module"):
        load_data(checkpoint)


@pytest.mark.slow
def test_own_classes_are_used_by_every_command(
    tmp_path: Path, root: Path, own: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = ("--model=own_one.OwnModule", "--model.loudness=0")
    sizes = [o for o in options(root, tmp_path / "runs") if not o.startswith("--model")]
    main(["fit", *sizes, *own_options(*model), "--trainer.max_epochs=1"])
    path = tmp_path / "runs" / "toy" / "version_0" / "checkpoints" / "best.ckpt"
    both = f"--ckpt_paths=['{path}','{path}']"
    forget("own_one")

    def asks_for_trust(*command: str) -> None:
        assert "--trust own_one" in refused(capsys, *command)
        forget("own_one")
        main([*command, "--trust=own_one"])
        forget("own_one")

    asks_for_trust("sample", f"--ckpt_path={path}", f"--out={tmp_path / 'drawn'}", "--n_frames=4")
    drawn = [np.load(file) for file in (tmp_path / "drawn").glob("*.npy")]
    assert len(drawn) == 3
    assert all(np.ptp(frames, 0).max() < 1e-9 for frames in drawn)  # its own way to sample
    scores = tmp_path / "scores.csv"
    asks_for_trust("score", f"--ckpt_path={path}", f"--files={root}", f"--out={scores}")
    assert len(scores.read_text().splitlines()) == 1 + 90 + 61 + 47
    asks_for_trust("combine", both, f"--out={tmp_path / 'both.ckpt'}")
    asks_for_trust("gradcheck", f"--ckpt_path={tmp_path / 'both.ckpt'}")
    # `test` names the data on the command line, and so trusts their package
    main(["test", *sizes, *own_options(), f"--ckpt_path={tmp_path / 'both.ckpt'}"])
    assert "Ensemble" in capsys.readouterr().out


@pytest.mark.slow
def test_two_data_classes_of_one_name_do_not_mix(
    tmp_path: Path, root: Path, own: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = own("own_one").OwnData, own("own_two").OwnData
    assert one.__qualname__ == two.__qualname__
    path = fitted(RNNRNADEModule(3), tmp_path, one(str(root), window=16, times=2.0))
    forget("own_one", "own_two")
    data = load_data(load_checkpoint(path), trust="own_one")
    assert type(data).__module__ == "own_one"
    assert data.times == 2.0  # type: ignore[attr-defined]
    asked = ("--data=own_two.OwnData", f"--ckpt_path={path}", "--trust=own_one")
    line = refused(capsys, "test", *options(root, tmp_path, *asked))
    assert "own_one.OwnData" in line
    assert "own_two.OwnData" in line
    with pytest.raises(ValueError, match=r"own_one\.OwnData, not of own_two\.OwnData"):
        pl.Trainer(logger=False, accelerator="cpu").test(
            RNNRNADEModule(3), two(str(root), window=16), ckpt_path=path
        )


def test_data_classes_of_one_name_are_not_combined(
    tmp_path: Path, root: Path, own: Callable[[str], Any]
) -> None:
    paths = [
        fitted(
            RNNRNADEModule(3), tmp_path / name, own(name).OwnData(str(root), window=16, times=times)
        )
        for name, times in (("own_one", 100.0), ("own_two", 1.0))
    ]
    first, second = map(load_checkpoint, paths)
    assert first["OwnData"]["layout"] == second["OwnData"]["layout"]
    with pytest.raises(ValueError, match="were not trained on the same data"):
        combine_checkpoints([first, second])


@pytest.mark.slow
def test_what_the_user_names_is_trusted(
    tmp_path: Path, root: Path, own: Callable[[str], Any]
) -> None:
    data = own("own_one").OwnData(str(root), window=16)
    path = fitted(own("own_one").OwnModule(3, units=5), tmp_path, data)
    forget("own_one")
    some = [o for o in options(root, tmp_path / "runs") if not o.startswith("--model")]
    main(["test", *some, *own_options(), f"--ckpt_path={path}"])
    assert (tmp_path / "runs" / "toy" / "version_0" / "comparison.csv").is_file()


def test_a_checkpoint_of_an_earlier_version_gets_one_line(tmp_path: Path) -> None:
    old = tmp_path / "old.ckpt"
    torch.save({"module_class": "RNNRNADEModule", "state_dict": {}}, old)
    with pytest.raises(ValueError, match=r"old\.ckpt was written by an earlier version"):
        load_checkpoint(str(old))


def test_arguments_that_are_not_plain_are_asked_for(
    tmp_path: Path, own: Callable[[str], Any]
) -> None:
    class NeedsNet(RNNRNADEModule):
        def __init__(self, n_features: int, net: torch.nn.Module) -> None:
            super().__init__(n_features, n_hidden=4)

    module = NeedsNet(3, torch.nn.Linear(1, 1))
    assert "net" not in module.hparams
    with pytest.raises(ValueError, match=r"NeedsNet cannot be made from the checkpoint.*'net'"):
        NeedsNet.from_hyperparameters(module.hparams)


# ------------------------------------------------------------------ ensembles


@pytest.mark.slow
def test_combined_checkpoints_are_a_model_like_any_other(
    fit: Callable[..., Path], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    averaged = "--trainer.callbacks+=AveragedWeights"
    runs = [
        fit(f"--model.feature_order={i}", f"--seed_everything={i}", averaged, name=f"run{i}")
        for i in (1, 2)
    ]
    paths = [str(run / "checkpoints" / "best.ckpt") for run in runs]
    out = str(tmp_path / "both.ckpt")
    main(["combine", *(f"--ckpt_paths+={path}" for path in paths), f"--out={out}"])
    assert "current_model_state" not in torch.load(out, weights_only=True)
    data = [o for o in options(root, tmp_path / "test") if not o.startswith("--model")]
    main(["test", *data, f"--ckpt_path={out}"])
    printed = capsys.readouterr().out
    assert "Ensemble" in printed
    combined = value(tmp_path / "test" / "toy" / "version_0", "test/nll")
    alone = [value(run, "test/nll") for run in runs]
    assert combined < sum(alone) / 2
    main(["sample", f"--ckpt_path={out}", f"--out={tmp_path / 'drawn'}", "--n_frames=5"])
    assert len(list((tmp_path / "drawn").glob("*.npy"))) == 3
    again = combine_checkpoints([load_checkpoint(out), load_checkpoint(out)])
    frames = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    log_p = [load_model(c).log_prob(frames) for c in (load_checkpoint(out), again)]
    torch.testing.assert_close(*log_p)


def test_states_of_data_are_alike_but_for_rounding() -> None:
    state = {"mean": torch.ones(3), "axes": [0.6, {"of": np.float64(0.8)}], "names": ["a"]}
    rounded = {
        "mean": torch.ones(3) * (1 + 1e-12),
        "axes": [0.6 - 1e-13, {"of": 0.8}],
        "names": ["a"],
    }
    assert _equal(state, rounded)
    for key, other in (("mean", torch.ones(3) * 1.001), ("axes", [0.6]), ("names", ["b"])):
        assert not _equal(state, rounded | {key: other})


@pytest.mark.slow
def test_checkpoints_of_other_data_are_not_combined(
    fit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = fit(name="one") / "checkpoints" / "best.ckpt"
    other = fit("--data.test_fraction=0.4", name="other") / "checkpoints" / "best.ckpt"
    line = refused(
        capsys, "combine", f"--ckpt_paths=['{one}','{other}']", f"--out={tmp_path / 'x.ckpt'}"
    )
    assert "were not trained on the same data" in line
    assert not (tmp_path / "x.ckpt").exists()


def test_data_of_this_package_need_no_trust(tmp_path: Path, root: Path) -> None:
    from rnade_lightning.datamodules import ArrayDataModule

    data = ArrayDataModule(str(root), window=16)
    path = fitted(RNNRNADEModule(data.n_features, n_hidden=4), tmp_path, data)
    again: FrameDataModule = load_data(load_checkpoint(path))
    assert type(again) is ArrayDataModule
    assert again.feature_names == data.feature_names

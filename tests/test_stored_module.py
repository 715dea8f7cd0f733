"""A module is made again as it was; another one is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from misfits import trained, walks

from rnade_lightning.checkpoints import load_checkpoint, load_data
from rnade_lightning.datamodules import ArrayDataModule
from rnade_lightning.lightning_module import RNNDensityModule, RNNRNADEModule, SequenceModule
from rnade_lightning.stored_module import StoredModule


class Own(RNNRNADEModule):
    """Arguments of its own, in place of those of its parent."""

    def __init__(self, n_features: int, units: int = 6, net: Any = None) -> None:
        super().__init__(n_features, n_hidden=units, n_recurrent=units, floor=0.2)


class LightningStyle(RNNRNADEModule):
    """Records its arguments as people do in Lightning, and more than those."""

    def __init__(self, units: int = 6, **kwargs: Any) -> None:
        super().__init__(n_hidden=units, **kwargs)
        self.save_hyperparameters()
        self.save_hyperparameters({"note": "mine"})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("kind", [Own, LightningStyle])
def test_a_class_with_arguments_of_its_own_is_made_again(kind: Any, tmp_path: Path) -> None:
    module = kind(n_features=3, units=4)
    path = trained(tmp_path, module)
    for base in (kind, RNNRNADEModule, SequenceModule, StoredModule):
        found = base.load_from_checkpoint(path)
        assert type(found) is kind
        assert found.hparams == module.hparams
        state = module.state_dict()
        assert all(torch.equal(w, state[k]) for k, w in found.state_dict().items())


def test_what_is_no_plain_value_is_asked_for(tmp_path: Path) -> None:
    path = trained(tmp_path, Own(3, net=torch.nn.Linear(1, 1)))
    with pytest.raises(ValueError, match="lack net"):
        Own.load_from_checkpoint(path)
    assert Own.load_from_checkpoint(path, net=torch.nn.Linear(1, 1)).hparams["units"] == 6


def test_arguments_in_place_of_the_recorded_ones_are_asked_for_by_name(path: Path) -> None:
    assert RNNRNADEModule.load_from_checkpoint(path, dropout=0.5).model.dropout == 0.5
    with pytest.raises(ValueError, match="has the size"):
        RNNRNADEModule.load_from_checkpoint(path, n_hidden=9)
    with pytest.raises(ValueError, match="hparams_file and weights_only=False"):
        RNNRNADEModule.load_from_checkpoint(path, weights_only=False)
    with pytest.raises(ValueError, match=r"holds a .*RNNRNADEModule, not a .*RNNDensityModule"):
        RNNDensityModule.load_from_checkpoint(path)


def test_weights_may_be_missing_where_that_is_asked_for(path: Path, tmp_path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["state_dict"]["model.W_mu"]
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="lacks the weights"):
        RNNRNADEModule.load_from_checkpoint(tmp_path / "a.ckpt")
    RNNRNADEModule.load_from_checkpoint(tmp_path / "a.ckpt", strict=False)


def quiet(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, use_distributed_sampler=False, **options,
    )  # fmt: skip


def test_a_trainer_refuses_the_checkpoint_of_another_model(path: Path, tmp_path: Path) -> None:
    sizes = {"n_hidden": 4, "n_recurrent": 5}
    data = ArrayDataModule(walks(), window=16)

    def test(module: pl.LightningModule) -> None:
        quiet(tmp_path).test(module, data, ckpt_path=path, verbose=False)

    test(RNNRNADEModule(3, **sizes, floor=0.3, lr=0.1))
    with pytest.raises(ValueError, match=r"another model: its floor is 0\.3, here it is 0\.01"):
        test(RNNRNADEModule(3, **sizes))  # whose weights fit
    with pytest.raises(ValueError, match=r"of another model, .*RNNRNADEModule, not .*Own"):
        test(Own(3, units=4))
    with pytest.raises(ValueError, match=r"3 features a frame, the data have 2"):
        quiet(tmp_path).test(
            RNNRNADEModule(2),
            torch.utils.data.DataLoader([torch.zeros(9, 2)], 1),  # type: ignore[arg-type]
            ckpt_path=path,
        )


def test_a_trainer_goes_on_with_the_same_data_only(path: Path, tmp_path: Path) -> None:
    module = RNNRNADEModule(3, n_hidden=4, n_recurrent=5, floor=0.3)
    with pytest.raises(ValueError, match="other data than the checkpoint's: train is 2 sequences"):
        quiet(tmp_path, max_epochs=2).fit(
            module, ArrayDataModule(walks()[:2], window=16), ckpt_path=path
        )
    quiet(tmp_path, max_epochs=2).fit(module, ArrayDataModule(walks(), window=16), ckpt_path=path)
    assert module.global_step > 1


def test_the_data_of_a_run_take_the_place_of_those_loaded(path: Path, tmp_path: Path) -> None:
    module = RNNRNADEModule.load_from_checkpoint(path)
    data = ArrayDataModule(walks()[:2], window=20)
    trainer = quiet(tmp_path, max_steps=1)
    trainer.fit(module, data)
    found = load_checkpoint(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    assert found["datamodule_hyper_parameters"]["window"] == 20
    assert torch.equal(load_data(found).standardise(walks()[0]), data.standardise(walks()[0]))


def test_plain_data_modules_of_lightning_do_not_stand_in_the_way(tmp_path: Path) -> None:
    class Plain(pl.LightningDataModule):
        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader([torch.zeros(9, 3)], 1)  # type: ignore[arg-type]

    trainer = quiet(tmp_path, max_steps=1)
    trainer.fit(RNNRNADEModule(3, n_hidden=4), Plain())
    path = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    RNNRNADEModule.load_from_checkpoint(path)
    with pytest.raises(ValueError, match="Plain"):
        load_data(load_checkpoint(path))


def test_a_model_is_loaded_as_fine_as_it_was_trained(tmp_path: Path) -> None:
    module = RNNRNADEModule(3, n_hidden=4, n_recurrent=4).double()
    frames = torch.randn(2, 6, 3, dtype=torch.float64)
    module.save_pretrained(tmp_path / "fine")
    found = RNNRNADEModule.from_pretrained(tmp_path / "fine")
    assert torch.equal(found.model.log_prob(frames), module.model.log_prob(frames))
    module.float().save_pretrained(tmp_path / "plain")
    found = RNNRNADEModule.from_pretrained(tmp_path / "plain")
    assert found.model.u_0.dtype == torch.float32


@pytest.mark.parametrize("kind", [torch.tensor, tuple])
def test_an_order_is_kept_whatever_holds_it(kind: Any, tmp_path: Path) -> None:
    module = RNNRNADEModule(3, n_hidden=4, n_recurrent=4, feature_order=kind([2, 0, 1]))
    module.save_pretrained(tmp_path / "a")
    assert RNNRNADEModule.from_pretrained(tmp_path / "a").model.feature_order == [2, 0, 1]

"""Disturbances have the shape of the model's noise, die away, and reach training frames alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from toy import ToyDataModule

from rnade_lightning.callbacks import Disturbances, LinearStart
from rnade_lightning.lightning_module import RNNRNADEModule
from rnade_lightning.rnn_rnade import RNNRNADE

D, T = 3, 40


def white_model(order: Any = None, past: Any = "reverting") -> RNNRNADE:
    """A model in white units, whose path from two past frames is stable."""
    model = RNNRNADE(
        D, 2, 4, 1, n_past=2, past=past, kappa=0.9, whiten=True, feature_order=order
    ).double()
    g = torch.Generator().manual_seed(0)
    assert model.root is not None
    with torch.no_grad():
        own = model.get_parameter("B" if past == "reverting" else "A")
        own.copy_(0.2 * torch.randn(own.shape, generator=g, dtype=torch.float64))
        model.root.copy_(torch.randn(D, D, generator=g).tril() + 2 * torch.eye(D))
    return model


def jumps_of(model: RNNRNADE, added: Tensor, decay: float) -> Tensor:
    """Return what the decayed path does not explain of disturbances, frame after frame."""
    A, left = model.past_weights().detach(), added.clone()
    for t in range(added.shape[1]):
        for i in range(1, min(len(A), t) + 1):
            left[:, t] -= decay**i * added[:, t - i] @ A[i - 1].T
    return left


@pytest.mark.parametrize("past", ["free", "reverting"])
def test_disturbances_die_away_along_the_decayed_path(past: Any) -> None:
    torch.manual_seed(0)
    model = white_model(past=past)
    begins, added = Disturbances(decay=0.8).draw(model, 20, T)
    left = jumps_of(model, added, 0.8)
    assert left[~begins].abs().max() < 1e-12 < left[begins].abs().amin(-1).min()
    assert jumps_of(model, added, 0.81)[~begins].abs().max() > 1e-3  # another decay is told


@pytest.mark.parametrize("order", [None, [2, 0, 1]])
def test_they_begin_as_the_models_noise(order: Any) -> None:
    """Their covariance is that of what the path leaves unexplained, times the mean of s^2."""
    torch.manual_seed(0)
    model = white_model(order)
    begins, added = Disturbances(share=1.0, rate=0.5, size=3.0).draw(model, 5000, T)
    jumps = jumps_of(model, added, 0.88)[begins]
    history = torch.zeros(len(jumps), model.n_history, dtype=torch.float64)
    white = model.unexplained(jumps, history)
    expected = 3.0 * torch.eye(D, dtype=torch.float64)  # the mean of s^2 is 3^2 / 3
    torch.testing.assert_close(white.T @ white / len(white), expected, rtol=0.05, atol=0.05)


def test_a_share_of_the_windows_is_disturbed_from_the_first_frame_on() -> None:
    torch.manual_seed(0)
    begins, added = Disturbances(share=0.7, rate=0.1).draw(white_model(), 4000, 20)
    disturbed = begins[:, 0]
    assert disturbed.double().mean().item() == pytest.approx(0.7, abs=0.03)
    assert begins[disturbed, 1:].double().mean().item() == pytest.approx(0.1, abs=0.01)
    assert not begins[~disturbed].any()
    assert (added[~disturbed] == 0).all()


def test_they_follow_the_seed() -> None:
    model = white_model()
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(Disturbances().draw(model, 4, T)[1])
    assert drawn[0].equal(drawn[1])
    assert not drawn[0].equal(drawn[2])


class Seen(pl.Callback):
    """Keeps the batches that training and validation see."""

    def __init__(self) -> None:
        self.train: list[Any] = []
        self.val: list[Any] = []

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, i: int) -> None:
        self.train.append(batch)

    def on_validation_batch_end(self, *given: Any) -> None:
        self.val.append(given[3])


def seen(root: Path, *callbacks: pl.Callback, **options: Any) -> Seen:
    found = Seen()
    torch.manual_seed(0)
    module = RNNRNADEModule(
        3, 0, 4, 1, component="gaussian", lr=1e-9, n_past=2, whiten=True, **options
    )
    data = ToyDataModule(str(root), window=16)
    pl.Trainer(
        max_epochs=1, callbacks=[LinearStart(), *callbacks, found], logger=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    ).fit(module, datamodule=data)  # fmt: skip
    return found


def test_only_training_frames_are_disturbed_and_no_beginning_is_scored(root: Path) -> None:
    clean, disturbed = seen(root), seen(root, Disturbances(share=1.0))
    for own, other in zip(clean.val, disturbed.val, strict=True):
        assert own["frames"].equal(other["frames"])
        assert own["mask"].equal(other["mask"])
    for own, other in zip(clean.train, disturbed.train, strict=True):
        mask, scored = other["mask"], other["scored"]
        moved = (own["frames"] != other["frames"]).any(-1)
        assert moved[mask].any()
        assert not moved[~mask].any()
        assert not scored[:, 0].any()
        assert not scored[~mask].any()
        assert 0.7 < (scored.sum() / mask.sum()).item() < 0.95
    unchanged = seen(root, Disturbances(share=0.0))
    for own, other in zip(clean.train, unchanged.train, strict=True):
        assert own["frames"].equal(other["frames"])
        assert other["scored"].equal(other["mask"])


@pytest.mark.parametrize(
    "options", [{"share": 1.1}, {"rate": 1.0}, {"size": 0.0}, {"decay": 1.1}, {"decay": -0.1}]
)
def test_arguments_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="share and decay must be between 0 and 1"):
        Disturbances(**options)


@pytest.mark.parametrize("options", [{"n_past": 0}, {"whiten": False}])
def test_a_model_without_a_path_in_white_units_is_refused(options: dict[str, Any]) -> None:
    module = RNNRNADEModule(3, 0, 4, 1, **{"n_past": 2, "whiten": True, **options})
    with pytest.raises(ValueError, match=r"set model.n_past to 1 or more and model.whiten to true"):
        Disturbances().on_train_start(pl.Trainer(logger=False), module)


@pytest.mark.parametrize(
    "batch", [torch.zeros(2, 5, 3), {"frames": torch.zeros(2, 5, 3), "continues": torch.ones(2)}]
)
def test_batches_without_windows_of_their_own_are_refused(batch: Any) -> None:
    with pytest.raises(ValueError, match="windows that begin anew"):
        Disturbances().on_train_batch_start(None, RNNRNADEModule(3), batch, 0)  # type: ignore[arg-type]


def test_a_batch_of_which_nothing_would_be_scored_stays_as_it_is() -> None:
    """Every frame of windows of one frame begins a disturbance."""
    module = RNNRNADEModule(3, n_past=2, whiten=True)
    frames = torch.randn(4, 1, 3)
    batch = {"frames": frames, "mask": torch.ones(4, 1, dtype=torch.bool)}
    with pytest.warns(UserWarning, match="set data.window to 2 or more"):
        Disturbances(share=1.0).on_train_batch_start(None, module, batch, 0)  # type: ignore[arg-type]
    assert torch.equal(batch["frames"], frames)
    assert batch.get("scored", batch["mask"]).all()

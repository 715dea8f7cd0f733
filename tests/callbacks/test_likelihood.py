"""The figures of the likelihood are right."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import spread
from toy import (
    ToyDataModule,
    column,
)

from rnade_lightning import RNNRNADE
from rnade_lightning.callbacks.fitted_baselines import FittedBaselines
from rnade_lightning.callbacks.likelihood import Likelihood, ends_of, figures_of, ks_distance
from rnade_lightning.checkpoints import load_checkpoint, load_model
from rnade_lightning.datamodules import FrameSequence


def test_figures_in_chunks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnade_lightning.callbacks.likelihood.CHUNK", 7)
    model = spread(RNNRNADE(3, 4, 5, 2, "lstm", n_past=2).double())
    sequences = [sequence(torch.randn(n, 3).double(), f"s{n}") for n in (20, 33)]
    found = figures_of(model, sequences, first=3)
    for name, frames in sequences:
        expected = model.log_prob(frames[None])[0].detach().numpy()
        np.testing.assert_allclose(found.by_frame[name], expected, rtol=1e-10)
    terms = [model.feature_cdf(x[None])[0, 3:].detach() for _, x in sequences]
    torch.testing.assert_close(found.pit, torch.cat(terms))
    some = figures_of(model, sequences, first=3, n_frames=13)  # every fourth
    assert some.by_frame["s33"] == pytest.approx(found.by_frame["s33"][::4])
    assert len(some.scored) == 4 + 8  # frames 4, 8, .. of either


def test_ks_distance_equals_scipys() -> None:
    from scipy import stats

    u = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)).double() ** 1.3
    for found, column_ in zip(ks_distance(u), u.T, strict=True):
        assert found == pytest.approx(stats.kstest(column_.numpy(), "uniform").statistic)


def test_the_ends_of_the_pit_tell_tails_that_are_too_light_at_that_end() -> None:
    """Values twice as wide as a Gaussian density says, above its mean alone."""
    z = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)).double()
    assert ends_of(torch.special.ndtr(z)) == pytest.approx((0.01, 0.01), abs=0.002)
    wide = torch.where(z > 0, 2 * z, z)
    expected = 1 - torch.special.ndtr(torch.special.ndtri(torch.tensor(0.99).double()) / 2)
    assert ends_of(torch.special.ndtr(wide)) == pytest.approx((0.01, float(expected)), abs=0.01)


def sequence(frames: torch.Tensor, name: str = "a") -> FrameSequence:
    return FrameSequence(name, frames, torch.zeros(len(frames)))


class Collapsed:
    """A data module whose second feature hardly moves."""

    feature_names = ("left", "stuck", "right")


@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_a_feature_that_collapses_is_counted_and_named_once(floor: float) -> None:
    model = RNNRNADE(3, 4, 5, 1, floor=floor).double()
    frames = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
    frames[:, 1] = 0
    callback = Likelihood()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as it starts, every scale is 1
        numbers = callback._numbers(figures_of(model, [sequence(frames)], 3), Collapsed())
    assert numbers["n_degenerate"] == 0
    assert {"ks", "pit_low", "pit_high"} < set(numbers)
    with torch.no_grad():
        model.rnade.b_sigma[1] = -20
        for mean in (model.rnade.b_mu, model.rnade.V_mu, model.W_mu):
            mean.zero_()  # where the feature is
    found = figures_of(model, [sequence(frames)], 3)
    with pytest.warns(UserWarning, match=r"1 of 3 features are degenerate.*: stuck\."):
        assert callback._numbers(found, Collapsed())["n_degenerate"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback._numbers(found, Collapsed())


@pytest.mark.slow
def test_baselines_are_flat_lines_of_the_validation_frames(fit: Any, root: Path) -> None:
    folder = fit("--trainer.callbacks+=Likelihood", "--trainer.callbacks.every_n_validations=1")
    data = ToyDataModule(root=str(root), window=16)
    var = FittedBaselines(3, 20_000).fitted(data, "val")[1]
    log_p = torch.cat([var.log_prob(s.frames, 3) for s in data.sequences("val")])
    found = column(folder, "val/nll_var")
    assert len(found) == 2
    assert list(found.values()) == [pytest.approx(-log_p.mean().item())] * 2
    model = load_model(load_checkpoint(str(folder / "checkpoints" / "last.ckpt")))
    for name, frames in data.sequences("val"):
        expected = model.log_prob(frames[None])[0].mean().item()
        last = column(folder, f"val/log_p/{name}").popitem()[1]
        assert last == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_the_table_by_feature_adds_up(fit: Any) -> None:
    folder = fit()
    with open(folder / "likelihood" / "by_feature.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["feature"] for row in rows] == ["x0", "x1", "x2"]
    total = sum(float(row["log_prob"]) for row in rows)
    assert total == pytest.approx(-column(folder, "test/nll").popitem()[1], abs=1e-4)
    with open(folder / "comparison.csv") as file:
        compared = {row["name"]: float(row["log_prob"]) for row in csv.DictReader(file)}
    for key, name in (("copy_last", "copy the last frame"), ("var", "VAR")):
        assert sum(float(row[key]) for row in rows) == pytest.approx(compared[name])
    with open(folder / "likelihood" / "by_frame.csv") as file:
        frames = list(csv.DictReader(file))
    assert frames[0]["var"] == "nan"  # not scored
    scored = [float(row["var"]) for row in frames if row["var"] != "nan"]
    assert np.mean(scored) == pytest.approx(compared["VAR"])

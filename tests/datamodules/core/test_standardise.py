"""Statistics, and features that carry nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tables import NAMES, module, table

from rnade_lightning.datamodules.core.standardise import Standardiser


def test_statistics_come_from_training_frames_only(tables_at: Path) -> None:
    data = module(tables_at)
    train = torch.cat([sequence.frames for sequence in data.sequences("train")]).double()
    torch.testing.assert_close(train.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(train.std(0, False), torch.ones(3).double(), atol=1e-6, rtol=0)
    assert torch.cat([s.frames for s in data.sequences("test")]).mean(0).abs().min() > 1e-3


def test_dependent_and_constant_features_are_found_named_and_put_back(tables_at: Path) -> None:
    data = module(tables_at)
    assert data.feature_names == ["a", "b", "c"]
    assert data.dropped == {"still": "constant", "sum": "linear in b, a"}
    raw = table(20, seed=9)
    np.testing.assert_allclose(data.destandardise(data.standardise(raw)), raw, atol=1e-5)


def test_the_report_counts_what_is_left_out_and_says_where_to_read_it(tables_at: Path) -> None:
    line = module(tables_at)._fitted()[0].report()
    assert "2 of 5 features" in line
    assert "(1 constant, 1 linear in others)" in line
    assert "run.json" in line
    assert "still" not in line


@pytest.mark.parametrize(("noise", "found"), [(1e-6, True), (1e-2, False)])
def test_rank_tolerance_separates_rounding_from_signal(noise: float, found: bool) -> None:
    raw = table(500, seed=1)
    raw[:, 3] += noise * np.random.default_rng(2).normal(size=500)
    assert ("sum" in Standardiser.fit([raw], NAMES).dropped) is found


def test_log_scale_changes_the_units_of_a_density(tables_at: Path) -> None:
    data = module(tables_at)
    raw = np.concatenate([data.destandardise(s.frames) for s in data.sequences("train")])
    assert data.log_scale == pytest.approx(np.log(raw[:, [0, 2, 4]].std(axis=0)).sum(), abs=1e-6)
    assert module(tables_at, standardise=False).log_scale == 0


def test_unscaled_features_keep_their_units_and_still_come_back(tables_at: Path) -> None:
    data = module(tables_at, standardise=False)
    raw = table(20, seed=9)
    np.testing.assert_allclose(data.standardise(raw), raw[:, [0, 2, 4]], atol=1e-5)
    np.testing.assert_allclose(data.destandardise(data.standardise(raw)), raw, atol=1e-4)


@pytest.mark.parametrize(("left", "found"), [(1.2e-5, True), (9e-5, True), (1.1e-3, False)])
def test_a_dependent_feature_is_found_among_many_in_one_pass(left: float, found: bool) -> None:
    """With features of very different size, far from zero, and nearly collinear before it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 30))
    X[:, 7] = X[:, :7].sum(axis=1) + 1e-3 * X[:, 7]  # is kept: it leaves 4e-4 of its deviation
    X[:, 20] = X[:, 3] - 2 * X[:, 12] + left * np.sqrt(5) * X[:, 20]
    X = 1e4 + X * np.logspace(-2, 4, 30)
    names = [f"x{d}" for d in range(30)]
    standardiser = Standardiser.fit(np.split(X, 40), names)
    assert standardiser.dropped == ({"x20": "linear in x12, x3"} if found else {})
    np.testing.assert_allclose(
        standardiser.backward(standardiser.forward(X)), X, atol=2e-4 * X.std(axis=0).max()
    )

"""Statistics, and features that carry nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tables import NAMES, module, table

from rnade_lightning.datamodules.core.moments import moments
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
    """The features differ much in size, lie far from zero, and those before are nearly
    collinear."""
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


def broken(kind: str, n: int = 60, start: int = 20) -> np.ndarray:
    raw = table(n, seed=5)
    raw[start:, NAMES.index(kind)] += 1e-3
    return raw


@pytest.mark.parametrize("kind", ["still", "sum"])
def test_a_frame_that_breaks_a_relation_has_no_density_and_names_the_feature(
    kind: str, tables_at: Path, tmp_path: Path
) -> None:
    data = module(tables_at)
    np.savetxt(tmp_path / "x.txt", broken(kind), fmt="%.17g")
    sequence = data.score_input(tmp_path / "x.txt")
    assert sequence.breaks == dict.fromkeys(range(20, 60), kind)
    assert sequence.log_jacobian.isneginf().tolist() == [False] * 20 + [True] * 40
    assert sequence.stretch(10, 30).breaks == dict.fromkeys(range(10, 20), kind)
    np.testing.assert_array_equal(sequence.raw, broken(kind))
    assert not any(x.breaks for part in ("train", "val", "test") for x in data.sequences(part))  # type: ignore[arg-type]


def test_numbers_of_few_digits_break_nothing(tables_at: Path, tmp_path: Path) -> None:
    data = module(tables_at)
    raw = table(300, seed=6)
    np.savetxt(tmp_path / "x.txt", raw, fmt="%.4f")
    assert not data.score_input(tmp_path / "x.txt").breaks
    raw[:, NAMES.index("sum")] += 0.01
    np.savetxt(tmp_path / "x.txt", raw, fmt="%.4f")
    assert len(data.score_input(tmp_path / "x.txt").breaks) == 300


@pytest.mark.parametrize("kind", ["still", "sum"])
@pytest.mark.parametrize("far", [1e-3, 10.0])
def test_a_relation_that_known_frames_break_is_none(kind: str, far: float) -> None:
    train, val = table(300, seed=1), table(40, seed=2)
    val[30:, NAMES.index(kind)] += far
    statistics = moments([train])
    standardiser = Standardiser.of(statistics, NAMES, known=[train, val])
    assert kind not in standardiser.dropped
    assert len(standardiser.dropped) == 1
    assert not standardiser.breaks(train)
    assert not standardiser.breaks(val)
    for raw in (train, val):
        again = standardiser.backward(standardiser.forward(raw))
        np.testing.assert_allclose(again, raw, atol=1e-5)
    assert kind in Standardiser.of(statistics, NAMES, known=[train]).dropped  # the planted fault


def test_rounding_that_is_declared_is_no_signal() -> None:
    raw = table(300, seed=1)
    raw[:, 1] += 1e-6 * np.random.default_rng(0).normal(size=300)
    statistics = moments([raw])
    assert "still" not in Standardiser.of(statistics, NAMES).dropped
    declared = Standardiser.of(statistics, NAMES, rounded=1e-5)
    assert declared.dropped["still"] == "constant"
    off = table(9, seed=2)
    off[:5, 1] += 1e-5
    off[5:, 1] += 1e-4
    assert declared.breaks(off) == dict.fromkeys(range(5, 9), "still")


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_units_decide_nothing(unit: float) -> None:
    raw = table(300, seed=1)
    names = Standardiser.fit([raw], NAMES).dropped
    assert Standardiser.fit([raw * unit], NAMES).dropped == names


def test_few_frames_of_many_features_prove_nothing() -> None:
    walks = np.random.default_rng(0).normal(size=(49, 60)).cumsum(axis=0)
    standardiser = Standardiser.fit([walks], [f"x{d}" for d in range(60)])
    assert standardiser.dropped == {}
    again = standardiser.backward(standardiser.forward(walks))
    np.testing.assert_allclose(again, walks, atol=1e-5 * np.abs(walks).max())

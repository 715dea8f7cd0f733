"""Every table and picture has the same baselines, on the same frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy import ToyDataModule

from rnade_lightning.baselines import VAR
from rnade_lightning.callbacks import Comparison, Likelihood
from rnade_lightning.callbacks.fitted_baselines import FittedBaselines, spread, spread_whole


@pytest.fixture
def data(root: Path) -> ToyDataModule:
    return ToyDataModule(str(root), window=16)


def test_options_are_chosen_on_validation_before_all_is_known(data: ToyDataModule) -> None:
    baselines = FittedBaselines(max_lags=2, max_frames=10_000)
    train, val = ([x for _, x in data.sequences(part)] for part in ("train", "val"))
    chosen = [VAR.tuned(train, val, 2, copy) for copy in (True, False)]
    for split, known in (("val", train), ("test", train + val)):
        found = baselines.fitted(data, split)
        for baseline, model in zip(found, chosen, strict=True):
            assert baseline.model.options == model.options
            assert torch.equal(baseline.model.covariance, model.refitted(known).covariance)
        assert baselines.fitted(data, split) is found
    assert [b.title for b in found] == ["copy the last frame", "VAR"]
    assert str(chosen[1].options) in baselines.options(data)


def test_without_validation_frames_nothing_is_called_tuned(root: Path) -> None:
    data = ToyDataModule(str(root), window=16, val_fraction=0.0)
    baselines = FittedBaselines(max_lags=2, max_frames=10_000)
    assert "not tuned" in baselines.options(data)


def test_all_score_the_same_frames(data: ToyDataModule) -> None:
    baselines = FittedBaselines(max_lags=5, max_frames=10_000)
    first = baselines.first_scored(data)
    assert first == 5  # the VAR's past is longer than the warm-up
    (frames,) = (x for name, x in data.sequences("test") if name == "take0")
    for baseline in baselines.fitted(data, "test"):
        scored = baseline.log_prob(frames, first)
        assert len(scored) == len(frames) - first
        torch.testing.assert_close(scored, baseline.model.log_prob(frames)[-len(scored) :])
        torch.testing.assert_close(baseline.feature_log_prob(frames, first).sum(-1), scored)
        for errors, of in zip(
            baseline.squared_errors(frames, first), baseline.model.squared_errors(frames),
            strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(errors, of[-len(scored) :])


def test_callbacks_agree_on_the_first_frame(data: ToyDataModule) -> None:
    assert {c.baselines.first_scored(data) for c in (Comparison(), Likelihood())} == {3}


@pytest.mark.parametrize("lengths", [[100, 300, 1000], [5000], [7] * 900, [1, 1, 1]])
def test_a_selection_is_spread_over_all_sequences(lengths: list[int]) -> None:
    found = spread(lengths, 640)
    n = sum(stop - start for _, (start, stop) in found)
    if sum(lengths) <= 640:
        assert found == [(i, (0, length)) for i, length in enumerate(lengths)]
        return
    assert 0 < n <= 640 + len(found)
    assert all(0 <= start < stop <= lengths[i] for i, (start, stop) in found)
    chosen = [i for i, _ in found]
    assert chosen == sorted(set(chosen))
    assert chosen[-1] >= 0.8 * (len(lengths) - 1)  # not the first ones
    backwards = {len(lengths) - 1 - i: span for i, span in spread(lengths[::-1], 640)}
    if len(lengths) <= 10:  # whatever their order
        assert backwards == dict(found)


@pytest.mark.parametrize("lengths", [[100, 300, 1000], [5000], [7] * 900, [1, 1, 1]])
def test_a_selection_of_whole_sequences_begins_where_they_do(lengths: list[int]) -> None:
    found = spread_whole(lengths, 640)
    assert all(start == 0 < stop <= lengths[i] for i, (start, stop) in found)
    n = sum(stop for _, (_, stop) in found)
    assert n == sum(lengths) if sum(lengths) <= 640 else 100 <= n <= 640
    if len(lengths) == 900:
        assert found[-1][0] > 850  # not the first ones


def test_figures_in_pieces_are_those_of_the_whole(
    data: ToyDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnade_lightning.callbacks.fitted_baselines.PIECE", 5)
    frames = data.sequences("train")[0].frames
    for baseline in FittedBaselines(3, 10_000).fitted(data, "test"):
        terms = baseline.model.feature_log_prob(frames)[4 - baseline.model.n_lags :]
        torch.testing.assert_close(baseline.feature_log_prob(frames, 4), terms)

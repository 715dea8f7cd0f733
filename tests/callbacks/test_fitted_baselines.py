"""Every table and picture has the same baselines, on the same frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy import ToyDataModule

from rnade_lightning.baselines import VAR
from rnade_lightning.callbacks import Comparison, Likelihood
from rnade_lightning.callbacks.fitted_baselines import FittedBaselines, first_frames


@pytest.fixture
def data(root: Path) -> ToyDataModule:
    return ToyDataModule(str(root), window=16)


def test_what_is_known_before_the_test_is_training_and_validation(data: ToyDataModule) -> None:
    baselines = FittedBaselines(n_lags=2, ridge=0.1, max_frames=10_000)
    train, val = ([x for _, x in data.sequences(part)] for part in ("train", "val"))
    for split, known in (("val", train), ("test", train + val)):
        copy, var = baselines.fitted(data, split)
        assert torch.equal(var.model.A, VAR.fit(known, 2, 0.1).A)
        assert torch.equal(copy.model.covariance, VAR.copy_last(known).covariance)
        assert baselines.fitted(data, split) is baselines.fitted(data, split)
    assert (copy.title, var.title) == ("copy the last frame", "VAR(2)")


def test_all_score_the_same_frames(data: ToyDataModule) -> None:
    baselines = FittedBaselines(n_lags=5, ridge=0.1, max_frames=10_000)
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


def test_the_first_frames_end_inside_a_sequence(data: ToyDataModule) -> None:
    sequences = data.sequences("train")
    n = len(sequences[0].frames)
    found = first_frames(sequences, n + 4)
    assert [len(sequence.frames) for sequence in found] == [n, 4]
    assert len(first_frames(sequences, n + 4, longer_than=4)) == 1

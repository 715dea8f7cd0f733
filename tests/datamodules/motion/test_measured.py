"""Frames of motion tell when they leave the data, and are measured as the motion that they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnade_lightning.datamodules import MocapDataModule


@pytest.mark.slow
def test_training_frames_do_not_leave_the_data_and_others_do(shipped: MocapDataModule) -> None:
    for sequence in shipped.sequences("train"):
        assert shipped.leaves(sequence.frames[:30]) is None
    frames = sequence.frames[:30].clone()
    name = shipped.feature_names[7]
    frames[:, 7] = 1.5 * shipped.layout["reach"][7]
    assert str(shipped.leaves(frames)).startswith(f"{name} is 1.5 times as far out")
    frames[0, 0] = torch.nan
    assert shipped.leaves(frames) == "they are no numbers"


@pytest.mark.slow
def test_figures_of_held_out_data_are_those_of_data(shipped: MocapDataModule) -> None:
    held_out = [sequence.frames for sequence in shipped.sequences("test")]
    pairs = [torch.stack((x[:-1], x[1:]), 1).flatten(0, 1) for x in held_out]
    found = shipped.sample_figures({"the same": held_out}, pairs)
    same, own = found["the same"], found["held-out data"]
    for key in set(same) & set(own) - {"auc", "seconds_with_data"}:
        assert same[key] == pytest.approx(own[key])
    assert same["one_step_skate"] == pytest.approx(same["foot_skate"], rel=0.1)
    assert own["auc"] == pytest.approx(0.5, abs=0.1)
    assert own["bad_seconds"] < 0.05


@pytest.mark.slow
def test_representations_of_one_motion_have_the_same_figures() -> None:
    """They see places only. All takes are of one body: angles are drawn with the bones of one."""
    assert MocapDataModule.shipped is not None
    root, found = str(MocapDataModule.shipped / "35_*"), []
    parts = {"val": ["35_09"], "test": ["35_04", "35_24"]}
    for how in ({}, {"representation": "positions", "noise": 1e-6}):
        data = MocapDataModule(root, parts=parts, **how)  # type: ignore[arg-type]
        held_out = [sequence.frames for sequence in data.sequences("test")]
        found.append(data.sample_figures({"the same": held_out})["the same"])
    for key in ("frechet_poses", "frechet_velocities", "speed", "spread", "foot_skate", "ground"):
        assert found[0][key] == pytest.approx(found[1][key], rel=0.02, abs=1e-3)


@pytest.mark.slow
def test_frames_without_places_have_none(shipped: MocapDataModule) -> None:
    assert shipped.measures_samples
    raw = MocapDataModule(parts=shipped.parts, representation="raw")
    assert not raw.measures_samples
    assert raw.sample_figures({"any": [torch.zeros(10, raw.n_features)]}) == {}
    assert np.isfinite(raw.frame_rate)

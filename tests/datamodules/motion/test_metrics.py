"""Figures of motion see what is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.datamodules.motion.metrics import find_limits, motion_figures


def test_feet_that_slide_and_angles_out_of_range_are_seen() -> None:
    points = np.zeros((50, 2, 3))
    points[:, 1, 1] = np.where(np.arange(50) < 30, 0.0, 5.0)  # stands, then lifted
    angles = np.linspace(-1, 1, 50)[:, None]
    limits = find_limits([points], [angles], [1])
    limits = replace(limits, heights=np.array([1.0]))
    still = motion_figures(points, angles, 30, [1], limits)
    assert still == {"foot_skate": 0.0, "joint_limit": 0.0}
    points[:, 1, 0] = 0.1 * np.arange(50)
    assert motion_figures(points, angles, 30, [1], limits)["foot_skate"] == pytest.approx(3.0)
    wide = motion_figures(points, 2 * angles, 30, [1], limits)["joint_limit"]
    assert wide == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_figures_of_spoilt_motion_exceed_those_of_the_data() -> None:
    data = MocapDataModule()
    frames = data.sequences("test")[0].frames
    whole = data.metrics(frames)
    assert set(whole) == {
        *("foot_skate", "joint_limit", "foot_skate_of_data", "joint_limit_of_data")
    }
    spoilt = frames.clone()
    spoilt[:, 1:3] += 2.0
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    assert data.metrics(spoilt)["foot_skate"] > 2 * whole["foot_skate_of_data"]
    assert data.metrics(frames + 2 * noise)["joint_limit"] > 0.1 + whole["joint_limit_of_data"]

"""Data of which nothing is known have an answer to all that callbacks ask."""

from __future__ import annotations

import torch

from rnade_lightning.datamodules.core.asked import Asked


def test_nothing_is_claimed_of_unknown_data() -> None:
    data, frames = Asked(), torch.zeros(5, 2)
    assert torch.equal(data.log_jacobian(frames), torch.zeros(5))
    assert data.metrics(frames) == data.references([], []) == data.sample_figures({}) == {}
    assert data.caveats == []
    assert data.process(frames) is data.bits_per_sample(1.0) is None
    assert data.noise_scale == data.least_seconds == 0
    assert not data.measures_samples


def test_frames_that_are_no_numbers_leave_any_data() -> None:
    frames = torch.zeros(5, 2)
    assert Asked().leaves(frames) is None
    frames[3, 1] = torch.nan
    assert Asked().leaves(frames) == "they are no numbers"

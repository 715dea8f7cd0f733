"""The picture of a likelihood has what it is told to show."""

from __future__ import annotations

import math

import numpy as np

from rnade_lightning.callbacks.likelihood_picture import FeatureRow, draw_likelihood


def test_it_shows_time_features_and_calibration() -> None:
    by_frame = {"a": np.linspace(-3, 1, 40), "b": np.linspace(0, 2, 20)}
    levels = {"RNNRNADE": 0.5, "copy the last frame": -1.0, "VAR": -900.0}
    rows = [FeatureRow("x", 1.0, 0.5, 0.2, 0.1, False), FeatureRow("y", 3.0, 0.5, 0.2, 0.1, True)]
    figure = draw_likelihood(by_frame, levels, rows, np.linspace(0, 1, 50), 0.02)
    time, calibration, features = figure.axes
    assert [line.get_label() for line in time.lines][:2] == ["a", "b"]
    assert any("VAR, -900.0" in str(line.get_label()) for line in time.lines)
    assert time.get_ylim()[0] > -10  # a baseline far off stays outside
    assert "0.020" in calibration.get_title()
    assert [label.get_text() for label in features.get_xticklabels()] == ["x", "y"]
    assert len(draw_likelihood(by_frame, levels, rows, None, math.nan).axes) == 2

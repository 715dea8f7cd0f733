"""Sequences are drawn, continued and streamed with their context."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_recurrent_model import REVERTING, given, model_of
from test_rnn_rnade import randn, rnn_rnade, seed


def test_a_prefix_is_read_with_its_context() -> None:
    model, x, c = model_of(**REVERTING), randn(2, 4, 3), given(T=6)
    u = model.states(x, context=c[:, :4])[1]
    expected = model.sample(2, u=u, context=c[:, 4:], generator=seed())
    torch.testing.assert_close(model.sample(2, prefix=x, context=c, generator=seed()), expected)
    with pytest.raises(ValueError, match="context has 5 frames, expected 6"):
        model.sample(2, prefix=x, context=c[:, :5])


def test_a_stream_is_steered_frame_by_frame() -> None:
    model, c = model_of(**REVERTING), given()
    whole = model.sample(6, context=c, generator=seed())[:, 0]
    asked = []

    def steering() -> Any:
        for t in range(6):
            asked.append(t)
            yield c[:, t]

    frames = []
    for t, x in enumerate(model.stream(context=steering(), generator=seed())):
        assert len(asked) == t + 1  # the next context is not asked for before its frame
        frames.append(x[:, 0])
    torch.testing.assert_close(torch.stack(frames, 1), whole)


@pytest.mark.parametrize("n_frames", [5, 7])
def test_a_stream_has_as_many_frames_as_its_context(n_frames: int) -> None:
    with pytest.raises(ValueError, match=f"context has 6 frames, expected {n_frames}: those of"):
        next(model_of().stream(n_frames, context=given()))


def test_missing_and_surplus_context_are_told() -> None:
    x, c = randn(2, 6, 3), given()
    for call in (model_of().log_prob, lambda x: model_of().sample(3), model_of().predictive_mean):
        with pytest.raises(ValueError, match="is given a context of 2 numbers a frame: give"):
            call(x)
    with pytest.raises(ValueError, match="context holds infinite numbers"):
        model_of().log_prob(x, context=c / 0)
    with pytest.raises(ValueError, match="has no context"):
        rnn_rnade("tanh").log_prob(x, context=c)
    with pytest.raises(ValueError, match=r"context has shape \(2, 5, 2\), expected \(B, 6, 2\)"):
        model_of().log_prob(x, context=c[:, :5])

"""Controls and labels become a context, and come back from it."""

import json

import numpy as np
import pytest
import torch

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.given import Given, Known

RAW = np.random.default_rng(0).normal(size=(9, 4))
GIVEN = Given(
    ["b", "d"], [1, 3], [0.5, 0.0], [2.0, 1.0], {"action": ["run", "walk"], "who": ["x", "y", "z"]},
    (1, 2), [[-1.0, 1.0], [-2.0, 2.0]], [[-0.5, 0.5], [-1.0, 1.0]],
)  # fmt: skip


def test_a_context_is_the_controls_around_a_frame_and_the_classes() -> None:
    known = Known(RAW, {"action": "walk"})
    context = GIVEN.of(known)
    assert context.shape == (9, sum(GIVEN.sizes)) == (9, 8 + 2 + 3)
    assert GIVEN.sizes == [8, 2, 3]
    scaled = (RAW[:, [1, 3]] - [0.5, 0.0]) / [2.0, 1.0]
    for t in range(9):
        near = [scaled[min(max(t + i, 0), 8)] for i in (-1, 0, 1, 2)]
        np.testing.assert_allclose(context[t, :8], np.concatenate(near), rtol=1e-5)
    assert context[:, 8:10].tolist() == [[0.0, 1.0]] * 9
    assert context[:, 10:].isnan().all()  # a label that is not told is absent
    np.testing.assert_allclose(GIVEN.control_of(context), RAW[:, [1, 3]], rtol=1e-5)


@pytest.mark.parametrize("start", range(9))
@pytest.mark.parametrize("stop", [3, 9, 12])
def test_a_stretch_has_the_context_that_it_has_in_the_whole(start: int, stop: int) -> None:
    if stop > start:
        whole = GIVEN.of(Known(RAW, {"who": "z"}))
        found = GIVEN.of(Known(RAW, {"who": "z"}), start, stop)
        assert torch.equal(found.nan_to_num(7), whole[start:stop].nan_to_num(7))


def test_an_item_without_frames_has_a_context_without_any() -> None:
    assert GIVEN.of(Known(RAW, {}), 0, 0).shape == (0, 13)


def test_absent_controls_are_absent_and_unknown_classes_refused() -> None:
    assert GIVEN.make(None, 3, {})[:, :8].isnan().all()
    with pytest.raises(DataError, match="action 'hop' is none of run, walk"):
        GIVEN.make(None, 3, {"action": "hop"})
    with pytest.raises(DataError, match="label 'style' is none of action, who"):
        GIVEN.make(None, 3, {"style": "old"})


def test_controls_beyond_the_training_frames_are_told() -> None:
    control = np.zeros((10, 2))
    assert GIVEN.beyond(control) == []
    control[:2, 1] = -3
    (line,) = GIVEN.beyond(control)
    assert line == (
        "d is -3 and the like in 20% of the frames, beyond all training frames (-2 to 2; 99 % of"
        " them are in -1 to 1)"
    )
    (line,) = GIVEN.beyond(np.full((10, 2), 0.01))
    assert (
        line
        == "b, d are 1.0% of what they are in training frames at most: are they in the same units?"
    )


def test_it_goes_through_a_checkpoint_and_says_what_it_is() -> None:
    state = json.loads(json.dumps(GIVEN.state()))
    assert Given.from_state(state) == GIVEN
    assert str(GIVEN) == "b, d, action (2 classes), who (3 classes)"


def test_what_is_known_goes_with_the_frames() -> None:
    known = Known(RAW, {"action": "run"}, np.arange(18.0).reshape(9, 2))
    part = known[2:5]
    assert (len(part), part.labels) == (3, {"action": "run"})
    np.testing.assert_array_equal(part.whole()[:, 4:], [[4, 5], [6, 7], [8, 9]])
    np.testing.assert_array_equal(np.asarray(part), RAW[2:5])

"""A sequence that leaves the data ends there, or its second is drawn again."""

from __future__ import annotations

import pytest
import torch
from reference import supplement
from torch import Tensor

from rnade_lightning.long_samples import TRIES, draw, settled, tell_of_leaving
from rnade_lightning.sequence_density import SequenceDensity


@pytest.fixture(scope="module")
def model() -> SequenceDensity:
    return supplement(3, 4, 5, 2).double()


def drawn(
    model: SequenceDensity, n_frames: int, leaves: object, guard: bool = False
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    u = model.initial_state(1).expand(4, -1).detach()
    return draw(model, u, n_frames, 10.0, leaves, guard, generator)  # type: ignore[arg-type]


def test_nothing_leaves_and_the_draws_are_those_of_the_model(model: SequenceDensity) -> None:
    found = drawn(model, 25, lambda x: None)
    expected = model.sample(25, 4, generator=torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(torch.stack(found), expected)


def test_a_sequence_ends_where_it_leaves(model: SequenceDensity) -> None:
    whole = drawn(model, 40, lambda x: None)
    away = whole[1][20:30]

    def leaves(x: Tensor) -> str | None:
        return "far" if torch.equal(x, away) else None

    with pytest.warns(
        UserWarning, match=r"sample 1 left the data after 2 s \(far\) and ends there"
    ):
        found = drawn(model, 40, leaves)
    assert [len(x) for x in found] == [40, 20, 40, 40]
    torch.testing.assert_close(found[1], whole[1][:20])


def test_with_the_guard_no_second_leaves(model: SequenceDensity) -> None:
    def leaves(x: Tensor) -> str | None:
        return "high" if x[:, 0].mean() > 0.3 else None

    found = drawn(model, 60, leaves, guard=True)
    assert [len(x) for x in found] == [60] * 4
    assert not any(leaves(x) for frames in found for x in frames.split(10))
    assert any(leaves(x) for frames in drawn(model, 60, lambda x: None) for x in frames.split(10))


def test_a_settled_state_is_one_after_draws(model: SequenceDensity) -> None:
    def known() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    u = settled(model, 4, 2.0, 10.0, lambda x: None, known())
    frames = model.sample(20, 4, generator=known())[0]
    torch.testing.assert_close(u, model.states(frames)[1])
    start = settled(model, 4, 0.0, 10.0, lambda x: "far")
    torch.testing.assert_close(start, model.initial_state(4))


def test_what_leaves_while_it_settles_starts_anew(model: SequenceDensity) -> None:
    asked: list[Tensor] = []

    def leaves(x: Tensor) -> str | None:
        asked.append(x)
        return "far" if len(asked) in (1, 3, 5) else None

    u = settled(model, 4, 2.0, 10.0, leaves, torch.Generator().manual_seed(0))
    assert [len(x) for x in asked] == [10] * 7  # the last seconds of 4, then of 2 and of 1
    assert u.isfinite().all()


@pytest.mark.slow
def test_what_is_out_of_the_data_at_once_ends_after_a_second(model: SequenceDensity) -> None:
    """As a continuation does whose prefix is out of the data."""
    for guard, remedy in ((False, "--guard"), (True, f"{TRIES} draws of that second did")):
        with pytest.warns(UserWarning, match="sample 0 is out of the data from its first") as said:
            found = drawn(model, 20, lambda x: "far", guard)
        assert [len(x) for x in found] == [10] * 4
        assert remedy in str(said[0].message)


def test_sequences_that_go_on_are_told_of_too() -> None:
    frames = torch.zeros(2, 30, 1)
    frames[1, 25] = 9.0
    with pytest.warns(UserWarning, match=r"sample 1 left the data after 2 s \(far\) and goes on"):
        tell_of_leaving(frames, 10.0, lambda x: "far" if x.max() > 1 else None)

"""Compiled draws are those of the torch path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from kernel_pairs import pair, randn, seed
from reference import SUBSETS, every_option, spread, supplement
from torch import Tensor

from rnade_lightning import RNADE, RNNRNADE
from rnade_lightning.couplings import Couplings


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("linear", [False, True], ids=["", "linear"])
@every_option
def test_the_same_noise_gives_the_same_draws(options: dict[str, Any], linear: bool) -> None:
    plain, fast = pair(RNADE, 7, 5, 3, linear=linear, **options)
    own = (randn(4, 1, 7, 3), plain.b_mu.detach(), randn(2, 7, 3))
    calls: list[dict[str, Any]] = [
        {"sample_shape": (40,)},
        {"sample_shape": (40,), "biases": own},
        {"sample_shape": (3, 20), "given": randn(20, 2), "temperature": 0.7},
        {"biases": own, "given": randn(4, 2, 7)},
        {},
    ]
    for call in calls:
        one, two = (m.sample(**call, generator=seed()) for m in (plain, fast))
        assert one.shape == two.shape
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)
    one, two = (m.mean(own, 20, generator=seed()) for m in (plain, fast))
    torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("conditioned", SUBSETS, ids=lambda s: "+".join(s) or "none")
@pytest.mark.parametrize("n_past", [0, 1, 3])
@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm"])
def test_the_same_noise_gives_the_same_sequences(
    cell: Any, n_past: int, conditioned: tuple[str, ...], two_threads: None
) -> None:
    plain, fast = (
        spread(m, 0.3)
        for m in pair(supplement, 5, 4, 6, 2, cell=cell, conditioned=conditioned, n_past=n_past)
    )
    prefix = randn(2, 4, 5)
    for call in ({"n_samples": 3}, {"prefix": prefix, "n_samples": 2, "temperature": 1.2}):
        one, two = (m.sample(12, generator=seed(), **call) for m in (plain, fast))
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)
    u = fast.states(prefix)[1]
    before = u.clone()
    fast.sample(3, u=u)
    assert torch.equal(u, before)


def test_a_reverting_path_is_sampled_from() -> None:
    options = {"n_past": 3, "past": "reverting", "learn_kappa": True}
    plain, fast = (spread(m, 0.2) for m in pair(supplement, 5, 4, 6, 2, cell="gru", **options))
    one, two = (m.sample(12, prefix=randn(2, 4, 5), generator=seed()) for m in (plain, fast))
    torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)


def test_a_stream_is_a_sample_frame_by_frame() -> None:
    model = spread(supplement(3, 4, 5, 2, "gru"), 0.3)
    whole = model.sample(6, 2, prefix=randn(2, 3, 3).float(), generator=seed())
    frames = model.stream(n_samples=2, prefix=randn(2, 3, 3).float(), generator=seed())
    for t in range(6):
        assert torch.is_grad_enabled()
        assert torch.equal(next(frames), whole[:, :, t])


@pytest.mark.parametrize(
    ("n_context", "one_state"), [(0, False), (2, False), (2, True)], ids=["", "context", "contexts"]
)
def test_what_is_drawn_at_once_is_what_is_drawn_frame_by_frame(
    n_context: int, one_state: bool
) -> None:
    """Several states and samples give the same frames, also several contexts of one state."""
    plain, fast = (
        spread(m, 0.3)
        for m in pair(supplement, 3, 4, 5, 2, cell="gru", n_past=2, n_context=n_context)
    )
    u = fast.states(randn(2, 4, 3), context=randn(2, 4, 2) if n_context else None)[1]
    u = u[:1] if one_state else u
    context = randn(2, 6, 2) if n_context else None
    if context is not None:
        context[0, 2, 1] = torch.nan
    how = {"u": u, "context": context}
    before = u.clone()
    whole = fast.sample(6, 3, generator=seed(), **how)
    assert whole.shape == (2, 3, 6, 3)
    assert torch.equal(u, before)
    frames = list(fast.stream(6, 3, generator=seed(), **how))
    assert torch.equal(torch.stack(frames, 2), whole)
    theirs = plain.sample(6, 3, generator=seed(), **how)
    torch.testing.assert_close(whole, theirs, rtol=1e-10, atol=1e-10)
    assert fast.sample(0, 3, **(how | {"context": context if context is None else context[:, :0]})
                       ).shape[2:] == (0, 3)  # fmt: skip


@pytest.mark.parametrize("n_scales", [1, 2])
def test_while_rnade_is_trained_alone_no_state_is_sampled_with(n_scales: int) -> None:
    both = pair(supplement, 3, 4, 5, 2, cell="gru", n_scales=n_scales)
    drawn, with_state = [], both[0].sample(5, 2, generator=seed())
    for model in both:
        model.conditioned_on_state = False
        drawn.append(model.sample(5, 2, generator=seed()))
    torch.testing.assert_close(*drawn)
    assert not torch.allclose(drawn[0], with_state)


def halved(name: str) -> type[RNNRNADE]:
    """Return a class that draws half of what `RNNRNADE` does, by a method of its own."""

    def own(self: RNNRNADE, *args: Any, **kwargs: Any) -> Any:
        found = getattr(RNNRNADE, name)(self, *args, **kwargs)
        if name == "stream":
            return (0.5 * frame for frame in found)
        return (0.5 * found[0], found[1]) if name == "next_frames" else 0.5 * found

    return type("Halved", (RNNRNADE,), {name: own})


@pytest.mark.parametrize("name", ["stream", "next_frames", "sample_given", "step", "shift"])
def test_a_class_that_draws_in_its_own_way_is_sampled_so(name: str) -> None:
    plain, fast = (halved(name)(3, 4, 5, 2, backend=kind) for kind in ("torch", "compiled"))
    fast.load_state_dict(plain.state_dict())
    other = RNNRNADE(3, 4, 5, 2)
    other.load_state_dict(plain.state_dict())
    one, two, three = (m.sample(5, 2, generator=seed()) for m in (plain, fast, other))
    torch.testing.assert_close(two, one)
    assert not torch.allclose(three, two)
    torch.testing.assert_close(torch.stack([*fast.stream(5, 2, generator=seed())], 2), two)
    if name in ("stream", "next_frames"):
        assert torch.equal(two[:, :, 0], 0.5 * three[:, :, 0])


class Loud(RNADE):
    """RNADE whose frames are twice as large."""

    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        return 2 * super().sample(*args, **kwargs)


class Within(RNADE):
    """RNADE whose frames are cut off."""

    def censor(self, x: Tensor) -> Tensor:
        return x.clamp(-0.5, 0.5)


class Still(Couplings):
    """Couplings that do not follow the state."""

    def strengths(self, state: Tensor) -> Tensor:
        return super().strengths(torch.zeros_like(state))


@pytest.mark.parametrize("changed", ["rnade.Loud", "rnade.Within", "couplings.Still", "_units"])
def test_what_a_part_of_a_model_changes_is_drawn(changed: str) -> None:
    both = pair(supplement, 3, 4, 5, 2, cell="gru", n_couplings=2)
    for model in both:
        if changed == "_units":  # of one model, not of its class
            model._units = lambda history: 0 * history[..., -5:]
            continue
        name, _, kind = changed.partition(".")
        getattr(model, name).__class__ = globals()[kind]
    one, two = (model.sample(4, 3, generator=seed()) for model in both)
    torch.testing.assert_close(two, one)
    assert not torch.allclose(pair(supplement, 3, 4, 5, 2, cell="gru", n_couplings=2)[1].sample(
        4, 3, generator=seed()), two)  # fmt: skip


def test_a_context_is_checked_before_anything_is_drawn() -> None:
    model = supplement(3, 4, 5, 2, cell="gru", n_context=2)
    u = model.initial_state(2)
    state = torch.get_rng_state()
    for context, message in (
        (None, "the model is given a context of 2 numbers"),
        (torch.zeros(3, 4, 2), r"the batches do not broadcast: u \(2,\), context \(3,\)"),
        (torch.zeros(2, 3, 2), "context has 3 frames, expected 4"),
        (torch.full((2, 4, 2), torch.inf), "infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(4, 2, u=u, context=context)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.sample(0, 2, u=u).shape == (2, 2, 0, 3)


def test_a_fault_of_the_sampler_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = pair(RNADE, 7, 5, 3)
    with torch.no_grad():
        fast.V_sigma[6, 4, 2] += 1e-8
    one, two = (m.sample((200,), generator=seed()) for m in (plain, fast))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)

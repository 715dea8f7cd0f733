"""The linear path from past frames: reverting paths forget, and what is unstable is mended."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import supplement
from torch import Tensor

from rnade_lightning.linear_path import (
    STABLE,
    fit_path,
    make_stable,
    path_parameters,
    path_weights,
    spectral_radius,
)


def parameters(past: str, n_past: int = 3, scale: float = 0.1, **options: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    given: dict[str, Any] = {"kappa": 0.9, "learn_past": True, "learn_kappa": False} | options
    found = path_parameters(n_past, 4, past, **given)
    for parameter in found.values():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = parameter.data.double() + scale * noise
    return dict(found)


def simulated(A: Tensor, n_frames: int) -> Tensor:
    """Return frames that follow the path alone, from ones on, ``(n_frames, D)``."""
    frames = [torch.ones(A.shape[-1], dtype=A.dtype)] * len(A)
    for _ in range(n_frames):
        frames.append(sum(A_i @ frames[-i] for i, A_i in enumerate(A, 1)))  # type: ignore[arg-type]
    return torch.stack(frames[len(A) :])


@pytest.mark.parametrize("n_past", [1, 2, 4])
@pytest.mark.parametrize("learn_kappa", [False, True])
def test_reverting_weights_add_up_to_kappa(n_past: int, learn_kappa: bool) -> None:
    given = parameters("reverting", n_past, learn_kappa=learn_kappa)
    A = path_weights(given, 0.9)
    assert A is not None
    assert A.shape == (n_past, 4, 4)
    share = torch.full((4,), 0.9, dtype=torch.float64)
    if learn_kappa:
        share = torch.sigmoid(given["kappa_logit"])
    torch.testing.assert_close(A.sum(0), share.diag())


def test_a_reverting_path_starts_at_a_share_of_the_last_frame() -> None:
    model = supplement(3, 4, 5, 1, n_past=3, past="reverting", kappa=0.7, learn_kappa=True).double()
    frames = torch.randn(1, 5, 3, dtype=torch.float64)
    shift = model.shift(model.states(frames)[0])
    torch.testing.assert_close(shift[:, 1:], 0.7 * frames[:, :-1])


@pytest.mark.parametrize("past", ["free", "reverting"])
def test_the_radius_is_the_rate_at_which_frames_grow(past: str) -> None:
    A = path_weights(parameters(past, scale=0.3), 0.9)
    assert A is not None
    sizes = simulated(A.detach(), 400).norm(dim=1)
    rate = float((sizes[-1] / sizes[-101]) ** 0.01)
    assert rate == pytest.approx(spectral_radius(A), rel=0.02)


@pytest.mark.parametrize("past", ["free", "reverting"])
@pytest.mark.slow
def test_an_unstable_path_is_made_stable_and_no_other_is_touched(past: str) -> None:
    given = parameters(past, scale=1.0)
    before, after = make_stable(given, 0.9)
    assert before > 1
    assert after == pytest.approx(STABLE, abs=1e-6)
    A = path_weights(given, 0.9)
    assert A is not None
    assert simulated(A.detach(), 20_000)[-1].norm() < 1e-6
    kept = {name: parameter.clone() for name, parameter in given.items()}
    assert make_stable(given, 0.9) == (after, after)
    assert all(torch.equal(kept[name], parameter) for name, parameter in given.items())


@pytest.mark.parametrize("kappa", [0.9995, 0.99999])
def test_a_path_that_reverts_slowly_keeps_its_weights_when_it_is_made_stable(kappa: float) -> None:
    given = parameters("reverting", scale=1.0)
    size = given["B"].norm()
    before, after = make_stable(given, kappa)
    assert before > 1 > after > kappa
    assert given["B"].norm() > 0.01 * size


def test_a_path_that_cannot_be_made_stable_is_left_as_it_is() -> None:
    given = {name: p.float() for name, p in parameters("reverting", scale=1.0).items()}
    B = given["B"].clone()
    before, after = make_stable(given, 1 - 1e-12)
    assert before == after > 1
    assert torch.equal(given["B"], B)


def test_a_kappa_that_a_free_path_does_not_have_is_told() -> None:
    with pytest.warns(UserWarning, match="a free path has no kappa to learn"):
        path_parameters(2, 3, "free", 0.9, True, True)


@pytest.mark.parametrize("past", ["free", "reverting"])
@pytest.mark.parametrize("n_past", [1, 3])
def test_a_fitted_path_leaves_least_unexplained(past: str, n_past: int) -> None:
    """Any other weights leave more, and the penalty is on the change from where it starts."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 150, 4, generator=generator, dtype=torch.float64)
    sequences = [0.1 * x.cumsum(0) + x for x in noise]
    given = parameters(past, n_past, scale=0.0)
    covariance = fit_path(given, n_past, 0.9, sequences, ridge=2.0)
    left = residuals(given, n_past, sequences).detach()
    torch.testing.assert_close(covariance, left.mT @ left / len(left))
    weights = given["A" if past == "free" else "B"]
    start = parameters(past, n_past, scale=0.0)["A" if past == "free" else "B"]

    def loss() -> Tensor:
        left = residuals(given, n_past, sequences)
        return left.square().sum() + 2 * (weights - start).square().sum()

    least = loss()
    least.backward()
    if len(weights):
        assert weights.grad is not None
        assert weights.grad.abs().max() < 1e-8 * least


def residuals(given: dict[str, Tensor], n_past: int, sequences: list[Tensor]) -> Tensor:
    A = path_weights(given, 0.9)
    assert A is not None
    found = []
    for x in sequences:
        past = [x[n_past - i : len(x) - i] @ A_i.T for i, A_i in enumerate(A, 1)]
        found.append(x[n_past:] - torch.stack(past).sum(0))
    return torch.cat(found)


def test_a_path_that_is_not_learnt_keeps_its_weights() -> None:
    given = parameters("free", learn_past=False, scale=0.0)
    kept, frames = given["A"].clone(), torch.randn(50, 4, dtype=torch.float64)
    covariance = fit_path(given, 3, 0.9, [frames], ridge=1.0)
    assert torch.equal(given["A"], kept)
    left = residuals(given, 3, [frames])
    torch.testing.assert_close(covariance, left.mT @ left / len(left))


def test_too_few_frames_for_a_path_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 frames have .* too few to start the linear path of 4"):
        fit_path(parameters("free"), 3, 0.9, [torch.zeros(5, 4), torch.zeros(2, 4)], ridge=1.0)


def test_a_model_without_a_path_is_stable() -> None:
    assert make_stable({}, 0.9) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"past": "returning"}, "none of free, reverting"),
        ({"past": "reverting", "n_past": 0}, "needs n_past of 1 or more"),
        ({"past": "reverting", "kappa": 1.0}, "kappa between 0 and 1"),
    ],
)
def test_a_path_that_is_none_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        supplement(3, 4, 5, 2, **({"n_past": 2} | options))

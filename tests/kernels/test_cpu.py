"""The operation behind log p gives the numbers of the torch path, for every option."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reference
import torch
from kernel_pairs import compare, gradients, randn, rnade, seed
from reference import SUBSETS, every_option, parameters, supplement
from torch import Tensor

from rnade_lightning import RNADE
from rnade_lightning.components.gaussian import Gaussian
from rnade_lightning.kernels import blocks, cpu
from rnade_lightning.parameters import StateParams


@pytest.fixture(params=["cpu", "blocks"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return either implementation, in place of the one that the device would choose."""
    chosen = {"cpu": cpu, "blocks": blocks}[request.param]
    monkeypatch.setattr(cpu, "_kernel", lambda problem: chosen)
    return chosen


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("linear", [False, True], ids=["", "linear"])
@every_option
def test_equals_the_torch_path(kernel: Any, options: dict[str, Any], linear: bool) -> None:
    compare(rnade(37, 6, 3, linear=linear, **options), randn(70, 37), [])  # several blocks


@pytest.mark.parametrize("K", [1, 2, 4, 5])
@pytest.mark.parametrize("H", [1, 4, 9])
def test_equals_the_torch_path_at_every_size(kernel: Any, H: int, K: int) -> None:
    compare(rnade(3, H, K), randn(5, 3), [])
    compare(rnade(1, H, K), randn(1, 1), [])


@pytest.mark.parametrize("conditioned", SUBSETS[1:], ids="+".join)
def test_a_state_sets_any_of_the_parameters(kernel: Any, conditioned: tuple[str, ...]) -> None:
    for K in (2, 3):
        weights = [
            randn(18 * K if name in conditioned else 0, 5, n=i) / 2
            for i, name in enumerate(reference.NAMES)
        ]
        compare(rnade(18, 4, K, floor=0.1), randn(20, 18), [randn(20, 5), *weights])


@every_option
def test_biases_by_frame(kernel: Any, options: dict[str, Any]) -> None:
    own = [randn(20, 18, 3, n=i) for i in range(3)]
    compare(rnade(18, 4, 3, **options), randn(20, 18), own)


@pytest.mark.parametrize("n_frames", [0, 1, 63, 128, 300])
def test_any_number_of_frames_and_threads(kernel: Any, n_frames: int, two_threads: None) -> None:
    compare(rnade(5, 4, 2), randn(n_frames, 5), [])


@pytest.mark.slow
@pytest.mark.parametrize("largest", [1.0, 100.0])
@every_option
def test_float32_keeps_its_digits(kernel: Any, options: dict[str, Any], largest: float) -> None:
    model, x = rnade(40, 20, 4, **options), randn(64, 40)
    with torch.no_grad():  # units and scales that fit the size of the frames
        model.W /= largest * 40**0.5
        model.b_sigma += np.log(largest)
        x *= largest / x.abs().max()
    if options["activation"] == "relu":  # a kink may be passed by rounding: away from it
        with torch.no_grad():
            model.c.abs_().add_(5), model.rho.abs_()
    fast = RNADE(40, 20, 4, **options)
    fast.load_state_dict(model.state_dict())
    expected = np.array(
        [reference.log_prob(parameters(model), row, **options) for row in x.numpy()]
    )
    np.testing.assert_allclose(fast.log_prob(x.float()).detach().numpy(), expected, rtol=1e-5)
    compare(model, x, [], tolerance=1e-4, dtype=torch.float32)


class Wide(Gaussian):
    """A Gaussian of twice the deviation, which is not what the code of a Gaussian computes."""

    def log_standard(self, r: Tensor) -> Tensor:
        return super().log_standard(r / 2) - np.log(2)

    def slope(self, r: Tensor) -> Tensor:
        return super().slope(r / 2) / 2


class Shifted(RNADE):
    """RNADE whose means are 1 larger."""

    def mixtures(self, *given: Any) -> tuple[Tensor, ...]:
        log_weights, means, log_scales = super().mixtures(*given)
        return log_weights, means + 1, log_scales


def test_what_a_subclass_changes_is_computed() -> None:
    compare(rnade(3, 4, 2, component=Wide()), randn(5, 3), [])
    plain, shifted = (kind(3, 4, 2).double() for kind in (RNADE, Shifted))
    shifted.load_state_dict(plain.state_dict())
    with torch.no_grad():
        plain.b_mu += 1
    x, (one, two) = randn(5, 3), (m.sample((4,), generator=seed()) for m in (plain, shifted))
    torch.testing.assert_close(shifted.log_prob(x), plain.log_prob(x))
    torch.testing.assert_close(two, one)


def test_a_fault_is_seen(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernel.gradients

    def planted(problem: Any, weight: Tensor) -> list[Tensor]:
        found = right(problem, weight)
        found[5] = found[5] * (1 + 1e-8)  # rho
        return found

    monkeypatch.setattr(kernel, "gradients", planted)
    with pytest.raises(AssertionError):
        compare(rnade(3, 4, 2), randn(5, 3), [])


def test_the_same_numbers_every_time(two_threads: None) -> None:
    model, x = RNADE(20, 30, 5), randn(700, 20).float()
    runs = []
    for _ in range(3):
        log_p = model.log_prob(x)
        runs.append([log_p, *gradients(model, [], log_p, torch.ones(700))])
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))


def test_a_forked_process_computes(two_threads: None) -> None:
    model, x = RNADE(5, 4, 2), randn(300, 5).float()
    expected = model.log_prob(x).detach()

    def child(send: Any) -> None:
        send.send(model.log_prob(x).detach().numpy())

    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(send,))
    process.start()
    assert receive.poll(60)
    np.testing.assert_array_equal(receive.recv(), expected.numpy())
    process.join()


def test_nan_is_not_lost(kernel: Any) -> None:
    model, x = rnade(4, 5, 2), randn(6, 4)
    model.backend = "compiled"
    x[2, 1] = torch.nan
    assert torch.equal(model.log_prob(x).isnan(), torch.arange(6) == 2)
    with torch.no_grad():
        model.V_mu[3, 2] = torch.nan
    assert model.log_prob(randn(6, 4)).isnan().all()


@pytest.mark.parametrize("log_scale", [0.0, -60.0, 60.0])
@every_option
def test_frames_of_weight_0_change_nothing(
    kernel: Any, options: dict[str, Any], log_scale: float
) -> None:
    model = rnade(5, 4, 2, **options)
    model.backend = "compiled"
    with torch.no_grad():
        model.b_sigma += log_scale
    weights = [randn(10, 3, n=i) / 2 for i in range(3)]

    def found(x: Tensor, state: Tensor, mu: Tensor, weight: Tensor) -> list[Tensor]:
        """The gradients of every parameter, frame, state and mean."""
        x, state, mu = (t.clone().requires_grad_() for t in (x, state, mu))
        static = model.static_params()
        log_p = model.log_prob(x, StateParams(static, weights, state))
        log_p = log_p + model.log_prob(x, (static[0], mu, static[2]))
        return gradients(model, [x, state, mu], log_p, weight)

    counts = torch.arange(8) % 3 != 1
    by_frame = randn(8, 5), randn(8, 3, n=2), randn(8, 5, 2, n=3)
    expected = found(*(t[counts] for t in by_frame), torch.ones(5).double())
    for held in (torch.nan, torch.inf, -torch.inf, 1e300, -1e30):
        for t in by_frame:
            t[~counts] = held
        *of_all, d_x, d_state, d_mu = found(*by_frame, counts.double())
        for d in (d_x, d_state, d_mu):
            assert not d[~counts].any()
            of_all.append(d[counts])
        for one, other in zip(of_all, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_0_times_an_infinite_slope_is_0(kernel: Any) -> None:
    model = rnade(3, 4, 1, component="gaussian", floor=0.0)
    model.backend = "compiled"
    with torch.no_grad():
        for V in (model.V_alpha, model.V_mu, model.V_sigma):
            V.zero_()
        model.b_mu.fill_(0.06)
        model.b_sigma.fill_(-357.0)  # a frame of 0 is 7e153 scales away, its slope 7e308
    x = torch.tensor([0.06, 0.0, 0.3, 0.06], dtype=torch.float64)[:, None].repeat(1, 3)
    log_p = model.log_prob(x.requires_grad_())
    assert log_p.isfinite().tolist() == [True, True, False, True]
    for of_lost in (0.0, 1.0):
        weight = torch.tensor([1.0, 0.0, of_lost, 1.0]).double()
        *_, d_mu, d_sigma, d_x = gradients(model, [x], model.log_prob(x), weight)
        assert not d_mu.any()
        assert not d_x.any()
        assert torch.equal(d_sigma, torch.full((3, 1), -2.0).double())


def test_backward_keeps_no_activation_of_a_sequence() -> None:
    D, H, K, R, N = 40, 30, 5, 20, 50
    model = supplement(D, H, R, K)
    frames = torch.zeros(1, N, D)
    seen = model.states(frames)[0].detach()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        model.density.log_prob(frames, model.frame_params(seen))
    weights = sum(p.numel() for p in model.parameters())
    assert sum(kept) < 2 * N * (D + R) + 3 * weights + N * (H + R + 3 * K)

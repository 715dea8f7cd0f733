"""The operation behind log p gives the numbers of the torch path, for every option."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reference
import torch
from kernel_pairs import compare, gradients, randn, rnade
from reference import SUBSETS, every_option, parameters, supplement
from torch import Tensor

from rnade_lightning import RNADE
from rnade_lightning.kernels import blocks, cpu


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

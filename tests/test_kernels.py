"""The fast paths give the numbers of the plain one, on every device and for every option."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reference
import torch
from numba import njit
from reference import SUBSETS, every_option, parameters, relative_error, spread
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rnade_lightning import RNADE, RNNRNADE
from rnade_lightning.density import StateParams
from rnade_lightning.kernels import blocks, cpu, fused, lanes, recurrent


def randn(*shape: int, n: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


@pytest.fixture(params=["cpu", "blocks"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Either implementation, in the place of the one that the device would choose."""
    chosen = {"cpu": cpu, "blocks": blocks}[request.param]
    monkeypatch.setattr(fused, "_kernel", lambda x: chosen)
    return chosen


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gradients(model: Any, inputs: list[Tensor], log_p: Tensor, weight: Tensor) -> list[Tensor]:
    inputs = [*model.parameters(), *inputs]
    return list(
        torch.autograd.grad(
            (weight * log_p).sum(), inputs, allow_unused=True, materialize_grads=True
        )
    )


def compare(
    plain: RNADE, x: Tensor, params: Any, tolerance: float = 1e-10, dtype: Any = torch.float64
) -> None:
    """Log density and every gradient of the fast path against the plain one in float64."""
    fast = RNADE(
        plain.n_features, plain.n_hidden, plain.n_components, plain.component, plain.activation,
        plain.floor, plain.L is not None, backend="compiled", censor_at=plain.censor_at,
    ).to(dtype)  # fmt: skip
    fast.load_state_dict(plain.state_dict())
    weight = randn(len(x), n=9)
    found = []
    for model, kind in ((plain, torch.float64), (fast, dtype)):
        leaves = [t.to(kind).requires_grad_() for t in (x, *params)]
        given = leaves[1:]
        if len(given) == 4:  # a state and its weights
            static = model.static_params()
            biases: Any = StateParams(
                static, [g if g.numel() else None for g in given[1:]], given[0]
            )
        else:
            biases = given or None
        log_p = model.log_prob(leaves[0], biases)
        found.append([log_p, *gradients(model, leaves, log_p, weight.to(kind))])
    for one, two in zip(*found, strict=True):
        assert relative_error(two.double(), one) < tolerance


def rnade(*sizes: int, std: float = 0.5, **options: Any) -> RNADE:
    return spread(RNADE(*sizes, backend="torch", **options).double(), std)


@pytest.mark.parametrize("linear", [False, True], ids=["", "linear"])
@every_option
def test_equals_the_plain_path(kernel: Any, options: dict[str, Any], linear: bool) -> None:
    compare(rnade(37, 6, 3, linear=linear, **options), randn(70, 37), [])  # several blocks


@pytest.mark.parametrize("K", [1, 2, 4, 5])
@pytest.mark.parametrize("H", [1, 4, 9])
def test_equals_the_plain_path_at_every_size(kernel: Any, H: int, K: int) -> None:
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


# ------------------------------------------------------------------ sampler


def pair(make: Any, *sizes: int, **options: Any) -> list[Any]:
    """The same model twice, plain and fast."""
    return [
        spread(make(*sizes, backend=backend, **options).double())
        for backend in ("torch", "compiled")
    ]


def seed(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


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


@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm"])
def test_many_wide_rows_equal_few(cell: Any) -> None:
    model, frames = RNNRNADE(3, 4, 256, 2, cell=cell).double(), randn(16, 5, 3)
    few = torch.cat([model.log_prob(rows) for rows in frames.split(4)])
    torch.testing.assert_close(model.log_prob(frames), few, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("conditioned", SUBSETS, ids=lambda s: "+".join(s) or "none")
@pytest.mark.parametrize("n_past", [0, 1, 3])
@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm"])
def test_the_same_noise_gives_the_same_sequences(
    cell: Any, n_past: int, conditioned: tuple[str, ...], two_threads: None
) -> None:
    plain, fast = (
        spread(m, 0.3)
        for m in pair(RNNRNADE, 5, 4, 6, 2, cell=cell, conditioned=conditioned, n_past=n_past)
    )
    prefix = randn(2, 4, 5)
    for call in ({"n_samples": 3}, {"prefix": prefix, "n_samples": 2, "temperature": 1.2}):
        one, two = (m.sample(12, generator=seed(), **call) for m in (plain, fast))
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)
    u = fast.states(prefix)[1]
    before = u.clone()
    fast.sample(3, u=u)
    assert torch.equal(u, before)


def test_a_stream_is_a_sample_frame_by_frame() -> None:
    model = spread(RNNRNADE(3, 4, 5, 2, "gru"), 0.3)
    whole = model.sample(6, 2, prefix=randn(2, 3, 3).float(), generator=seed())
    frames = model.stream(n_samples=2, prefix=randn(2, 3, 3).float(), generator=seed())
    for t in range(6):
        assert torch.is_grad_enabled()
        assert torch.equal(next(frames), whole[:, :, t])


def test_a_fault_of_the_sampler_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = pair(RNADE, 7, 5, 3)
    with torch.no_grad():
        fast.V_sigma[6, 4, 2] += 1e-8
    one, two = (m.sample((200,), generator=seed()) for m in (plain, fast))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------ recurrence


@pytest.mark.parametrize("piece", [1, 12, 1 << 12], ids=lambda n: f"piece{n}")
@pytest.mark.parametrize("n_past", [0, 2])
@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm"])
def test_states_and_their_gradients_equal_the_plain_path(
    cell: Any, n_past: int, piece: int, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrent, "PIECE", piece)
    found = []
    for model in pair(RNNRNADE, 5, 4, 6, 2, cell=cell, n_past=n_past):
        frames = randn(3, 7, 5).requires_grad_()
        u = randn(3, model.initial_state(1).shape[1], n=2).requires_grad_()
        seen, last = model.states(frames, u)
        total = (randn(*seen.shape, n=3) * seen).sum() + (randn(*last.shape, n=4) * last).sum()
        named = {n: p for n, p in model.named_parameters() if not n.startswith("rnade")}
        inputs = [*named.values(), frames, u]
        grads = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)
        found.append([seen, last, *grads])
    for one, two in zip(*found, strict=True):
        assert one.shape == two.shape
        assert relative_error(two, one) < 1e-10


def test_no_frames_leave_the_state_as_it_is() -> None:
    model, u = RNNRNADE(3, 4, 5, 2, "lstm"), randn(2, 10).float()
    seen, last = model.states(torch.empty(2, 0, 3), u)
    assert seen.shape == (2, 0, 5)
    assert torch.equal(last, u)


# ------------------------------------------------------------------ what they cost


class Count(TorchDispatchMode):
    """Counts operations and the numbers in the largest result."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.largest = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        moved = func.namespace == "aten" and not func.is_view
        self.calls += moved
        if moved and isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel())
        return out


def test_few_operations_a_block_and_nothing_as_large_as_all_units() -> None:
    H, K, R, N = 32, 3, 20, 4000
    found = []
    for n_blocks in (2, 4):
        frames = torch.empty(1, N, 16 * n_blocks, device="meta")
        model = RNNRNADE(16 * n_blocks, H, R, K).to("meta")
        seen = model.states(frames)[0].detach()
        with Count() as count, reference.MetaOnly():
            params = model.frame_params(seen)
            model.density.log_prob(frames, params).sum().backward()
        assert count.largest <= 17 * N * max(H, 3 * K)
        found.append(count.calls)
    assert (found[1] - found[0]) / 2 < 110  # forward and backward of 16 features


def test_backward_keeps_no_activation_of_a_sequence() -> None:
    D, H, K, R, N = 40, 30, 5, 20, 50
    model = RNNRNADE(D, H, R, K)
    frames = torch.zeros(1, N, D)
    seen = model.states(frames)[0].detach()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        model.density.log_prob(frames, model.frame_params(seen))
    weights = sum(p.numel() for p in model.parameters())
    assert sum(kept) < 2 * N * (D + R) + 3 * weights + N * (H + R + 3 * K)


# ------------------------------------------------------------------ lanes


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-7), (np.float64, 4e-16)])
def test_exp_and_log(dtype: Any, tolerance: float) -> None:
    @njit
    def both(x: Any, y: Any) -> Any:
        for i in range(len(x)):
            x[i], y[i] = lanes.exp(x[i]), lanes.log(y[i])

    x = np.linspace(-80, 80, 100_001).astype(dtype)
    y = np.exp(np.linspace(-80, 80, 100_001)).astype(dtype)
    expected = np.exp(x.astype(np.longdouble)), np.log(y.astype(np.longdouble))
    found = x.copy(), y.copy()
    both(*found)
    assert np.abs(found[0] / expected[0] - 1).max() < tolerance
    assert (np.abs(found[1] - expected[1]) / np.maximum(np.abs(expected[1]), 1)).max() < tolerance
    edges = np.array([np.nan, np.inf, -np.inf, 200, -1000], dtype)
    both(edges, np.ones(5, dtype))
    assert np.isnan(edges[0])
    assert (edges[[1, 3]] > 1e37).all()
    assert (edges[[2, 4]] < 1e-37).all()


def test_compiled_code_is_kept_for_these_sources_only() -> None:
    assert cpu._gradients._cache._cache_file._source_stamp == lanes._STAMP

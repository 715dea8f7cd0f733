"""Whatever is given to a public entry fits, or is refused in the same words on every backend."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import fuzz_entries
import pytest
import torch
from kernel_pairs import pair, randn
from reference import every_option, supplement

from rnade_lightning import RNADE, RNNRNADE, arguments
from rnade_lightning.cells import cell_names
from rnade_lightning.components import component_names
from rnade_lightning.densities import Gaussian, GaussianMixture, LowRankGaussian, RNNDensity
from rnade_lightning.ensemble import Ensemble

every_cell = pytest.mark.parametrize("cell", cell_names())


def refusal(call: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    return f"{type(error.value).__name__}: {error.value}"


MISTAKES: list[tuple[Any, str]] = [
    (lambda m: m.log_prob(randn(4, 10, 3), u=randn(2, 5)), r"the batches do not broadcast: frames"),
    (lambda m: m.log_prob(randn(4, 10, 3), u=randn(4, 8)), r"u has shape \(4, 8\), expected \(B,"),
    (lambda m: m.log_prob(randn(4, 10, 3), u=randn(5)), r"u has shape \(5,\), expected \(B, "),
    (lambda m: m.step(randn(5, 3), m.initial_state(4)), r"broadcast: x \(5,\), u \(4,\)"),
    (lambda m: m.sample(2, u=randn(1, 3)), r"u has shape \(1, 3\)"),
    (lambda m: m.sample(2, prefix=randn(3, 3)), r"frames has shape \(3, 3\), expected \(B, T, 3\)"),
    (lambda m: m.sample(2, prefix=randn(3)), r"prefix has shape \(3,\), expected \(B, T, \.\.\)"),
    (lambda m: m.sample(2, context=randn(2)), r"context has shape \(2,\), expected \(B, T, "),
    (lambda m: m.sample(2, temperature="a"), "TypeError: temperature must be a number, got 'a'"),
    (lambda m: m.sample(2, temperature=None), "TypeError: temperature must be a number, got None"),
    (lambda m: m.sample(2, prefix=[[[0.0] * 3]]), "prefix is of type list, not a tensor; use"),
    (lambda m: m.sample(2, context=[[[0.0]]]), "context is of type list, not a tensor; use torch"),
    (lambda m: m.sample(2.0), "TypeError: n_frames must be a whole number, got 2.0"),
    (lambda m: m.sample(-1), "n_frames must be at least 0, got -1"),
    (lambda m: m.sample(2, temperature=math.inf), "temperature inf is out of the range"),
    (lambda m: m.sample(2, generator=3), "generator is of type int, not a torch.Generator"),
    (lambda m: m.log_prob(randn(2, 5, 3) + 0j), r"of a floating dtype .*; take frames.real"),
    (lambda m: m.log_prob(randn(2, 5, 3).int()), r"got torch.int32; use frames.to\(torch.float64"),
    (lambda m: m.log_prob(randn(2, 5, 3).numpy()), r"frames is of type ndarray, not a tensor; use"),
    (lambda m: m.log_prob(randn(2, 5, 3).to_sparse()), r"not strided; use frames.to_dense\(\)"),
    (lambda m: m.log_prob(randn(2, 5, 3).to("meta")), "frames is on meta, the model on cpu; use"),
    (lambda m: m.log_prob_given(randn(4, 2), randn(4, 3)), r"history has shape \(4, 2\)"),
    (lambda m: m.sample_given(randn(4, 2)), r"history has shape \(4, 2\)"),
    (lambda m: next(m.stream(u=randn(1, 3))), r"u has shape \(1, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), MISTAKES)
def test_a_mistake_is_refused_in_the_same_words_by_every_model(call: Any, message: str) -> None:
    both = pair(supplement, 3, 4, 5, 2, cell="gru")
    said = {refusal(lambda m=model: call(m)) for model in (*both, Ensemble([both[1]]))}
    assert len(said) == 1
    assert re.search(message, said.pop())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.sample((2,), [randn(3, 1)] * 3), r"alpha has shape \(3, 1\), expected \("),
        (lambda m: m.sample((2,), [randn(3, 3)] * 3), r"alpha has shape \(3, 3\)"),
        (lambda m: m.mean([randn(2, 2)] * 3), r"alpha has shape \(2, 2\)"),
        (lambda m: m([randn(2, 2)] * 3), r"alpha has shape \(2, 2\)"),
        (lambda m: m.log_prob(randn(3), [randn(3, 2)] * 2), "2 parameters were given, expected 3"),
        (lambda m: m.log_prob(randn(3), randn(3, 3, 2)), "of type Tensor, not a sequence of alpha"),
        (lambda m: m.log_prob(randn(4, 3), [randn(5, 3, 2)] * 3), r"x \(4,\), biases \(5,\)"),
        (lambda m: m.log_prob(torch.tensor(1.0)), r"x has shape \(\), expected \(\.\.\., d\)"),
        (lambda m: m.sample((2,), given=randn(3, 1)), r"given \(3,\), draws \(2,\)"),
        (lambda m: m.sample((), given=randn(3, 1)), r"batch of given \(3,\) is larger than \(\)"),
        (lambda m: m.mean(n_samples=0), "n_samples must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_a_frame_that_does_not_fit_is_refused(call: Any, message: str) -> None:
    both = pair(RNADE, 3, 4, 2)
    said = {refusal(lambda m=model: call(m)) for model in both}
    assert len(said) == 1
    assert re.search(message, said.pop())


@pytest.mark.slow
@every_cell
def test_batches_of_one_broadcast(cell: str) -> None:
    for model in pair(RNNRNADE, 3, 4, 5, 2, cell=cell):
        frames, u = randn(4, 6, 3), model.states(randn(1, 2, 3))[1]
        whole = model.log_prob(frames, u=u.expand(4, -1))
        assert torch.equal(model.log_prob(frames, u=u), whole)
        mask = torch.arange(6)[None] < 4
        assert torch.equal(model.log_prob(frames, mask, u)[:, :4], whole[:, :4])
        several = model.states(frames)[1]
        one = model.log_prob(frames[:1], u=several)
        torch.testing.assert_close(one, model.log_prob(frames[:1].expand(4, -1, -1), u=several))
        assert model.step(frames[:1, 0], several).shape == several.shape
        assert model.sample(2, 3, prefix=frames[:1], u=several).shape == (4, 3, 2, 3)


def test_other_real_dtypes_are_read_in_that_of_the_model() -> None:
    for model in pair(RNNRNADE, 3, 4, 5, 2):
        frames, u = randn(2, 6, 3).bfloat16(), model.initial_state(2).half()
        log_p = model.log_prob(frames, u=u)
        assert torch.equal(log_p, model.log_prob(frames.double(), u=u.double()))


def test_strides_change_nothing() -> None:
    """The tensor that is changed in place is a copy of any layout."""
    for cell in cell_names():
        torch_path, compiled = pair(RNNRNADE, 3, 4, 5, 2, cell=cell)
        S = compiled.initial_state(1).shape[1]
        frames, u = randn(4, 3, 6).mT, randn(S, 4).mT
        assert not u.is_contiguous()
        for one, two in zip(compiled.states(frames, u), torch_path.states(frames, u), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
        negative = torch.complex(frames, -frames).conj().imag
        assert negative.is_neg()
        torch.testing.assert_close(compiled.log_prob(negative), torch_path.log_prob(negative))


FAR = [1e10, 1e18, 1e19, 1e25, 3e38, math.inf, -math.inf]


@pytest.mark.parametrize("value", FAR)
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("component", component_names())
def test_far_frames_have_a_log_p_that_is_a_number(
    component: str, activation: str, value: float
) -> None:
    options = {"component": component, "activation": activation, "floor": 0.01, "linear": True}
    found = []
    for model in pair(RNADE, 4, 5, 2, **options):
        x = torch.zeros(3, 4)
        x[0, 2], x[1, 1:] = value, torch.tensor([value, -value, 1.0])
        log_p = model.float().log_prob(x)
        assert not log_p.isnan().any()
        if math.isinf(value):
            assert (log_p[:2] == -math.inf).all()
        assert log_p[2].isfinite()
        found.append(log_p)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", FAR)
@every_cell
def test_far_frames_of_sequences(cell: str, value: float) -> None:
    torch_path, compiled = (model.float() for model in pair(RNNRNADE, 3, 4, 5, 2, cell=cell))
    frames = torch.zeros(2, 5, 3)
    frames[0, 2, 1], frames[0, 3] = value, torch.tensor([value, -value, value])
    found = [m.log_prob(frames) for m in (torch_path, compiled, Ensemble([compiled, compiled]))]
    for log_p in found:
        assert not log_p.isnan().any()
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", FAR)
@pytest.mark.parametrize("kind", [Gaussian, LowRankGaussian, GaussianMixture])
def test_far_frames_of_other_densities(kind: Any, value: float) -> None:
    x = torch.zeros(3, 4)
    x[0, 2], x[1, 1:] = value, torch.tensor([value, -value, 1.0])
    log_p = kind(4, floor=0.01).log_prob(x)
    assert not log_p.isnan().any()
    assert (log_p[:2] == -math.inf).all() or abs(value) <= 1e19


@every_option
def test_gradients_are_numbers_where_units_saturate(options: dict[str, Any]) -> None:
    """An infinite frame has gradient 0; a far one that of the torch path."""
    if options["activation"] == "relu":
        return
    for value in (1e10, 1e15, math.inf):
        found = []
        for model in pair(RNADE, 4, 5, 2, **options):
            x = torch.full((2, 4), value, dtype=torch.float32)
            x[1] = -x[1]
            x.requires_grad_()
            log_p = model.float().log_prob(x)
            leaves = [x, *model.parameters()]
            found.append(torch.autograd.grad(log_p.sum(), leaves, materialize_grads=True))
        for one, two in zip(*found, strict=True):
            assert not one.isnan().any()
            rounding = 1e-6 * float(one.abs().max())  # what sums of 1e10 and -1e10 leave
            torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-3 + rounding)


def test_a_component_out_of_reach_spoils_no_gradient() -> None:
    """The square of one component overflows while another is wide enough."""
    found = []
    for model in pair(RNADE, 2, 3, 2):
        model = model.float()
        with torch.no_grad():
            model.b_sigma.copy_(torch.tensor([-20.0, 45.0]))
        x = torch.full((3, 2), 1e13, requires_grad=True)
        log_p = model.log_prob(x)
        assert log_p.isfinite().all()
        leaves = [x, *model.parameters()]
        found.append([log_p, *torch.autograd.grad(log_p.sum(), leaves, materialize_grads=True)])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_far_feature_spoils_no_gradient_of_those_before_it(dtype: torch.dtype) -> None:
    """Taken off again, a large number would leave its rounding in the units."""
    found = []
    for model in pair(RNADE, 9, 6, 2, activation="relu", floor=0.1):
        model = model.to(dtype)
        x = torch.linspace(-1, 1, 27, dtype=dtype).view(3, 9)
        x[1, 7] = 1e10 if dtype == torch.float32 else 1e18
        found.append(torch.autograd.grad(model.log_prob(x).sum(), list(model.parameters())))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)


def test_an_infinite_frame_adds_nothing_to_compiled_gradients() -> None:
    model = RNADE(2, 3, 2, component="laplace").double()
    biases = [torch.ones(3, 2, 2, dtype=torch.float64) for _ in range(3)]
    biases[1][0, 1] = math.nan  # of the infinite frame
    x = torch.zeros(3, 2, dtype=torch.float64)
    x[0, 1] = math.inf
    whole = torch.autograd.grad(model.log_prob(x, biases).sum(), list(model.parameters())[:3])
    some = model.log_prob(x[1:], [b[1:] for b in biases]).sum()
    torch.testing.assert_close(whole, torch.autograd.grad(some, list(model.parameters())[:3]))


def test_a_covariance_that_cannot_be_factored_is_refused() -> None:
    density = LowRankGaussian(3, floor=0.01)
    with torch.no_grad():
        density.b_factor.fill_(1e10)
    with pytest.raises(ValueError, match="raise floor, or use float64"):
        density.log_prob(torch.zeros(2, 3))


def test_a_frame_that_is_not_a_number_spoils_only_what_follows() -> None:
    model = RNNDensity(LowRankGaussian(3), 4)
    frames = torch.zeros(2, 4, 3)
    frames[0, 1, 2] = math.nan
    log_p = model.log_prob(frames)
    assert log_p.isnan().tolist() == [[False, True, True, True], [False] * 4]


def test_nan_is_never_hidden_by_what_is_infinite() -> None:
    for model in pair(RNADE, 3, 4, 2):
        with torch.no_grad():
            model.V_mu[2, 1] = torch.nan
        assert model.log_prob(randn(2, 3)).isnan().all()
        assert model.log_prob(torch.full((2, 3), 1e300, dtype=torch.float64)).isnan().all()


@pytest.mark.parametrize("floor", [1e-39, 1e-310, 1e39, math.inf, -1.0, math.nan])
def test_a_floor_that_float32_cannot_hold_is_refused(floor: float) -> None:
    for make in (lambda: RNADE(3, 4, 2, floor=floor), lambda: Gaussian(3, floor)):
        with pytest.raises(ValueError, match="floor must be"):
            make()
    assert arguments.smallest_scale(arguments.SMALLEST_FLOOR) > 0


# ------------------------------------------------------------------ the fuzz, shortly


@pytest.mark.slow
def test_a_short_fuzz_finds_nothing() -> None:
    command = (sys.executable, str(Path(fuzz_entries.__file__)), "--n", "400", "--seed", "1")
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'same'" in done.stdout
    assert "'refused'" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["number", "refusal", "wall"])
def test_the_fuzz_finds_a_planted_fault(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnade_lightning.kernels import cpu

    if planted == "number":
        right = cpu.log_prob
        monkeypatch.setattr(cpu, "log_prob", lambda problem: right(problem) * 1.01)
    elif planted == "refusal":
        monkeypatch.setattr(cpu, "frame_log_prob", lambda *a: (_ for _ in ()).throw(ValueError("")))
    else:
        monkeypatch.setattr(arguments, "_placed", lambda *arguments: None)
    said = [fuzz_entries.outcome(seed) for seed in range(60)]
    assert any(one not in fuzz_entries.RIGHT for one in said)
